"""Data sets that several tests read; built once."""

import pytest
from absl import logging

from tests.data import helpers
from vdm_jax.data import records
from vdm_jax.data import source as source_lib

DIGITS = "moving_digits/16px_1digit_8frames_120videos"


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory):
  """Holds the data set Coded as "coded/tiny" and the moving digits DIGITS."""
  root = tmp_path_factory.mktemp("data")
  records.build(helpers.Coded, records.ChunkConfig(name="tiny"), root)
  source_lib.ensure_built(DIGITS, root)
  return root


@pytest.fixture
def coded(data_dir) -> source_lib.VideoSource:
  return source_lib.load("coded/tiny", data_dir)


@pytest.fixture
def digits(data_dir) -> source_lib.VideoSource:
  return source_lib.load(DIGITS, data_dir)


@pytest.fixture
def report(caplog):
  """Gives the warnings so far."""
  logging.use_absl_handler()
  with caplog.at_level("WARNING", logger="absl"):
    yield lambda: caplog.text
