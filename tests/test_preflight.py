"""Preflight: counts against hand counts, and what the command prints."""

import functools
import json
import re
import subprocess
import sys

import jax
import jax.numpy as jnp
import pytest
from jax.experimental import pallas as pl

from benchmarks.preflight import page
from tests import helpers
from vdm_jax import preflight, sharding
from vdm_jax.errors import UserError
from vdm_jax.preflight import (
  estimate,
  flops,
  hlo,
  knobs,
  lowerable,
  measure,
  topology,
  worker,
)


def shape(*sizes):
  return jax.ShapeDtypeStruct(sizes, jnp.float32)


class TestFlops:
  def test_a_matrix_product_is_two_per_multiply_add(self):
    assert flops.count(jnp.dot, shape(3, 5), shape(5, 7)) == 2 * 3 * 5 * 7

  def test_a_convolution_and_its_gradients(self):
    def conv(x, kernel, stride):
      return jax.lax.conv_general_dilated(
        x, kernel, (stride, stride), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
      )

    for stride in (1, 2):
      x, kernel = shape(2, 8, 8, 4), shape(3, 3, 4, 6)
      once = 2 * (2 * (8 // stride) ** 2 * 6) * (9 * 4)
      assert flops.count(lambda a, b, s=stride: conv(a, b, s), x, kernel) == once
      both = jax.grad(lambda a, b, s=stride: conv(a, b, s).sum(), (0, 1))
      # Two products of the same size; the forward one is not needed for them.
      assert flops.count(both, x, kernel) in (2 * once, 3 * once)

  def test_a_loop_counts_every_time_where_xla_counts_once(self):
    def loop(x):
      return jax.lax.scan(lambda c, _: (c @ c, None), x, length=10)[0]

    assert flops.count(jax.jit(loop), shape(16, 16)) == 10 * 2 * 16**3

  def test_a_part_of_each_device_counts_for_all(self):
    mesh, rows = sharding.make_mesh(devices=jax.devices()[:4]), jax.P(sharding.BATCH)
    dot = jax.shard_map(jnp.dot, mesh=mesh, in_specs=(rows, jax.P()), out_specs=rows)
    assert flops.count(dot, shape(8, 5), shape(5, 7)) == 2 * 8 * 5 * 7

  def test_a_kernel_counts_in_every_step_of_its_grid(self):
    def dot(a, b, out):
      out[...] = jnp.dot(a[...], b[...])

    call = pl.pallas_call(
      dot,
      grid=(3,),
      in_specs=[pl.BlockSpec((8, 16), lambda i: (i, 0)), pl.BlockSpec()],
      out_specs=pl.BlockSpec((8, 4), lambda i: (i, 0)),
      out_shape=shape(24, 4),
    )
    assert flops.count(call, shape(24, 16), shape(16, 4)) == 2 * 24 * 16 * 4

  def test_recomputation_counts(self):
    def loss(x, w):
      return jnp.sum(jnp.sin(jax.checkpoint(lambda a: jnp.sin(a @ w) @ w)(x)))

    args = shape(8, 8), shape(8, 8)
    # Two forward, one of them again (the last product's result is not needed), and
    # two backward.
    assert flops.count(jax.grad(loss), *args) >= 5 * 2 * 8**3

  def test_micro_batches_change_no_work(self):
    work = []
    for accumulate in (1, 4):
      config = helpers.tiny_config(train={"accumulate": accumulate, "batch_size": 32})
      built = lowerable.build(config, "train", jax.devices())
      work.append(flops.count(built.call, *built.args))
    # Weights' gradients of the micro-batches, and the products of the embedding.
    assert work[1] == pytest.approx(work[0], rel=1e-3)


class TestHlo:
  def test_collectives_and_loops_of_a_compiled_module(self):
    mesh = jax.sharding.Mesh(jax.devices(), "d")
    rows = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("d"))

    def step(x):
      def body(total, _):
        return total + jnp.sum(jnp.sin(x + total), axis=0), None

      return jax.lax.scan(body, jnp.zeros(1024), length=7)[0]

    text = jax.jit(step, in_shardings=rows).lower(shape(64, 1024)).compile().as_text()
    module = hlo.Module(text)
    found = module.collectives()["all-reduce"]
    assert found == {"count": 7, "bytes": 7 * 1024 * 4}
    # Every pass reads the rows of a device at least.
    assert 7 * 8 * 1024 * 4 < module.traffic() < 70 * 8 * 1024 * 4

  def test_the_tpu_compilers_way_of_writing(self):
    module = hlo.Module(_TPU_TEXT)
    assert module.collectives() == {
      "all-gather": {"count": 1, "bytes": 8 * 128 * 2},
      "all-reduce": {"count": 5, "bytes": 5 * (4 * 4 + 8 * 16 * 2)},
    }
    # Read and written: twice the reduced arrays, and a quarter of the gathered one.
    reduced, gathered = 4 * 4 + 8 * 16 * 2, 8 * 128 * 2
    assert module.traffic() == 5 * 2 * reduced + gathered * 5 // 4

  @pytest.mark.parametrize("fused", [False, True])
  @pytest.mark.parametrize(
    ("start", "bound", "step", "trips"),
    [(0, 16, 2, 8), (0, 16, 1, 16), (0, 7, 2, 4), (3, 9, 3, 2)],
  )
  def test_a_loop_that_was_unrolled_counts_in_steps(
    self, start, bound, step, trips, fused
  ):
    """As the compiler's windowed einsums do: the trip count is bound over step."""
    text = _LOOP_TEXT.format(
      start=start, bound=bound, step=step, next="%f" if fused else "%n"
    )
    found = hlo.Module(text).collectives()["collective-permute"]
    assert found == {"count": trips, "bytes": trips * 4 * 4}

  @pytest.mark.parametrize("kind", ["all-reduce", "all-reduce-start"])
  def test_a_sum_over_devices_is_read_and_written(self, kind):
    """An asynchronous one, too: unlike a gather's, its result is the sum alone."""
    text = f"""ENTRY %main (x: f32[256]) -> f32[256] {{
  %x = f32[256]{{0}} parameter(0)
  %s = f32[256]{{0}} {kind}(%x), channel_id=1, to_apply=%add
  ROOT %d = f32[256]{{0}} all-reduce-done(%s)
}}"""
    module = hlo.Module(text)
    assert module.traffic() == 2 * 256 * 4
    assert module.collectives() == {"all-reduce": {"count": 1, "bytes": 256 * 4}}

  def test_one_branch_of_a_condition_runs(self):
    text = """%much (a: f32[256]) -> f32[256] {
  %a = f32[256]{0} parameter(0)
  ROOT %b = f32[256]{0} negate(%a)
}

%little (c: f32[256]) -> f32[256] {
  ROOT %c = f32[256]{0} parameter(0)
}

ENTRY %main (i: s32[], x: f32[256]) -> f32[256] {
  %i = s32[] parameter(0)
  %x = f32[256]{0} parameter(1)
  ROOT %o = f32[256]{0} conditional(%i, %x, %x, %x), branch_computations={%little, %much, %much}
}"""  # noqa: E501
    assert hlo.Module(text).traffic() == 2 * 256 * 4

  def test_a_gather_that_runs_beside_several_fusions_counts_once(self):
    line = (
      "  %g{0} = bf16[8,128]{{1,0}} all-gather(%x), channel_id={1}, dimensions={{0}}"
    )
    lines = [line.format(*pair) for pair in ((0, 5), (1, 5), (2, 6))]
    head = "ENTRY %main (x: bf16[2,128]) -> bf16[8,128] {"
    text = "\n".join([head, "  %x = bf16[2,128]{1,0} parameter(0)", *lines, "}"])
    found = hlo.Module(text).collectives()
    assert found == {"all-gather": {"count": 2, "bytes": 2 * 8 * 128 * 2}}

  def test_a_compiled_loop_with_a_step_of_its_own(self):
    """What JAX itself compiles for a while loop that counts by three."""
    mesh = jax.sharding.Mesh(jax.devices(), "d")
    rows = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("d"))

    def run(x):
      def body(carry):
        i, total = carry
        return i + 3, total + jnp.sum(jnp.sin(x + total), axis=0)

      return jax.lax.while_loop(lambda c: c[0] < 20, body, (2, jnp.zeros(64)))[1]

    text = jax.jit(run, in_shardings=rows).lower(shape(64, 64)).compile().as_text()
    bare = re.sub(r'"known_trip_count":\{[^}]*\},?', "", text)
    for found in (hlo.Module(text), hlo.Module(bare)):
      assert found.collectives()["all-reduce"]["count"] == 6  # 2, 5, ..., 17.


_LOOP_TEXT = """HloModule jit_step, is_scheduled=true

%plus (q: s32[]) -> s32[] {{
  %q = s32[] parameter(0)
  %k = s32[] constant({step})
  ROOT %s = s32[] add(%q, %k)
}}

%body (p: (f32[4], s32[])) -> (f32[4], s32[]) {{
  %p = (f32[4]{{0}}, s32[]) parameter(0)
  %a = f32[4]{{0}} get-tuple-element(%p), index=0
  %i.1 = s32[] get-tuple-element(%p), index=1
  %r = f32[4]{{0}} collective-permute(%a), channel_id=1, source_target_pairs={{{{0,1}}}}
  %step = s32[] constant({step})
  %n = s32[] add(%i.1, %step)
  %f = s32[] fusion(%i.1), kind=kLoop, calls=%plus
  ROOT %t = (f32[4]{{0}}, s32[]) tuple(%r, {next})
}}

%condition (p.1: (f32[4], s32[])) -> pred[] {{
  %c = s32[] constant({bound})
  %p.1 = (f32[4]{{0}}, s32[]) parameter(0)
  %i = s32[] get-tuple-element(%p.1), index=1
  ROOT %lt = pred[] compare(%i, %c), direction=LT
}}

ENTRY %main (x: f32[4]) -> f32[4] {{
  %x = f32[4]{{0}} parameter(0)
  %zero = s32[] constant({start})
  %init = (f32[4]{{0}}, s32[]) tuple(%x, %zero)
  %w = (f32[4]{{0}}, s32[]) while(%init), condition=%condition, body=%body
  ROOT %g = f32[4]{{0}} get-tuple-element(%w), index=0
}}
"""

_TPU_TEXT = """HloModule jit_step, is_scheduled=true

%body (p: (s32[], f32[4])) -> (s32[], f32[4]) {
  %p = (s32[]{:T(128)}, f32[4]{0:T(128)}) parameter(0)
  %a = f32[4]{0:T(128)} get-tuple-element(%p), index=1
  %b = bf16[8,16]{1,0:T(8,128)(2,1)} constant({...})
  %r = (f32[4]{0:T(128)}, /*index=1*/bf16[8,16]{1,0:T(8,128)(2,1)}) all-reduce(%a, %b), to_apply=%add
  ROOT %t = (s32[]{:T(128)}, f32[4]{0:T(128)}) tuple(%p, %r)
}

%condition (p.1: (s32[], f32[4])) -> pred[] {
  %c = s32[]{:T(128)} constant(5)
  %p.1 = (s32[]{:T(128)}, f32[4]{0:T(128)}) parameter(0)
  %i = s32[]{:T(128)} get-tuple-element(%p.1), index=0
  ROOT %lt = pred[]{:T(512)} compare(%i, %c), direction=LT
}

ENTRY %main (x: bf16[2,128]) -> bf16[8,128] {
  %x = bf16[2,128]{1,0:T(2,128)(2,1)} parameter(0)
  %w = (s32[]{:T(128)}, f32[4]{0:T(128)}) while(%x), condition=%condition, body=%body
  ROOT %g = bf16[8,128]{1,0:T(8,128)(2,1)} all-gather(%x), dimensions={0}
}
"""  # noqa: E501


class TestTopology:
  def test_names(self):
    slice_ = topology.parse("v4:4x4x8")
    assert slice_.num_chips == 128
    assert str(slice_) == "v4:4x4x8"

  @pytest.mark.parametrize("name", ["v9:2x2", "v5e", "v5e:2x2x2", "v4:0x2x2", ""])
  def test_unknown_names_list_known_ones(self, name):
    with pytest.raises(UserError, match=r"v4:4x4x8.*v5e:2x4.*v5p.*v6e.*tpu7x"):
      topology.parse(name)

  @pytest.mark.parametrize(
    "message",
    [
      "RESOURCE_EXHAUSTED: Ran out of memory on HBM, the total memory required for "
      "HLO temporaries (20.50G) exceeds available HBM (15.75G).",
      "Ran out of memory in memory space hbm. Used 20.50G of 15.75G hbm. Exceeded",
    ],
  )
  def test_out_of_memory_messages(self, message):
    assert measure.out_of_memory(message) == (20.5 * 2**30, 15.75 * 2**30)
    assert measure.out_of_memory("something else") is None


class TestEstimate:
  def test_what_is_kept_for_the_backward_pass(self):
    """Eight layers of tanh keep their eight outputs; under remat only the inputs."""

    def loss(w, x, remat):
      def layer(x):
        return jnp.tanh(x @ w)

      layer = jax.checkpoint(layer) if remat else layer
      for _ in range(8):
        x = layer(x)
      return x.sum()

    rows = 64 * 256 * 4
    args = shape(256, 256), shape(64, 256)
    found = {
      remat: estimate.peak(jax.grad(functools.partial(loss, remat=remat)), *args)
      for remat in (False, True)
    }
    # JAX keeps y and 1 - y^2 of each; two gradients of w are added up.
    assert 16 * rows <= found[False] <= 18 * rows + 2 * 256 * 256 * 4
    assert 8 * rows <= found[True] <= 0.85 * found[False]

  def test_a_loop_holds_its_outputs_and_one_turn(self):
    def run(x):
      return jax.lax.scan(lambda c, _: (c + 1, jnp.sin(c)), x, length=10)[1]

    found = estimate.peak(run, shape(1000))
    assert 10 * 4000 <= found <= 13 * 4000

  @pytest.mark.integration
  def test_near_what_the_compiler_takes(self):
    config = helpers.load_config()
    built = lowerable.build(config, "train", jax.devices()[:2])
    taken = built.lower().compile().memory_analysis().temp_size_in_bytes
    found = estimate.peak(built.call, *built.args) / 2
    assert 0.5 * taken < found < 2 * taken

  @pytest.mark.integration
  def test_a_run_that_cannot_fit_is_refused_with_settings_that_do(self, monkeypatch):
    config = helpers.load_config(
      data={"frame_shape": [128, 128, 1]},
      model={"attention_resolutions": []},
      train={"batch_size": 64},
    )
    devices = jax.devices()[:2]
    monkeypatch.setattr(measure, "capacity", lambda devices: 1 << 30)
    with pytest.raises(UserError) as caught:
      estimate.check(config, devices)
    text = str(caught.value)
    assert "has 1.0" in text and "--config.model.remat=block" in text
    settings = dict(re.findall(r"--config\.([\w.]+)=(\w+)", text))
    for path, value in settings.items():
      section, field = path.split(".")
      config[section][field] = int(value) if value.isdigit() else value
    estimate.check(config, devices)  # With them it is not refused.
    monkeypatch.setattr(measure, "capacity", lambda devices: 1 << 20)
    with pytest.raises(UserError, match="fewer or smaller frames"):
      estimate.check(config, devices)

  @pytest.mark.integration
  def test_more_videos_at_a_time_than_fit_are_refused_and_how_many_do(
    self, monkeypatch
  ):
    config = helpers.load_config(
      data={"frame_shape": [128, 128, 1]}, model={"attention_resolutions": []}
    )
    devices = jax.devices()[:2]
    monkeypatch.setattr(measure, "capacity", lambda devices: 64 << 20)
    with pytest.raises(UserError, match="`batch_size=64`: so many videos") as caught:
      estimate.check_sampling(config, "sample", devices, 64)
    size = int(re.search(r"`batch_size=(\d+)` may fit", str(caught.value))[1])
    assert 2 <= size < 64
    estimate.check_sampling(config, "sample", devices, size)
    guided = {**config, "sampling": {**config["sampling"], "guidance": 1.0}}
    one, two = (estimate.sampling(c, "sample", devices, 64) for c in (config, guided))
    assert 1.5 < two / one < 2.5  # Conditional and unconditional are one batch.
    monkeypatch.setattr(measure, "capacity", lambda devices: 1 << 20)
    with pytest.raises(UserError, match="Neither would `batch_size=2`"):
      estimate.check_sampling(config, "sample", devices, 64)

  def test_a_small_run_is_not_even_traced(self, monkeypatch):
    monkeypatch.setattr(estimate, "training", None)
    estimate.check(helpers.load_config(), jax.devices())
    monkeypatch.setattr(estimate, "sampling", None)
    estimate.check_sampling(helpers.load_config(), "sample", jax.devices(), 16)

  @pytest.mark.parametrize("num_future, traced", [(0, False), (20, True)])
  def test_a_run_is_as_large_as_its_clips(self, num_future, traced, monkeypatch):
    config = helpers.load_config()
    config["task"] = {
      "name": "past_future", "num_past": 1, "num_current": 1, "num_future": num_future
    }  # fmt: skip
    calls = []
    monkeypatch.setattr(estimate, "training", lambda *args: calls.append(1) or (0, {}))
    monkeypatch.setattr(measure, "capacity", lambda devices: 100 << 20)
    estimate.check(config, jax.devices()[:1])
    assert bool(calls) == traced


def test_knobs_are_cheapest_first_and_valid():
  found = {
    "what": "train",
    "devices": 8,
    "batch_size": 128,
    "mesh": {"data": 8, "fsdp": 1},
    "hbm": {"arguments": 18e9, "capacity": 16e9},
  }
  ladder = knobs.knobs(helpers.load_config(), found)
  assert ladder[0] == {"mesh.data": -1, "mesh.fsdp": 4}
  assert ladder[1] == {**ladder[0], "model.remat": "convolutions"}
  assert ladder[-2] == {
    **ladder[0],
    "model.remat": "block",
    "train.accumulate": 16,
  }
  assert ladder[-1] == {**ladder[-2], "mesh.gather": "use"}


@pytest.mark.integration
def test_local_measures_the_devices_here():
  config = helpers.tiny_config()
  found = preflight.preflight(config, None, say=lambda line: None)
  assert found["fits"]
  assert found["devices"] == len(jax.devices())
  assert found["hbm"]["total"] < found["hbm"]["capacity"]
  assert found["collectives"]["all-reduce"]["bytes"] >= 4 * found["parameters"]
  assert "fits" in preflight.render(found)
  assert "| yes |" in page.page({"debug": found}, {}, {})


@pytest.mark.integration
def test_a_sampler_step_is_one_call_of_the_network():
  work = []
  for steps in (2, 4):
    config = helpers.tiny_config(sampling={"steps": steps})
    found = preflight.preflight(config, None, what="sample", say=lambda line: None)
    assert found["fits"]
    work.append(found["flops"])
  assert work[0] == pytest.approx(work[1], rel=1e-2)


@pytest.mark.integration
def test_enlarging_takes_a_backward_pass():
  config = helpers.tiny_config(sampling={"steps": 2})
  found = {
    what: preflight.preflight(config, None, what=what, say=lambda line: None)
    for what in ("sample", "enlarge")
  }
  ratio = found["enlarge"]["flops"] / found["sample"]["flops"]
  # Gradients are those of the noisy video, not of the weights.
  assert 1.8 < ratio < 2.6
  with pytest.raises(UserError, match="`what=enlarge`: expected frames of even size"):
    odd = helpers.tiny_config(data={"frame_shape": [9, 9, 1]})
    preflight.preflight(odd, None, what="enlarge", say=lambda line: None)


@helpers.needs_compiler
@pytest.mark.integration
def test_a_small_config_compiles_for_a_slice():
  found = preflight.preflight(helpers.tiny_config(), "v5e:2x2", say=lambda line: None)
  assert found["fits"], found
  assert found["devices"] == found["chips"] == 4
  assert found["batch_size"] == 8
  # Weights, one average and two moments, in float32, on every chip.
  assert found["hbm"]["arguments"] >= 16 * found["parameters"]
  assert found["hbm"]["total"] < found["hbm"]["capacity"] == int(15.75 * 2**30)
  assert found["floor_ms"]["compute"] == pytest.approx(1e3 * found["flops"] / 197e12)
  assert found["floor_ms"]["memory"] > 0
  assert found["collectives"]["all-reduce"]["bytes"] > 2 * found["parameters"]
  json.dumps(found)


@helpers.needs_compiler
@pytest.mark.integration
def test_each_host_samples_on_its_own_chips():
  config = helpers.tiny_config(mesh={"data": 1, "fsdp": 8}, sampling={"steps": 2})
  found = preflight.preflight(config, "v5e:2x4", what="sample", say=lambda line: None)
  assert found["fits"], found
  assert (found["chips"], found["processes"]) == (8, 2)
  assert found["mesh"] == {"data": 1, "fsdp": 4}
  assert "batch 16 of each of 2 hosts" in preflight.render(found)


@helpers.needs_compiler
@pytest.mark.integration
def test_what_cannot_fit_is_a_result(checkout):
  """A table of labels of 100 GB: known from its arguments, nothing is compiled."""
  run = _command(
    checkout,
    "--topology=v5e:2x2",
    "--json",
    "--config.model.num_labels=1600000000",
  )
  assert run.returncode == 0, run.stderr
  found = json.loads(run.stdout)
  assert found["fits"] is False
  assert found["hbm"]["total"] > found["hbm"]["capacity"]
  assert found["could_help"][0] == {"mesh.data": -1, "mesh.fsdp": 4}
  assert [tried["fits"] for tried in found["tried"]] == [False] * len(
    found["could_help"]
  )
  assert "preflight: trying" in run.stderr


@helpers.needs_compiler
def test_unknown_topology_is_one_line(checkout):
  run = _command(checkout, "--topology=v9:2x2")
  assert run.returncode == 2
  assert run.stdout == ""
  assert "v9:2x2" in run.stderr
  assert "v5e:2x4" in run.stderr
  assert "Traceback" not in run.stderr


def test_a_crash_of_the_compiler_is_told():
  assert "SIGSEGV" in worker._died(-11, "log")
  found = {"fits": None, "error": worker._died(-11, "log")}
  assert preflight.render(found).startswith("unknown: ")


def _command(checkout, *arguments):
  return subprocess.run(
    [
      *(sys.executable, "-m", "vdm_jax.cli.main", "preflight"),
      f"--config={checkout / 'configs' / 'debug.py'}",
      *arguments,
    ],
    capture_output=True,
    text=True,
    cwd=checkout,
    check=False,
  )
