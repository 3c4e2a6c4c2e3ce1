"""`benchmarks/accelerator.py`: rows that fail, traces, and its command on a CPU."""

import gzip
import json
import os
import time

import jax
import jax.numpy as jnp
import pytest

from benchmarks import (
  accelerator,
  accelerator_row,
  accelerator_table,
  programs,
  sizes,
  table,
  trace,
)
from benchmarks import accelerator_process as process
from vdm_jax.preflight import flops

pytestmark = pytest.mark.integration


def event(name, ts, dur, pid=1, tid=1, **args):
  return {
    "ph": "X", "pid": pid, "tid": tid, "name": name, "ts": ts, "dur": dur, "args": args,
  }  # fmt: skip


def named(kind, name, pid=1, **more):
  return {"ph": "M", "pid": pid, "name": kind, "args": {"name": name}, **more}


def write_trace(folder, events):
  path = folder / "plugins" / "profile" / "today" / "host.trace.json.gz"
  path.parent.mkdir(parents=True)
  with gzip.open(path, "wt") as file:
    json.dump({"traceEvents": events}, file)


def test_summary_of_a_gpu_counts_its_streams_alone(tmp_path):
  write_trace(
    tmp_path,
    [
      named("process_name", "/device:GPU:0"),
      named("thread_name", "Stream #1(Compute)", tid=1),
      named("thread_name", "XLA Modules", tid=2),
      named("process_name", "/host:CPU", pid=7),
      event("fusion_1", 0, 100, hlo_op="fusion.1"),
      event("fusion_1", 200, 100, hlo_op="fusion.1"),
      event("gemm", 400, 600, hlo_op="dot.3"),
      event("jit_step", 0, 1000, tid=2),
      event("python", 0, 5000, pid=7, hlo_op="dot.3"),
    ],
  )
  found = trace.summary(tmp_path, 2, 1e-3, {"dot.3": "jit(step)/conv"})
  assert found["device_seconds"] == pytest.approx(400e-6)
  assert found["busy"] == pytest.approx(0.8)
  gemm, fusion = found["kernels"]
  assert gemm["name"] == "gemm" and gemm["share"] == pytest.approx(0.75)
  assert gemm["origin"] == "jit(step)/conv" and gemm["calls"] == 0.5
  assert fusion["seconds"] == pytest.approx(100e-6) and fusion["calls"] == 1
  assert [kind["name"] for kind in found["kinds"]] == ["gemm", "fusion"]


def test_summary_of_a_tpu_counts_what_is_in_a_loop_once(tmp_path):
  devices = [
    x
    for pid in (1, 2)
    for x in (
      named("process_name", f"/device:TPU:{pid}", pid=pid),
      named("thread_name", "XLA Ops", pid=pid, tid=1),
      event("while.2", 0, 100, pid=pid),
      event("fusion.7", 10, 60, pid=pid),
      event("fusion.8", 70, 20, pid=pid),
    )
  ]
  write_trace(tmp_path, devices)
  found = trace.summary(tmp_path, 1, 1e-4)
  assert found["device_seconds"] == pytest.approx(100e-6)  # Of one device.
  assert {k["name"]: round(k["share"], 6) for k in found["kernels"]} == {
    "fusion.7": 0.6, "fusion.8": 0.2, "while.2": 0.2,
  }  # fmt: skip


def test_summary_without_device_events_says_so(tmp_path):
  assert "no trace" in trace.summary(tmp_path, 1, 1.0)["error"]
  write_trace(tmp_path, [event("python", 0, 5)])
  assert trace.summary(tmp_path, 1, 1.0) == {"error": "no device events"}


def test_memory_halves_the_batch():
  asked = []

  def run(batch):
    asked.append(batch)
    full = {"out_of_memory": "RESOURCE_EXHAUSTED"} if batch > 2 else {}
    return {"parts": {}, "left_out": [], **full}

  found = process.with_smaller_batches(run, 8, process.Clock(60))
  assert asked == [8, 4, 2] and found["batch_per_device"] == 2
  said = list(accelerator_table.notes("vdm", "vdm_jax", found))
  assert said == [
    "vdm (vdm_jax): batch 8 a device does not fit, 4 is tried",
    "vdm (vdm_jax): batch 4 a device does not fit, 2 is tried",
  ]


def test_memory_for_not_even_one_video_is_an_error():
  def run(batch):
    return {"parts": {}, "left_out": [], "out_of_memory": "too much"}

  found = process.with_smaller_batches(run, 2, process.Clock(60))
  assert found["batch_per_device"] == 1 and "too much" in found["error"]


@pytest.mark.parametrize(
  ("text", "so"),
  [
    ("RESOURCE_EXHAUSTED: Out of memory while trying to allocate", True),
    ("OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB", True),
    ("INTERNAL: an illegal memory access", False),
  ],
)
def test_errors_of_memory_are_told(text, so):
  assert accelerator_row.out_of_memory(text) == so


def test_a_row_that_fails_is_a_line(capsys):
  config = sizes.paper("fdm", smoke=True)
  config["model"]["channels"] = 33
  spec = {
    "what": "ours", "config": config, "parts": ["forward"], "until": time.time() + 60,
    "seconds": 0.1, "one": False, "profile": None,
  }  # fmt: skip
  environment = {**os.environ, "JAX_PLATFORMS": "cpu"}
  found = process.child(spec, process.Clock(120), environment)
  assert "33" in found["error"] and "Traceback" in found["log"]
  rows = {"fdm": {"sides": {table.OURS: {**found, "batch_per_device": 2}}}}
  accelerator_table.show({"rows": rows}, {"fdm": 1e12})
  said = capsys.readouterr().out
  assert "| failed |" in said and f"fdm ({table.OURS}): {found['error']}" in said


def test_a_row_stopped_by_the_clock_says_so():
  environment = {**os.environ, "JAX_PLATFORMS": "cpu"}
  found = process.child({"what": "rates"}, process.Clock(0), environment)
  assert found["stopped"] and "error" not in found


@pytest.mark.parametrize("name", [*sizes.PAPERS, "shared"])
def test_a_training_step_is_three_forward_passes(name):
  """Of the model's operations: nothing is counted that is made again."""
  config = sizes.paper(name, smoke=True)
  found = accelerator_row._work(config, jax.devices()[:1], ["step", "forward"])
  assert found["step"] / found["forward"] == pytest.approx(3, rel=0.05)


def test_flops_of_what_nothing_uses_do_not_count():
  a = jnp.ones((4, 8))

  def gradient(a):
    return jax.vjp(lambda b: a @ b, a.T)[1](jnp.ones((4, 4)))

  assert flops.count(gradient, a) == 2 * 4 * 4 * 8


def test_batches_are_read(capsys):
  args = accelerator._arguments(["--batch", "vdm=8", "--against=torch"])
  assert args.batch == {"vdm": 8} and args.seconds == 480
  with pytest.raises(SystemExit):
    accelerator._arguments(["--batch", "vdm"])
  assert "expected ROW=VIDEOS" in capsys.readouterr().err


def smoke(folder, *arguments):
  path = folder / "found.json"
  accelerator.main(["--smoke", "--seconds=600", f"--json={path}", *arguments])
  return json.loads(path.read_text())


def test_smoke_of_one_system(tmp_path, capsys):
  found = smoke(
    tmp_path, "--rows", "ramvid", "--parts", "forward", f"--profile={tmp_path}"
  )
  side = found["rows"]["ramvid"]["sides"][table.OURS]
  forward = side["parts"]["forward"]
  assert found["rates"]["matmul_tflops"] > 0 and min(forward["seconds"]) > 0
  assert forward["compile_seconds"] > 0 and forward["memory"]["arguments"] > 0
  kernels = side["profile"]["kernels"]
  assert 0 < len(kernels) <= trace.TOP and sum(k["share"] for k in kernels) <= 1
  said = capsys.readouterr().out
  assert "TFLOP/s of products" in said and "| ramvid" in said
  assert kernels[0]["name"][:70] in said


@pytest.mark.slow
def test_smoke_of_all_systems(tmp_path):
  found = smoke(tmp_path)
  for name in sizes.PAPERS:
    side = found["rows"][name]["sides"][table.OURS]
    assert list(side["parts"]) == list(programs.PARTS), side
    assert "error" not in side and not side["left_out"]
