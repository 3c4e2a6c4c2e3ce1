"""`launch/tpu_vm.sh` against a stand-in for gcloud: a slice of two workers in a folder.

What the script runs on the workers runs here, in a home of each, with a stand-in for
the command that trains.
"""

import os
import subprocess
import time

import pytest

# A slice is a file with its state, a request in the queue another one (empty: it is
# met); of several lines, every look takes one. Every call is noted. READY after so many
# looks as WAITS says; ssh and scp run here. What has the text in BROKEN fails; with
# TAKEN_BY_SCP the slice is taken away meanwhile, once.
_GCLOUD = r"""#!/usr/bin/env bash
cd "$HERE"
echo "$*" >>calls
[[ ! -e broken || "$*" != *"$(cat broken)"* ]] || exit 255
state() { # Whoever looks meanwhile finds one state or the other.
  echo "$1" >state.new && mv state.new slice
}
look() {
  head -n 1 "$1"
  (($(wc -l <"$1") < 2)) || sed -i 1d "$1"
}
read -r _ _ _ group verb <<<"gcloud $1 $2 $3 $4"
[[ "$*" == *" --zone=z"* ]] || exit 9
case "$group $verb" in
  "tpu-vm describe")
    [[ -e slice ]] || exit 1
    look slice
    ;;
  "queued-resources describe")
    [[ -e request ]] || exit 1
    [[ "$*" == *--format=* ]] || exit 0
    left=$(cat waits 2>/dev/null || echo 0)
    if [[ -s request ]]; then
      look request
    elif [[ -e refused ]]; then
      echo FAILED
    elif ((left > 0)); then
      echo $((left - 1)) >waits
      echo WAITING_FOR_RESOURCES
    else
      [[ -e slice ]] || state READY
      echo ACTIVE
    fi
    ;;
  "queued-resources create") touch request ;;
  "queued-resources delete")
    [[ -e request ]] || exit 1
    rm -f request slice
    ;;
  "tpu-vm delete")
    [[ -e slice ]] || exit 1
    rm -f slice
    ;;
  "tpu-vm scp")
    if [[ -e taken_by_scp ]]; then
      rm taken_by_scp
      state PREEMPTED
      exit 255
    fi
    mkdir -p worker_0 worker_1
    cp "$5" worker_0/vdm_jax.tgz
    cp "$5" worker_1/vdm_jax.tgz
    ;;
  "tpu-vm ssh")
    [[ -e slice && "$(cat slice)" == READY ]] || exit 255
    for flag in "$@"; do
      case "$flag" in
        --worker=all) workers="0 1" ;;
        --worker=*) workers="${flag#*=}" ;;
        --command=*) command="${flag#*=}" ;;
      esac
    done
    for worker in $workers; do
      HOME="$HERE/worker_$worker" bash -c "$command" || exit
    done
    ;;
  *) exit 9 ;;
esac
"""
# `make venv` on a worker: leaves a command that trains until it is told to stop.
_MAKE = r"""#!/usr/bin/env bash
echo "make $*" >>"$HERE/calls"
mkdir -p .venv/bin
cp "$HERE/vdm-jax" .venv/bin/vdm-jax
"""
_TRAIN = r"""#!/usr/bin/env bash
echo "$HOME: $*" >>"$HERE/trained"
[[ "$1" == train ]] || exit 0
ends=0
[[ "$*" != *" --exit_on_signal=75"* ]] || ends=75
trap 'touch "$HOME/saved"; exit $ends' TERM
touch "$HOME/ready"
once() { # Whether worker 0 is to do this; both workers can be stopped by then.
  [[ -e "$HERE/$1" && "$HOME" == *_0 ]] || return 1
  until [[ -e "$HERE/worker_1/ready" ]]; do /bin/sleep 0.05; done
  rm "$HERE/$1"
}
if once asked; then # All workers are asked to go.
  kill -TERM $(cat "$HERE"/worker_*/vdm_jax/train.pid)
fi
if once stops; then # Somebody stops it.
  bash "$SCRIPT" stop &
fi
if [[ -e "$HERE/taken" ]]; then # The slice is taken away while it trains, once.
  mv "$HERE/taken" "$HERE/was_taken"
  echo PREEMPTED >"$HERE/taken_away" && mv "$HERE/taken_away" "$HERE/slice"
  exit 137
fi
if [[ -e "$HERE/loses" && ! -e "$HOME/lost" ]]; then # A peer is lost, once.
  touch "$HOME/lost"
  exit 75
fi
if [[ -e "$HERE/boots" && "$HOME" == *_0 ]]; then # Worker 0 is booted anew, once.
  mv "$HERE/boots" train.boot
  kill -KILL "$PPID"
  exit
fi
for ((i = 0; i < ${TENTHS:-300}; i++)); do /bin/sleep 0.1; done
exit "${STATUS:-0}"
"""


@pytest.fixture
def here(tmp_path):
  tools = tmp_path / "tools"
  tools.mkdir()
  scripts = {"gcloud": _GCLOUD, "make": _MAKE, "sleep": "#!/bin/sh\n/bin/sleep 0.05\n"}
  for name, text in scripts.items():
    (tools / name).write_text(text)
    (tools / name).chmod(0o755)
  (tmp_path / "vdm-jax").write_text(_TRAIN)
  (tmp_path / "vdm-jax").chmod(0o755)
  return tmp_path


@pytest.fixture
def tpu_vm(checkout, here):
  def tpu_vm(*arguments, status=0, **settings):
    env = {**os.environ, "PATH": f"{here / 'tools'}:{os.environ['PATH']}",
           "HERE": str(here), "TPU_NAME": "t", "ZONE": "z",
           "SCRIPT": str(checkout / "launch" / "tpu_vm.sh"), **settings}  # fmt: skip
    done = subprocess.run(
      ["bash", checkout / "launch" / "tpu_vm.sh", *arguments],
      env=env,
      capture_output=True,
      text=True,
      timeout=120,
    )
    assert done.returncode == status, done.stderr
    return done.stderr

  return tpu_vm


def calls(here):
  return (here / "calls").read_text().splitlines()


def training(here, worker):
  """How often the stand-in was told to train on a worker."""
  file = here / "trained"
  return file.read_text().count(f"_{worker}: train --") if file.exists() else 0


def wait_until(condition):
  until = time.monotonic() + 30
  while not condition():
    assert time.monotonic() < until
    time.sleep(0.05)


def test_up_asks_for_a_slice_and_waits_for_it(tpu_vm, here):
  (here / "waits").write_text("2")
  said = tpu_vm("up", SPOT="1", ACCELERATOR="v5litepod-16", PROJECT="p")
  assert said.count("t is WAITING_FOR_RESOURCES") == 2
  (created,) = [line for line in calls(here) if "create" in line]
  assert created == (
    "compute tpus queued-resources create t --node-id=t "
    "--accelerator-type=v5litepod-16 --runtime-version=v2-alpha-tpuv5-lite --spot "
    "--async --zone=z --project=p"
  )
  count = len(calls(here))
  tpu_vm("up")  # It is there.
  assert len(calls(here)) == count + 1


def test_a_request_in_the_queue_is_waited_for_not_made_again(tpu_vm, here):
  (here / "request").touch()
  tpu_vm("up")
  assert not [line for line in calls(here) if "create" in line]


def test_a_slice_that_was_taken_away_is_made_anew(tpu_vm, here):
  (here / "request").touch()
  (here / "slice").write_text("PREEMPTED\n")
  tpu_vm("up")
  verbs = [line.split()[3] for line in calls(here)]
  assert verbs.index("delete") < verbs.index("create")
  assert (here / "slice").read_text() == "READY\n"


@pytest.mark.parametrize("states", ["SUSPENDED", "FAILED", "SUSPENDING\nSUSPENDED"])
def test_a_request_that_is_over_is_replaced(tpu_vm, here, states):
  (here / "request").write_text(states + "\n")
  said = tpu_vm("up")
  assert said.count("t is SUSPENDING") == states.count("SUSPENDING")
  verbs = [line.split()[3] for line in calls(here)]
  assert (verbs.count("delete"), verbs.count("create")) == (1, 1)
  assert verbs.index("delete") < verbs.index("create")
  assert (here / "slice").read_text() == "READY\n"


@pytest.mark.parametrize("state", ["CREATING", "STARTING", "RESTARTING", "REPAIRING"])
@pytest.mark.parametrize("request_too", [True, False])
def test_a_slice_that_is_being_made_is_waited_for(tpu_vm, here, state, request_too):
  if request_too:
    (here / "request").touch()
  (here / "slice").write_text(f"{state}\n{state}\nREADY\n")
  said = tpu_vm("up")
  assert said.count(f"t is {state}; asking again") == 2
  assert {line.split()[3] for line in calls(here)} == {"describe"}


def test_a_request_that_fails_is_told(tpu_vm, here):
  (here / "refused").touch()
  said = tpu_vm("up", status=1, ACCELERATOR="v4-8")
  assert "the request for v4-8 in z is FAILED" in said
  assert len([line for line in calls(here) if " create " in line]) == 1


def test_a_request_that_somebody_deletes_is_not_made_again(tpu_vm, here):
  (here / "slice").write_text("CREATING\n")
  (here / "request").write_text("PROVISIONING\n")
  sleep = here / "tools" / "sleep"
  sleep.write_text('#!/bin/sh\nrm -f "$HERE/slice" "$HERE/request"\n')
  assert "the request for v4-256 in z is gone" in tpu_vm("up", status=1)
  assert not [line for line in calls(here) if " create " in line]


def test_what_training_needs_reaches_all_workers(tpu_vm, here):
  tpu_vm("up")
  tpu_vm("setup", PYTHON="python3.12")
  for worker in (0, 1):
    home = here / f"worker_{worker}" / "vdm_jax"
    assert (home / "configs" / "vdm_ucf101.py").exists()
    assert not (home / ".git").exists()
  made = [line for line in calls(here) if line.startswith("make")]
  assert made == ["make --silent venv PYTHON=python3.12 EXTRAS=tpu,gcs,video"] * 2
  tpu_vm("data", "ucf101", "a b", "--fold=0")
  assert len((here / "trained").read_text().splitlines()) == 2
  assert ": data build ucf101 a b --fold=0" in (here / "trained").read_text()


def test_train_runs_once_on_every_worker_and_stop_saves(tpu_vm, here):
  tpu_vm("up")
  tpu_vm("setup")
  tpu_vm("train", "c.py", "gs://b/r", "--config.x=a b")
  for worker in (0, 1):
    wait_until((here / f"worker_{worker}" / "ready").exists)
  assert "train --config=c.py --workdir=gs://b/r --distributed --config.x=a b" in (
    (here / "trained").read_text()
  )
  tpu_vm("train", "c.py", "gs://b/r")  # The lock: not a second time.
  time.sleep(0.5)
  assert [training(here, worker) for worker in (0, 1)] == [1, 1]
  tpu_vm("stop")
  for worker in (0, 1):
    wait_until((here / f"worker_{worker}" / "saved").exists)
    status = here / f"worker_{worker}" / "vdm_jax" / "train.status"
    wait_until(status.exists)
    assert status.read_text() == "0\n"
  tpu_vm("down")
  assert not (here / "slice").exists()


def test_down_of_a_slice_without_a_request(tpu_vm, here):
  (here / "slice").write_text("READY\n")
  tpu_vm("down")
  assert not (here / "slice").exists()


@pytest.mark.parametrize("status", [0, 3])
def test_all_ends_as_training_ends(tpu_vm, here, status):
  said = tpu_vm(
    "all", "c.py", "gs://b/r", status=status, STATUS=str(status), TENTHS="1"
  )
  assert f"training ended with exit status {status}" in said


def test_all_starts_over_when_the_slice_is_taken_away(tpu_vm, here):
  (here / "taken").touch()
  said = tpu_vm("all", "c.py", "gs://b/r", TENTHS="1")
  assert "t does not answer (PREEMPTED); starting over" in said
  assert "training ended with exit status 0" in said
  assert len([line for line in calls(here) if " create " in line]) == 2


def test_all_starts_over_when_a_worker_is_lost(tpu_vm, here):
  (here / "loses").touch()
  said = tpu_vm("all", "c.py", "gs://b/r", TENTHS="1")
  assert said.count("a worker was lost or asked to go; starting over") == 1
  assert "training ended with exit status 0" in said
  assert training(here, 0) == 2
  assert len([line for line in calls(here) if " create " in line]) == 1


def test_all_starts_over_when_worker_0_was_booted_anew(tpu_vm, here):
  (here / "boots").write_text("another\n")
  said = tpu_vm("all", "c.py", "gs://b/r", TENTHS="1")
  assert said.count("a worker was lost or asked to go; starting over") == 1
  assert "training ended with exit status 0" in said


def test_all_starts_over_when_training_was_asked_to_go(tpu_vm, here):
  (here / "asked").touch()
  said = tpu_vm("all", "c.py", "gs://b/r", TENTHS="20")
  assert said.count("a worker was lost or asked to go; starting over") == 1
  assert "training ended with exit status 0" in said


def test_all_ends_when_somebody_stops_it(tpu_vm, here):
  (here / "stops").touch()
  said = tpu_vm("all", "c.py", "gs://b/r")
  assert "starting over" not in said
  assert "training ended with exit status 0" in said
  assert (here / "worker_0" / "saved").exists()


def test_all_gives_up_if_a_worker_is_lost_again_and_again(tpu_vm, here):
  said = tpu_vm("all", "c.py", "gs://b/r", status=75, STATUS="75", TENTHS="0")
  assert said.count("a worker was lost or asked to go; starting over") == 4
  assert "training ended with exit status 75" in said


@pytest.mark.parametrize("what", ["tpu-vm scp", "make --silent venv", "train.lock"])
def test_all_ends_if_training_cannot_be_started(tpu_vm, here, what):
  (here / "broken").write_text(what)
  said = tpu_vm("all", "c.py", "gs://b/r", status=1)
  assert "training could not be started; t is still there" in said
  assert [training(here, worker) for worker in (0, 1)] == [0, 0]
  assert bool([line for line in calls(here) if " ssh " in line]) == ("scp" not in what)


def test_all_starts_over_when_the_slice_is_taken_away_in_setup(tpu_vm, here):
  (here / "taken_by_scp").touch()
  said = tpu_vm("all", "c.py", "gs://b/r", TENTHS="1")
  assert "t does not answer (PREEMPTED); starting over" in said
  assert "training ended with exit status 0" in said


def test_all_asks_for_nothing_if_its_arguments_are_missing(tpu_vm, here):
  assert "Trains on a Cloud TPU slice" in tpu_vm("all", "c.py", status=2)
  assert not (here / "calls").exists()


def test_what_is_missing_is_named(tpu_vm):
  assert "Trains on a Cloud TPU slice" in tpu_vm("fly", status=2)
  assert "set ZONE" in tpu_vm("up", status=1, ZONE="")
  assert "Trains on a Cloud TPU slice" in tpu_vm("train", "c.py", status=2)
