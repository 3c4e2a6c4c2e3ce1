"""The Slurm job, with stand-ins for srun and scontrol."""

import os
import signal
import subprocess
import time

import pytest

_SRUN = """#!/usr/bin/env bash
printf '%s\\n' "$@" >"$HERE/srun"
trap 'sleep 0.5; touch "$HERE/saved"; exit 0' TERM
touch "$HERE/up"
for ((i = 0; i < ${TENTHS:-300}; i++)); do sleep 0.1; done
exit "${STATUS:-0}"
"""
_SCONTROL = """#!/usr/bin/env bash
[[ -e "$HERE/saved" ]] && echo "$*" >"$HERE/scontrol"
"""


@pytest.fixture
def submit(checkout, tmp_path):
  """Runs the job script as Slurm does, with settings in the environment."""
  tools = tmp_path / "tools"
  tools.mkdir()
  for name, text in (("srun", _SRUN), ("scontrol", _SCONTROL)):
    (tools / name).write_text(text)
    (tools / name).chmod(0o755)

  def submit(*arguments, **settings):
    env = {**os.environ, **settings}
    env["PATH"] = f"{tools}:{env['PATH']}"
    env["SLURM_JOB_ID"], env["SLURM_SUBMIT_DIR"] = "42", str(tmp_path)
    env["HERE"] = str(tmp_path)
    for name in {"VENV", "CONTAINER", "MOUNTS"} - set(settings):
      env.pop(name, None)
    script = checkout / "launch" / "slurm.sbatch"
    return subprocess.Popen(["bash", script, *arguments], env=env)

  return submit


_TRAIN = ["train", "--config=c.py", "--workdir=/w", "--distributed", "--a=b c"]


@pytest.mark.parametrize(
  ("settings", "command"),
  [
    ({}, [".venv/bin/vdm-jax"]),
    ({"VENV": "/v"}, ["/v/bin/vdm-jax"]),
    (
      {"CONTAINER": "lab/vdm:1", "MOUNTS": "/w:/w,/d:/data"},
      ["--container-image=lab/vdm:1", "--container-workdir=/app",
       "--container-mounts=/w:/w,/d:/data", "/app/.venv/bin/vdm-jax"],
    ),
    (
      {"CONTAINER": "/i/vdm.sqsh"},
      ["--container-image=/i/vdm.sqsh", "--container-workdir=/app",
       "/app/.venv/bin/vdm-jax"],
    ),
    (
      {"CONTAINER": "/i/vdm.sif", "MOUNTS": "/w:/w"},
      ["apptainer", "exec", "--nv", "--pwd", "/app", "--bind", "/w:/w", "/i/vdm.sif",
       "/app/.venv/bin/vdm-jax"],
    ),
    (
      {"CONTAINER": "/i/vdm.sif", "APPTAINER": "singularity"},
      ["singularity", "exec", "--nv", "--pwd", "/app", "/i/vdm.sif",
       "/app/.venv/bin/vdm-jax"],
    ),
  ],
)  # fmt: skip
def test_what_every_task_runs(submit, tmp_path, settings, command):
  job = submit("c.py", "/w", "--a=b c", TENTHS="0", **settings)
  assert job.wait(60) == 0
  called = (tmp_path / "srun").read_text().splitlines()
  assert called == ["--kill-on-bad-exit=1", *command, *_TRAIN]


def test_a_job_that_fails_fails_and_is_not_queued_again(submit, tmp_path):
  assert submit("c.py", "/w", TENTHS="0", STATUS="75").wait(60) == 75
  assert not (tmp_path / "scontrol").exists()


def test_before_its_time_is_up_it_saves_and_is_queued_again(submit, tmp_path):
  job = submit("c.py", "/w")
  until = time.monotonic() + 30
  while not (tmp_path / "up").exists():
    assert time.monotonic() < until
    time.sleep(0.05)
  job.send_signal(signal.SIGTERM)
  assert job.wait(60) == 0
  # The stand-in answers only once the run has saved.
  assert (tmp_path / "scontrol").read_text() == "requeue 42\n"


def test_without_arguments_it_says_how(submit):
  assert submit().wait(60) == 2
