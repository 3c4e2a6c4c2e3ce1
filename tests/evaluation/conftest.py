"""A run that several tests measure."""

import jax
import pytest

from tests.helpers import lively, load_config
from vdm_jax import systems
from vdm_jax.data import source as sources
from vdm_jax.storage import checkpoint, workdirs

NAME = "moving_digits/12px_1digit_4frames_8digitpx_64videos"


# Twice as large: a run that averages 2 x 2 pixels sees 12px.
LARGE = "moving_digits/24px_1digit_4frames_16digitpx_64videos"


def export(root, name, **data):
  """Writes an export of a small model that was never trained, and builds its data."""
  config = load_config(
    train={"ema": []},
    data={"name": name, "data_dir": str(root / "data"), **data},
    sampling={"steps": 2},
  )
  system = systems.build(config)
  params = lively(jax.device_get(jax.jit(system.init)(jax.random.key(0))))
  meta = workdirs.describe(config, "none")
  checkpoints = checkpoint.Checkpoints(str(root / "run"), keep_last=1)
  checkpoints.save(3, {"params": params}, None, meta)
  checkpoints.close()
  sources.ensure_built(name, root / "data")
  return str(root / "run")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
  return export(tmp_path_factory.mktemp("run"), NAME)


@pytest.fixture(scope="module")
def pooled_run(tmp_path_factory):
  return export(tmp_path_factory.mktemp("pooled"), LARGE, pool=2)
