"""The Inception score."""

import numpy as np
import pytest

from vdm_jax.metrics import inception


def test_sure_and_all_different_is_the_number_of_classes():
  logits = 1000.0 * np.eye(7)
  np.testing.assert_allclose(inception.scores(logits), [7.0])


def test_unsure_or_all_alike_is_one():
  np.testing.assert_allclose(inception.scores(np.zeros((5, 7))), [1.0])
  np.testing.assert_allclose(inception.scores(1000.0 * np.eye(7)[[2] * 5]), [1.0])


def test_each_split_by_itself():
  logits = 1000.0 * np.eye(4)[[0, 1, 2, 2, 3, 3]]
  np.testing.assert_allclose(inception.scores(logits, 3), [2.0, 1.0, 1.0], rtol=1e-6)
  # What is left over does not count.
  np.testing.assert_allclose(inception.scores(logits[:5], 2), [2.0, 1.0], rtol=1e-6)


def test_too_few():
  with pytest.raises(ValueError, match="N >= 3"):
    inception.scores(np.zeros((2, 4)), 3)
