"""A run that several tests measure."""

import jax
import pytest

from tests.helpers import lively, load_config
from vdm_jax import systems
from vdm_jax.data import source as sources
from vdm_jax.storage import checkpoint, workdirs

NAME = "moving_digits/12px_1digit_4frames_8digitpx_64videos"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
  """An export of a small model that was never trained."""
  root = tmp_path_factory.mktemp("run")
  config = load_config(
    train={"ema": []}, data={"data_dir": str(root / "data")}, sampling={"steps": 2}
  )
  system = systems.build(config)
  params = lively(jax.device_get(jax.jit(system.init)(jax.random.key(0))))
  meta = workdirs.describe(config, "none")
  checkpoints = checkpoint.Checkpoints(str(root / "run"), keep_last=1)
  checkpoints.save(3, {"params": params}, None, meta)
  checkpoints.close()
  sources.ensure_built(NAME, root / "data")
  return str(root / "run")
