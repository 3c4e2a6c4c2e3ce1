"""Traces of some steps of a run."""

import gzip
import json
import os
import signal

import pytest

from tests.training.test_steady import run
from vdm_jax.errors import UserError
from vdm_jax.training import tracing


def traced_steps(workdir):
  """Numbers of the steps that the newest trace knows, as Perfetto reads it."""
  (file,) = (workdir / "profile" / "plugins" / "profile").glob("*/*.trace.json.gz")
  assert list(file.parent.glob("*.xplane.pb"))  # TensorBoard reads this.
  events = json.loads(gzip.decompress(file.read_bytes()))["traceEvents"]
  found = [
    event["args"]["step_num"] for event in events if event.get("name") == "train"
  ]
  return [int(number) for number in found]


def test_the_steps_of_a_range_are_traced(tmp_path, capsys):
  lines = run(tmp_path / "traced", lambda step: step, {}, profile=tracing.Range(3, 5))
  assert traced_steps(tmp_path / "traced") == [3, 4, 5]
  assert "steps 3:5: traced into" in capsys.readouterr().err
  plain = run(tmp_path / "plain", lambda step: step, {})
  assert [line["loss"] for line in lines] == [line["loss"] for line in plain]
  assert not (tmp_path / "plain" / "profile").exists()


def test_a_run_that_is_stopped_writes_what_it_traced(tmp_path):
  def target(step):
    if step == 5:
      os.kill(os.getpid(), signal.SIGTERM)
    return 1.0

  lines = run(tmp_path, target, {}, profile=tracing.Range(4, 12))
  assert lines[-1]["step"] == 5
  assert traced_steps(tmp_path) == [4, 5]


def test_a_range_beyond_the_run_is_refused(tmp_path):
  with pytest.raises(UserError, match="`profile=3:13`: expected steps .* 1 to 12"):
    run(tmp_path, lambda step: 1.0, {}, profile=tracing.Range(3, 13))
  assert not (tmp_path / "metrics.jsonl").exists()


def test_a_run_that_resumes_traces_what_is_left(tmp_path, capsys):
  """A job that is started again has the same command."""
  run(tmp_path, lambda step: 1.0, {"num_steps": 4})
  run(tmp_path, lambda step: 1.0, {"num_steps": 8}, profile=tracing.Range(3, 6))
  told = capsys.readouterr().err
  assert "steps 3:6: the run is at step 4 already, 5:6 are traced" in told
  assert traced_steps(tmp_path) == [5, 6]

  lines = run(tmp_path, lambda step: 1.0, {}, profile=tracing.Range(3, 6))
  told = capsys.readouterr().err
  assert "steps 3:6: the run is at step 8 already, nothing is traced" in told
  assert lines[-1]["step"] == 12 and traced_steps(tmp_path) == [5, 6]


@pytest.mark.parametrize("text", ["", "5", "5:", "a:b", "0:3", "7:5", "-1:4", "1:2:3"])
def test_a_malformed_range_is_one_error(text):
  with pytest.raises(UserError, match=f"`profile={text}`: expected FIRST:LAST"):
    tracing.parse(text)


def test_ranges_are_read():
  assert tracing.parse("10:14") == (10, 14)
  assert str(tracing.parse("3:3")) == "3:3"
