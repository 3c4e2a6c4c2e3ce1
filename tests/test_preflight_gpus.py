"""Preflight for absent GPUs: names, cards, what is missing, what fits."""

import json
import re
import subprocess
import sys
import types

import jax.numpy as jnp
import pytest

from tests import helpers
from vdm_jax import preflight
from vdm_jax.cli import common
from vdm_jax.errors import UserError
from vdm_jax.models import attention
from vdm_jax.preflight import chips, gpus, hlo, topology


def _compiler() -> bool:
  try:
    gpus.check_compiler()
  except UserError:
    return False
  return True


needs_compiler = pytest.mark.skipif(
  not _compiler(), reason="the extra cuda-preflight is not installed"
)


@pytest.mark.parametrize(
  ("name", "shape", "written"),
  [
    ("h100:8", (1, 8), "h100:8"),
    ("h100:1", (1, 1), "h100:1"),
    ("h200:3", (1, 3), "h200:3"),
    ("a100:16", (2, 8), "a100:2x8"),
    ("a100-40gb:4x4", (4, 4), "a100-40gb:4x4"),
  ],
)
def test_names_say_hosts_and_cards(name, shape, written):
  found = topology.parse(name)
  assert found.shape == shape
  assert found.is_gpu
  assert str(found) == written
  assert topology.parse(written) == found


@pytest.mark.parametrize(
  "name", ["h100:12", "h100:0", "h100:2x9", "h100:1x2x8", "h100", "h100:8x"]
)
def test_cards_that_make_no_hosts_are_refused(name):
  with pytest.raises(UserError, match=f"`topology={name}`: expected h100:CARDS"):
    topology.parse(name)


def test_other_names_list_what_there_is():
  with pytest.raises(UserError, match=r"v5e:2x4.*h100:8.*a100-40gb:8"):
    topology.parse("h300:8")


@pytest.mark.parametrize("name", chips.GPUS)
def test_a_card_is_described_by_its_data_sheet(name):
  card = chips.GPUS[name]
  text = gpus.describe(card)
  found = dict(re.findall(r"(\w+): ([\d.]+)", text))
  assert int(found["device_memory_size"]) == card.hbm
  assert int(found["core_count"]) == card.multiprocessors
  # Bytes a second in whole numbers, as the compiler's parser wants them.
  assert found["memory_bandwidth"] == str(int(card.bandwidth))
  assert f"major: {card.capability[0]}" in text
  # Float32 lanes at the highest clock, a multiply-add as two: TFLOP/s of the sheets.
  speed = 2 * card.multiprocessors * card.lanes * card.clock / 1e12
  assert speed == pytest.approx({9: 67, 8: 19.5}[card.capability[0]], rel=0.01)
  assert not re.search(r"[{}]{2}|card\.", text)


def test_usable_is_what_jax_takes_of_a_card(monkeypatch):
  card = chips.GPUS["h100"]
  monkeypatch.delenv("XLA_PYTHON_CLIENT_MEM_FRACTION", raising=False)
  assert card.usable == pytest.approx(0.75 * card.hbm, abs=1)
  monkeypatch.setenv("XLA_PYTHON_CLIENT_MEM_FRACTION", "0.9")
  assert card.usable == pytest.approx(0.9 * card.hbm, abs=1)


def test_a_card_at_hand_is_known_by_its_name():
  def device(kind):
    return types.SimpleNamespace(device_kind=kind)

  assert chips.chip_of(device("NVIDIA H200")) is chips.GPUS["h200"]
  assert chips.chip_of(device("TPU v5 lite")) is chips.TPUS["v5e"]
  assert chips.chip_of(device("NVIDIA H100 PCIe")) is None  # A slower card.


def test_a_missing_compiler_is_one_error_with_the_command(monkeypatch):
  monkeypatch.setattr(gpus, "_installed", lambda module: False)
  monkeypatch.setattr(gpus.shutil, "which", lambda name: None)
  with pytest.raises(UserError) as caught:
    preflight.preflight(helpers.tiny_config(), "h100:8", say=lambda line: None)
  text = str(caught.value)
  assert "jax-cuda12-plugin, jax-cuda12-pjrt, nvidia-cuda-nvcc-cu12" in text
  assert "EXTRAS=test,video,cuda-preflight" in text
  assert "\n" not in text


def test_a_compiler_of_another_version_is_refused(monkeypatch):
  monkeypatch.setattr(gpus, "_installed", lambda module: True)
  versions = {"jax": "0.10.2", "jax-cuda12-plugin": "0.9.0"}
  monkeypatch.setattr(gpus.importlib.metadata, "version", versions.get)
  with pytest.raises(UserError, match=r"jax-cuda12-plugin 0\.10\.2.*found 0\.9\.0"):
    gpus.check_compiler()


def test_without_cudnn_the_report_says_so(monkeypatch):
  monkeypatch.setattr(gpus, "_installed", lambda module: True)
  (bound,) = gpus.remarks()
  assert "lower bound" in bound
  monkeypatch.setattr(gpus, "_installed", lambda module: False)
  assert "--no-deps nvidia-cudnn-cu12" in gpus.remarks()[1]


def test_workspaces_of_library_kernels_are_no_traffic():
  """As the GPU compiler writes a product: 32 MiB to work in, hardly touched."""
  text = """HloModule jit_step, is_scheduled=true

ENTRY %main (a: f32[72,24], b: f32[24,8]) -> f32[72,8] {
  %a = f32[72,24]{1,0} parameter(0)
  %b = f32[24,8]{1,0} parameter(1)
  %m = (f32[72,8]{1,0}, s8[33554432]{0}) custom-call(%a, %b), custom_call_target="__cublas$lt$matmul"
  ROOT %g = f32[72,8]{1,0} get-tuple-element(%m), index=0
}
"""  # noqa: E501
  assert hlo.Module(text).traffic() == 4 * (72 * 24 + 24 * 8 + 72 * 8)


@needs_compiler
@pytest.mark.slow
def test_a_small_config_compiles_for_gpus():
  config = helpers.tiny_config()
  for name, cards in (("h100:8", 8), ("a100:2x8", 16)):
    config["train"]["batch_size"] = cards
    found = preflight.preflight(config, name, say=lambda line: None)
    assert found["fits"], found
    assert found["devices"] == found["chips"] == cards
    chip = topology.parse(name).chip
    assert found["hbm"]["total"] < found["hbm"]["capacity"] < chip.hbm
    assert found["floor_ms"]["compute"] == 1e3 * found["flops"] / chip.flops
    assert found["collectives"]["all-reduce"]["bytes"] >= 4 * found["parameters"]
    assert found["estimate"] is None
    assert found["versions"]["jax-cuda12-pjrt"] == found["versions"]["jax"]
    text = preflight.render(found)
    assert "yes, by that lower bound" in text
    assert "cuDNN" in text
    json.dumps(found)


@needs_compiler
@pytest.mark.skipif(not gpus._installed("nvidia.cudnn"), reason="cuDNN is missing")
def test_attention_is_cudnns_in_a_program_for_gpus():
  """What a CPU host lowers for a card has the kernel that the card would take."""
  code = """
import jax, jax.numpy as jnp
from vdm_jax.models import attention
q = jax.ShapeDtypeStruct((2, 256, 4, 64), jnp.bfloat16)
loss = lambda q, k, v: attention.attend(q, k, v).astype(jnp.float32).sum()
step = jax.jit(jax.grad(loss, (0, 1, 2))).trace(q, q, q)
for platform in ("cuda", "cpu", "tpu"):
  print(platform, step.lower(lowering_platforms=(platform,)).as_text().count("cudnn$fmha"))
"""  # noqa: E501
  run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
  counts = dict(line.split() for line in run.stdout.splitlines())
  assert int(counts["cuda"]) >= 2, run.stderr
  assert counts["cpu"] == counts["tpu"] == "0"


def test_attention_in_full_precision_is_never_cudnns():
  assert not attention._cudnn_takes((2, 256, 4, 64), jnp.dtype("float32"))


@pytest.mark.parametrize(
  ("devices", "plugins", "only"),
  [
    ([], ["xla_cuda12"], True),  # The compiler alone: no card to look for.
    (["/dev/nvidia0"], ["xla_cuda12"], False),
    ([], ["xla_cuda12", "metal"], False),
  ],
)
def test_the_compiler_alone_makes_no_gpu(monkeypatch, devices, plugins, only):
  monkeypatch.delenv("JAX_PLATFORMS", raising=False)
  found = [types.SimpleNamespace(name=name) for name in plugins]
  monkeypatch.setattr(common.pkgutil, "iter_modules", lambda paths: found)
  monkeypatch.setattr(
    common.glob, "glob", lambda text: [d for d in devices if d[:11] == text[:11]]
  )
  assert common._only_cpu() is only
