"""Tables as text."""

import pytest

from vdm_jax import text_table


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
  assert text_table.cell(*arguments, percent=percent) == text


def test_table_aligns():
  lines = text_table.table([["", "a"], ["long title", "1.25"]]).splitlines()
  assert lines == ["               a", "----------------", "long title  1.25"]
