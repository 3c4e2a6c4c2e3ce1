"""What protocols share: files."""

import json

import numpy as np

from vdm_jax.evaluation import protocol


def test_json_is_strict():
  value = {"a": np.array([1.0, np.nan]), "b": (np.float32(0.5), float("inf")), "c": "x"}
  assert json.loads(protocol.as_json(value)) == {
    "a": [1, None],
    "b": [0.5, None],
    "c": "x",
  }
