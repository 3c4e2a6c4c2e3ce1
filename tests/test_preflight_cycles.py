"""The compiler's own estimates: added up by hand, and of programs compiled for TPU."""

import pytest

from tests import helpers
from vdm_jax import preflight
from vdm_jax.errors import UserError
from vdm_jax.preflight import chips, cycles, hlo, summary

# Of a step compiled for v5e, cut to one operation of a kind; what is not read is gone.
_TEXT = """HloModule jit_step, is_scheduled=true

%fused_conv (p: bf16[8,8,8,4], k: bf16[3,3,4,4]) -> bf16[8,8,8,4] {
  %p = bf16[8,8,8,4]{3,2,1,0} parameter(0)
  %k = bf16[3,3,4,4]{3,2,1,0} parameter(1)
  ROOT %c = bf16[8,8,8,4]{3,2,1,0} convolution(%p, %k), window={size=3x3 pad=1_1x1_1}, dim_labels=b01f_01io->b01f, metadata={op_name="jit(_step)/jvp(Net)/down_0/conv_0/conv_general_dilated"}
}

%fused_dot (p.1: bf16[8,4], k.1: bf16[4,4]) -> bf16[8,4] {
  %p.1 = bf16[8,4]{1,0} parameter(0)
  %k.1 = bf16[4,4]{1,0} parameter(1)
  ROOT %d = bf16[8,4]{1,0} convolution(%p.1, %k.1), dim_labels=bf_io->bf, metadata={op_name="jit(_step)/jvp(Net)/down_0/embedding/dot_general"}
}

%fused_scores (p.2: bf16[8,4], k.2: bf16[4,4]) -> bf16[8,4] {
  %p.2 = bf16[8,4]{1,0} parameter(0)
  %k.2 = bf16[4,4]{1,0} parameter(1)
  ROOT %s = bf16[8,4]{1,0} convolution(%p.2, %k.2), dim_labels=bf_io->bf, metadata={op_name="jit(_step)/jvp(Net)/up_0_attention_time/out/dot_general"}
}

%fused_move (p.3: f32[8,4]) -> f32[4,8] {
  %p.3 = f32[8,4]{1,0} parameter(0)
  ROOT %t = f32[4,8]{1,0} transpose(%p.3), dimensions={1,0}
}

%apply (a: f32[4]) -> f32[4] {
  %a = f32[4]{0} parameter(0)
  ROOT %sum = f32[4]{0} add(%a, %a), metadata={op_name="jit(_step)/cond/branch_1_fun/add"}, backend_config={"window_config":{"estimated_cycles":"700"}}
}

%skip (b: f32[4]) -> f32[4] {
  ROOT %b = f32[4]{0} parameter(0)
}

%body (q: (s32[], bf16[8,8,8,4])) -> (s32[], bf16[8,8,8,4]) {
  %q = (s32[], bf16[8,8,8,4]{3,2,1,0}) parameter(0)
  %i = s32[] get-tuple-element(%q), index=0
  %x.1 = bf16[8,8,8,4]{3,2,1,0} get-tuple-element(%q), index=1
  %w.1 = bf16[3,3,4,4]{3,2,1,0} constant({...})
  %f = bf16[8,8,8,4]{3,2,1,0} fusion(%x.1, %w.1), kind=kOutput, calls=%fused_conv, backend_config={"window_config":{"estimated_cycles":"3000"}}
  %r = bf16[8,8,8,4]{3,2,1,0} all-reduce(%f), channel_id=1, to_apply=%add
  %one = s32[] constant(1)
  %n = s32[] add(%i, %one)
  ROOT %y = (s32[], bf16[8,8,8,4]{3,2,1,0}) tuple(%n, %r)
}

%condition (q.1: (s32[], bf16[8,8,8,4])) -> pred[] {
  %q.1 = (s32[], bf16[8,8,8,4]{3,2,1,0}) parameter(0)
  %bound = s32[] constant(5)
  %i.1 = s32[] get-tuple-element(%q.1), index=0
  ROOT %lt = pred[] compare(%i.1, %bound), direction=LT
}

ENTRY %main (x: bf16[8,8,8,4], y.1: bf16[8,4], z: f32[4]) -> f32[4] {
  %x = bf16[8,8,8,4]{3,2,1,0} parameter(0)
  %y.1 = bf16[8,4]{1,0} parameter(1)
  %z = f32[4]{0} parameter(2)
  %zero = s32[] constant(0)
  %init = (s32[], bf16[8,8,8,4]{3,2,1,0}) tuple(%zero, %x)
  %w = (s32[], bf16[8,8,8,4]{3,2,1,0}) while(%init), condition=%condition, body=%body
  %w.2 = bf16[4,4]{1,0} constant({...})
  %fd = bf16[8,4]{1,0} fusion(%y.1, %w.2), kind=kOutput, calls=%fused_dot, backend_config={"window_config":{"estimated_cycles":"1000"}}
  %fs = bf16[8,4]{1,0} fusion(%fd, %w.2), kind=kOutput, calls=%fused_scores, backend_config={"window_config":{"estimated_cycles":"500"}}
  %fm = f32[4,8]{1,0} fusion(%fs), kind=kLoop, calls=%fused_move, metadata={op_name="jit(_step)/jvp(Net)/reshape"}, backend_config={"window_config":{"estimated_cycles":"200"}}
  %cp = f32[4,8]{0,1} copy(%fm), metadata={op_name="jit(_step)/jvp(Net)/up_0_attention_space/reshape"}, backend_config={"window_config":{"estimated_cycles":"50"}}
  %kernel = f32[4,8]{1,0} custom-call(%cp), custom_call_target="tpu_custom_call"
  %p.4 = pred[] constant(true)
  ROOT %o = f32[4]{0} conditional(%p.4, %z, %z), true_computation=%apply, false_computation=%skip
}
"""  # noqa: E501

_MEASURE = """
import functools, json, os
import jax, jax.numpy as jnp
from vdm_jax.preflight import chips, cycles, hlo, measure, topology

jax.config.update("jax_enable_compilation_cache", False)
size, found = 1024, {}
device = topology.devices(topology.parse("v5e:2x2"))[0]
place = jax.sharding.SingleDeviceSharding(device)
x = jax.ShapeDtypeStruct((size, size), jnp.bfloat16, sharding=place)

def loop(x, w, length):
  body = lambda x, _: (jnp.tanh(x @ w).astype(x.dtype), None)
  return jax.lax.scan(body, x, length=length)[0]

for length in (40, 80):
  step = jax.jit(functools.partial(loop, length=length)).lower(x, x)
  with measure._trying("O2"):
    module = hlo.Module(step.compile().as_text())
  flops = 2 * size**3 * length
  found[length] = cycles.estimate(module, chips.TPUS["v5e"], 1, flops)
print(json.dumps(found))
"""


@pytest.fixture
def estimate():
  return cycles.estimate(hlo.Module(_TEXT), chips.TPUS["v5e"], 1, 1e6)


def test_kinds_are_added_up_with_loops_multiplied_out(estimate):
  counted = {
    kind: (round(one["ms"] * 1.5e6), one["count"])
    for kind, one in estimate["kinds"].items()
  }
  assert counted == {
    "convolution": (5 * 3000, 5),
    "dot": (1000, 1),
    "elementwise or sum": (700, 1),  # One branch of the two.
    "attention over time": (500, 1),
    "copy": (200, 1),
    "attention over space": (50, 1),
  }
  assert list(counted) == sorted(counted, key=lambda kind: -counted[kind][0])
  cycles_in_all = 15000 + 1000 + 700 + 500 + 200 + 50
  assert estimate["ms"] == pytest.approx(1e3 * cycles_in_all / 1.5e9)
  peak = 1e6 / (cycles_in_all / 1.5e9 * 197e12)
  assert estimate["share_of_peak"] == pytest.approx(peak)


def test_the_costliest_are_named_by_their_place_in_the_program(estimate):
  first = estimate["costly"][0]
  assert first["source"] == "jit(_step)/jvp(Net)/down_0/conv_0/conv_general_dilated"
  assert first["count"] == 5
  times = [one["ms"] for one in estimate["costly"]]
  assert times == sorted(times, reverse=True)


def test_what_has_no_estimate_is_counted(estimate):
  assert estimate["without"] == {"collectives": 5, "kernels": 1}


def test_a_sampler_step_is_a_part_of_the_program():
  whole, part = (
    cycles.estimate(hlo.Module(_TEXT), chips.TPUS["v5e"], repeats, 1e6)
    for repeats in (1, 4)
  )
  assert part["ms"] == pytest.approx(whole["ms"] / 4)
  assert part["without"]["collectives"] == 5 / 4


@helpers.needs_compiler
@pytest.mark.integration
def test_products_in_a_loop_of_a_program_compiled_for_tpu():
  found = {int(k): v for k, v in helpers.compile_for_tpu(_MEASURE).items()}
  assert found[80]["ms"] == pytest.approx(2 * found[40]["ms"], rel=0.1)
  # Most of it are the products; the compiler expects no more than the sheet.
  assert next(iter(found[80]["kinds"])) == "dot"
  products_at_peak = 1e3 * 80 * 2 * 1024**3 / chips.TPUS["v5e"].flops
  assert products_at_peak < found[80]["kinds"]["dot"]["ms"] < 2 * products_at_peak
  assert 0.4 < found[80]["share_of_peak"] <= 1.05
  assert "dot_general" in found[80]["costly"][0]["source"]


@helpers.needs_compiler
@pytest.mark.integration
def test_the_report_says_what_the_estimate_is_worth():
  say = {"say": lambda line: None}
  config = helpers.tiny_config()
  found = preflight.preflight(config, "v5e:2x2", effort="O1", **say)
  assert found["effort"] == "O1"
  text = summary.render(found)
  assert "effort O1, at 1.5 GHz (assumed)" in text
  assert "convolution" in text
  assert found["estimate"]["without"]["collectives"] >= 1
  # Ten at most, each with its place.
  assert 0 < text.count("  costly") <= 10
  assert "jit(_step)" in text


def test_unknown_effort_is_refused():
  with pytest.raises(UserError, match="`effort`.*O9"):
    preflight.preflight(helpers.tiny_config(), "v5e:2x2", effort="O9")
