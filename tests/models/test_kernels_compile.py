"""Kernels by themselves and in a real training step, compiled for absent TPUs."""

import importlib.util
import os
import subprocess
import sys

import pytest

from tests import helpers
from tests.models import compile_kernels
from vdm_jax import preflight
from vdm_jax.preflight import topology

pytestmark = pytest.mark.skipif(
  importlib.util.find_spec("libtpu") is None, reason="libtpu is not installed"
)


@pytest.mark.slow
def test_both_kernels_compile_for_every_generation(checkout):
  done = subprocess.run(
    [sys.executable, "-m", "tests.models.compile_kernels"],
    cwd=checkout,
    env={**os.environ, **topology.environment(topology.parse("v5e:2x4"))},
    capture_output=True,
    text=True,
  )
  assert done.returncode == 0, done.stderr[-2000:]
  lines = done.stdout.splitlines()
  shapes = len(compile_kernels.OVER_SPACE) + len(compile_kernels.OVER_TIME)
  assert len(lines) == len(compile_kernels.SLICES) * shapes
  # Values; and derivatives, over space in two kernels.
  assert {line.split()[-1] for line in lines if " time " in line} == {"2"}
  assert {line.split()[-1] for line in lines if " space " in line} == {"3"}


@pytest.mark.slow
@pytest.mark.parametrize("fsdp", [1, 2])
def test_a_sharded_step_with_both_kernels_compiles(fsdp):
  """1,024 pixels a frame; four chips, each with its rows of the batch."""

  def compiled(**model):
    config = helpers.load_config(
      data={"frame_shape": [32, 32, 3]},
      model=dict(
        channels=128,
        channel_mults=[1],
        blocks=1,
        attention_resolutions=[32],
        head_dim=64,
        **model,
      ),
      train={"batch_size": 8},
      mesh={"data": -1, "fsdp": fsdp},
      dtype="bfloat16",
    )
    return preflight.preflight(
      config, "v5e:2x2", try_knobs=False, say=lambda line: None
    )

  plain = compiled(attention="xla")
  ours = compiled(attention="auto", time_attention="pallas")
  assert plain["fits"] and ours["fits"], ours
  assert ours["hbm"]["temporaries"] < plain["hbm"]["temporaries"] / 2
  assert ours["bytes"] < plain["bytes"] / 2
