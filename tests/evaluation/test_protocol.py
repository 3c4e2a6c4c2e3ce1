"""What protocols share: files."""

import dataclasses
import json

import numpy as np

from vdm_jax.evaluation import protocol, protocols


def test_json_is_strict():
  value = {"a": np.array([1.0, np.nan]), "b": (np.float32(0.5), float("inf")), "c": "x"}
  assert json.loads(protocol.as_json(value)) == {
    "a": [1, None],
    "b": [0.5, None],
    "c": "x",
  }


def test_help_says_what_a_setting_is():
  """A phrase that begins with what it is: not "of the noise", not "clips"."""
  for name, kind in protocols.known().items():
    for field in dataclasses.fields(kind):
      first, *rest = field.metadata["help"].split()
      assert rest and first not in ("of", "at", "by", "in"), f"{name}.{field.name}"
