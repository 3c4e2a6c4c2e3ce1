"""The scripts for one machine, with a stand-in for the command."""

import os
import signal
import stat
import subprocess
import sys
import time

import pytest

pytestmark = pytest.mark.integration

# Notes what it was called with; on SIGTERM saves for a second, as a run does.
_COMMAND = """#!/usr/bin/env bash
for flag in "$@"; do
  [[ "$flag" != --process_id=* ]] || id="${flag#*=}"
done
trap 'sleep 1; touch "$HERE/saved_${id:-}"; exit 0' TERM
echo "$JAX_PLATFORMS $*" >>"$HERE/called_${id:-}"
[[ -z "${QUICK:-}" ]] || { trap - TERM; exec sleep 100; }
if [[ "${FAILS:-none}" == "${id:-}" ]]; then
  sleep 0.5
  exit 3
fi
for ((i = 0; i < ${TENTHS:-300}; i++)); do sleep 0.1; done
touch "$HERE/done_${id:-}"
exit "${STATUS:-0}"
"""


@pytest.fixture
def start(checkout, tmp_path):
  """Starts a script of launch/ with the stand-in as its environment's command."""
  folder = tmp_path / "venv" / "bin"
  folder.mkdir(parents=True)
  (folder / "python").symlink_to(sys.executable)
  command = folder / "vdm-jax"
  command.write_text(_COMMAND)
  command.chmod(command.stat().st_mode | stat.S_IXUSR)

  def start(script, *arguments, **settings):
    env = {**os.environ, "VENV": str(tmp_path / "venv"), "HERE": str(tmp_path),
           "LOGS": str(tmp_path / "logs"), **settings}  # fmt: skip
    return subprocess.Popen(
      ["bash", checkout / "launch" / script, *arguments],
      env=env,
      stdout=subprocess.PIPE,
      stderr=subprocess.STDOUT,
      text=True,
      # What runs in the background inherits that it is ignored, and cannot trap it.
      preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )

  return start


def wait_until(condition):
  until = time.monotonic() + 30
  while not condition():
    assert time.monotonic() < until
    time.sleep(0.05)


def test_all_processes_run_and_end(start, tmp_path):
  script = start("multiprocess_local.sh", "3", "train", "--workdir=w", TENTHS="1")
  output = script.communicate(timeout=60)[0]
  assert script.returncode == 0, output
  assert len(list(tmp_path.glob("done_*"))) == 3
  called = (tmp_path / "called_2").read_text()
  assert called.startswith("cpu train --cpu_devices=1 --distributed --coordinator=")
  assert called.endswith("--num_processes=3 --process_id=2 --workdir=w\n")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_is_passed_on_and_all_are_waited_for(start, tmp_path, number):
  script = start("multiprocess_local.sh", "2", "train", "--workdir=w")
  wait_until(lambda: len(list(tmp_path.glob("called_*"))) == 2)
  script.send_signal(number)
  output = script.communicate(timeout=60)[0]
  assert script.returncode == 0, output
  assert len(list(tmp_path.glob("saved_*"))) == 2


def test_processes_that_end_while_a_signal_is_passed_on_are_missed_by_none(
  start, tmp_path
):
  for _ in range(10):  # It depends on who is quicker.
    script = start("multiprocess_local.sh", "2", "sample", QUICK="1")
    wait_until(lambda: len(list(tmp_path.glob("called_*"))) == 2)
    time.sleep(0.05)
    script.send_signal(signal.SIGTERM)
    try:
      output = script.communicate(timeout=30)[0]
    finally:
      script.kill()
    assert script.returncode == 128 + signal.SIGTERM, output
    for file in tmp_path.glob("called_*"):
      file.unlink()


def test_a_failure_is_told_and_the_others_are_waited_for(start, tmp_path):
  script = start("multiprocess_local.sh", "2", "eval", FAILS="1", TENTHS="20")
  output = script.communicate(timeout=60)[0]
  assert script.returncode == 3
  assert "a process failed (3); see" in output
  assert (tmp_path / "done_0").exists()


def test_another_command_is_refused(start):
  script = start("multiprocess_local.sh", "2", "doctor")
  output = script.communicate(timeout=60)[0]
  assert script.returncode == 2 and output.startswith("Trains, samples or evaluates")
  assert output.rstrip().endswith("folder).")


def test_a_run_that_dies_is_started_again_so_often(start, tmp_path):
  script = start("local.sh", "c.py", "w", "--a", TENTHS="0", STATUS="7", RETRIES="1")
  output = script.communicate(timeout=60)[0]
  assert script.returncode == 7
  assert output.count("exit status 7; resuming (1 more times)") == 1
  called = (tmp_path / "called_").read_text().splitlines()
  assert [line.partition(" ")[2] for line in called] == [
    "train --config=c.py --workdir=w --a"
  ] * 2
