"""What protocols share: files, errors over videos, tables."""

import json

import numpy as np
import pytest

from vdm_jax.evaluation import protocol


def test_json_is_strict():
  value = {"a": np.array([1.0, np.nan]), "b": (np.float32(0.5), float("inf")), "c": "x"}
  assert json.loads(protocol.as_json(value)) == {
    "a": [1, None],
    "b": [0.5, None],
    "c": "x",
  }


def test_jackknife_of_a_mean_is_its_standard_error():
  values = np.random.default_rng(0).standard_normal(10)
  value, error = protocol.jackknife(lambda chosen: values[chosen].mean(), 10)
  assert value == pytest.approx(values.mean())
  assert error == pytest.approx(values.std(ddof=1) / np.sqrt(10))
  assert np.isnan(protocol.jackknife(lambda chosen: 1.0, 1)[1])


@pytest.mark.parametrize(
  "arguments, percent, text",
  [
    ((0.123456, 0.0042), False, "0.1235 ± 0.0042"),
    ((12.3456, 0.51), False, "12.35 ± 0.51"),
    ((123.456,), False, "123"),
    ((0.25, 0.031), True, "25.0 ± 3.1 %"),
    ((float("nan"),), False, "-"),
    ((0.0,), False, "0.0"),
    ((1.0, 0.0), True, "100.0 ± 0.0 %"),
    ((0.00123,), True, "0.12 %"),
  ],
)
def test_cell(arguments, percent, text):
  assert protocol.cell(*arguments, percent=percent) == text


def test_table_aligns():
  lines = protocol.table([["", "a"], ["long title", "1.25"]]).splitlines()
  assert lines == ["               a", "----------------", "long title  1.25"]
