"""Real processes of which one dies, hangs or fails: the others' messages and times."""

import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import time

import pytest

pytestmark = pytest.mark.integration

ROOT = pathlib.Path(__file__).resolve().parents[1]

# What a command does, without the work: joins the others, then as its argument says.
_JOB = """
import sys, time
number, count, port, what = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4]
import jax
from vdm_jax import errors, watch
from vdm_jax.cli import distributed, main
def job(argv):
  jax.distributed.initialize(f"localhost:{port}", count, number)
  jax.devices()
  listen = watch._listen
  def told():
    listener = listen()
    print("PORT", listener.getsockname()[1], flush=True)
    return listener
  watch._listen = told
  if what == "closed":
    watch._listen = lambda: __import__("socket").create_server(("127.0.0.1", 0))
    address = "127.0.0.2"
  else:
    address = "localhost"
  distributed._watch = watch.Watch(3.0, lambda: "Start them again.")
  distributed._watch.start(address)
  print("UP", flush=True)
  if what == "raise":
    raise errors.UserError("no space left")
  if what == "bug":
    raise RuntimeError("a fault")
  time.sleep({"end": 0.5, "late end": 5}.get(what, 1000))
main._checked(job)(None)
"""


class Job:
  """So many processes, each with its part; all of them are up."""

  def __init__(self, folder, *parts):
    with socket.socket() as probe:
      probe.bind(("localhost", 0))
      port = probe.getsockname()[1]
    env = {**os.environ, "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"}
    self.processes, self.files = [], []
    for number, part in enumerate(parts):
      self.files.append(folder / f"{number}.log")
      with self.files[-1].open("w") as file:
        command = [sys.executable, "-c", _JOB]
        command += [str(number), str(len(parts)), str(port), part]
        self.processes.append(
          subprocess.Popen(command, env=env, stdout=file, stderr=subprocess.STDOUT)
        )
    until = time.monotonic() + 120
    while not all("UP\n" in self.said(number) for number in range(len(parts))):
      assert time.monotonic() < until, [file.read_text() for file in self.files]
      time.sleep(0.1)
    self.began = time.monotonic()

  def said(self, number):
    return self.files[number].read_text()

  def end(self, number, within=30):
    """Waits for a process; its exit status, what it said, after how many seconds."""
    status = self.processes[number].wait(timeout=within)
    return status, self.said(number), time.monotonic() - self.began

  def __enter__(self):
    return self

  def __exit__(self, *exc):
    for process in self.processes:
      process.kill()
      process.wait()


def gone(said):
  """The lines that tell of another process."""
  return re.findall(r"^vdm-jax: error: process .*$", said, re.M)


@pytest.mark.parametrize("victim", [0, 2])
def test_a_process_that_is_killed_ends_the_others_by_name(tmp_path, victim):
  with Job(tmp_path, *["wait"] * 3) as job:
    job.processes[victim].kill()
    for number in {0, 1, 2} - {victim}:
      status, said, seconds = job.end(number)
      assert status == 75, said
      (line,) = gone(said)
      assert re.fullmatch(
        rf"vdm-jax: error: process {victim} \(.+\) died: its connection is closed. "
        rf"Process {number} cannot go on without it and ends. Start them again.",
        line,
      )
      assert seconds < 10  # JAX's own heartbeat takes a hundred.


def test_a_process_that_hangs_ends_the_others_by_name(tmp_path):
  with Job(tmp_path, "wait", "wait") as job:
    job.processes[1].send_signal(signal.SIGSTOP)
    status, said, seconds = job.end(0)
    assert status == 75, said
    assert "process 1 (" in said and "has said nothing for 3 s: it hangs" in said
    assert 2 < seconds < 15
    # When it wakes up it finds itself alone.
    job.processes[1].send_signal(signal.SIGCONT)
    status, said, _ = job.end(1)
    assert status != 0 and gone(said) or "Terminating process because" in said


def test_what_one_process_fails_of_is_told_by_the_others(tmp_path):
  with Job(tmp_path, "wait", "raise") as job:
    status, said, _ = job.end(0)
    assert status == 75
    (line,) = gone(said)
    assert "process 1 (" in line and "failed: no space left. Process 0 cannot" in line
    status, said, _ = job.end(1)
    assert status == 2, said
    assert "vdm-jax: error: no space left" in said
    assert not gone(said) and "Traceback" not in said


def test_what_all_fail_of_is_told_once_by_each(tmp_path):
  with Job(tmp_path, "raise", "raise") as job:
    for number in range(2):
      status, said, seconds = job.end(number)
      assert status == 2, said
      assert said.count("no space left") == 1 and not gone(said)
      assert seconds < 10


def test_a_fault_of_one_process_keeps_its_traceback(tmp_path):
  with Job(tmp_path, "bug", "wait") as job:
    status, said, _ = job.end(1)
    assert status == 75 and "failed: a fault" in said
    status, said, _ = job.end(0)
    assert status != 0 and "RuntimeError: a fault" in said


def test_all_end_well_together(tmp_path):
  with Job(tmp_path, *["end"] * 3) as job:
    for number in range(3):
      status, said, _ = job.end(number)
      assert status == 0 and not gone(said), said


def test_a_stranger_ends_nothing(tmp_path):
  with Job(tmp_path, "late end", "late end") as job:
    port = int(re.search(r"PORT (\d+)", job.said(0))[1])
    for words in (b'{"gone": "nobody"}\n', b'{"failed": "nothing"}\n', b"[]\n"):
      with socket.create_connection(("localhost", port), 10) as stranger:
        stranger.sendall(words)
        assert not stranger.recv(1)  # It is sent away.
    for number in (0, 1):
      status, said, _ = job.end(number)
      assert status == 0 and "error" not in said


def test_a_network_that_lets_no_connection_through_is_told_and_the_job_runs(tmp_path):
  with Job(tmp_path, "closed", "closed") as job:
    assert "only JAX's heartbeat will tell" in job.said(1)
    assert "127.0.0.2" in job.said(1)
