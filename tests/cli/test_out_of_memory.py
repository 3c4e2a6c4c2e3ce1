"""Memory that runs out ends a command in one line of advice."""

import pytest

from vdm_jax.cli import main


def test_too_large_an_allocation_is_one_line(capsys):
  def fails(argv):
    import jax
    import jax.numpy as jnp

    jax.jit(lambda: jnp.ones((1 << 45,), jnp.float32))()

  with pytest.raises(SystemExit) as found:
    main._checked(fails)([])
  assert found.value.code == 2
  shown = capsys.readouterr().err
  assert shown.startswith("vdm-jax: error: out of memory: ") and shown.count("\n") == 1
  assert "GiB" in shown and "config.train.accumulate" in shown


def test_other_errors_are_not_hidden():
  def fails(argv):
    raise RuntimeError("something else")

  with pytest.raises(RuntimeError, match="something else"):
    main._checked(fails)([])
