"""A learning rate that decays with time, and Muon."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vdm_jax.errors import UserError
from vdm_jax.training import muon as muon_lib
from vdm_jax.training import optimizer


def config(**changes):
  return {
    "name": "adam", "learning_rate": 0.1, "b1": 0.9, "b2": 0.99, "eps": 1e-8,
    "weight_decay": 0.0, "warmup_steps": 0, "decay": "cosine", "decay_by": "time",
    "clip_norm": 0.0, **changes,
  }  # fmt: skip


@pytest.mark.parametrize("decay", ["cosine", "linear"])
def test_updates_shrink_with_progress_not_with_steps(decay):
  tx = optimizer.build(config(decay=decay), num_steps=2)
  params = {"w": jnp.ones(3)}
  state = tx.init(params)
  sizes = []
  for progress in (0.0, 0.0, 0.5, 0.5, 1.0):
    grads = {"w": jnp.ones(3)}
    updates, state = tx.update(grads, state, params, progress=jnp.float32(progress))
    sizes.append(-float(updates["w"][0]))
  # Adam's update of a constant gradient is the learning rate.
  np.testing.assert_allclose(sizes, [0.1, 0.1, 0.05, 0.05, 0.0], atol=1e-6)


def test_warm_up_still_goes_by_steps():
  tx = optimizer.build(config(warmup_steps=4), num_steps=100)
  params = {"w": jnp.ones(3)}
  state, sizes = tx.init(params), []
  for _ in range(5):
    grads = {"w": jnp.ones(3)}
    updates, state = tx.update(grads, state, params, progress=jnp.float32(0))
    sizes.append(-float(updates["w"][0]))
  np.testing.assert_allclose(sizes, [0.025, 0.05, 0.075, 0.1, 0.1], rtol=1e-5)


@pytest.mark.parametrize("how", ["time", "steps"])
def test_the_rate_that_is_logged_is_the_one_that_moves(how):
  settings = config(warmup_steps=3, decay_by=how, decay="linear")
  tx = optimizer.build(settings, num_steps=8)
  params = {"w": jnp.ones(3)}
  state, found, said = tx.init(params), [], []
  for step, progress in enumerate((0.0, 0.1, 0.2, 0.3, 0.6, 0.9)):
    given = {"progress": jnp.float32(progress)} if how == "time" else {}
    updates, state = tx.update({"w": jnp.ones(3)}, state, params, **given)
    found.append(-float(updates["w"][0]))
    said.append(float(optimizer.rate_of_update(settings, 8)(step, progress)))
  np.testing.assert_allclose(said, found, rtol=1e-5)


def test_refusals():
  with pytest.raises(UserError, match="decay_by"):
    optimizer.build(config(decay_by="clock"), 10)
  with pytest.raises(UserError, match="decay .with decay_by = 'time'."):
    optimizer.build(config(decay="constant"), 10)
  assert not optimizer.by_time(config(decay_by="steps", decay="constant"))
  # Configs of runs from before the field was there.
  assert not optimizer.by_time({"decay": "constant"})


def muon(params, grads, **changes):
  tx = optimizer.build(
    config(name="muon", decay="constant", decay_by="steps", **changes), 10
  )
  return tx.update(grads, tx.init(params), params)[0]


def test_muon_orthogonalises_kernels_over_all_axes_but_the_last():
  key = jax.random.key(0)
  grads = {"conv": {"kernel": jax.random.normal(key, (3, 3, 8, 16))}}
  found = muon(grads, grads)["conv"]["kernel"].reshape(-1, 16)
  values = np.linalg.svd(found, compute_uv=False)
  # Newton-Schulz leaves them near one another, not equal.
  assert values.max() / values.min() < 2
  raw = np.linalg.svd(grads["conv"]["kernel"].reshape(-1, 16), compute_uv=False)
  assert raw.max() / raw.min() > 1.3


@pytest.mark.parametrize("shape", [(72, 16), (8, 40), (32, 32)])
def test_orthogonalising_by_the_gram_matrix_is_the_iteration_itself(shape):
  matrix = np.asarray(jax.random.normal(jax.random.key(2), shape))
  expected = matrix.astype(np.float64) / np.linalg.norm(matrix)
  for _ in range(5):
    gram = expected @ expected.T
    step = -4.7750 * gram + 2.0315 * gram @ gram
    expected = 3.4445 * expected + step @ expected
  np.testing.assert_allclose(muon_lib.orthogonalise(matrix), expected, atol=1e-4)


def test_orthogonalising_a_matrix_of_low_rank_stays_finite():
  key = jax.random.key(3)
  thin = jax.random.normal(key, (64, 2)) @ jax.random.normal(key, (2, 16))
  values = np.linalg.svd(muon_lib.orthogonalise(thin), compute_uv=False)
  assert np.all(values[:2] > 0.6) and np.all(values[2:] < 0.2)
  assert not np.any(muon_lib.orthogonalise(jnp.zeros((8, 4))))


def test_muons_updates_are_about_as_large_as_adams():
  grads = {"dense": {"kernel": jax.random.normal(jax.random.key(1), (64, 64))}}
  found = muon(grads, grads)["dense"]["kernel"]
  assert 0.1 * 0.1 < float(jnp.sqrt(jnp.mean(found**2))) < 0.1 * 0.5


def test_muon_leaves_all_but_kernels_to_adam():
  params = {
    "bias": jnp.ones(4),
    "table": {"embedding": jnp.ones((10, 4))},
    "dense": {"kernel": jnp.ones((4, 4))},
  }
  grads = jax.tree.map(lambda p: 1e-3 * jnp.ones_like(p), params)
  found = muon(params, grads)
  for leaf in (found["bias"], found["table"]["embedding"]):
    # Adam's first step is the learning rate, whatever the gradient.
    np.testing.assert_allclose(leaf, -0.1, rtol=1e-4)


def run_of(num_steps=100, max_seconds=60.0, **changes):
  return {
    "optimizer": config(**changes),
    "train": {"num_steps": num_steps, "max_seconds": max_seconds},
  }


def test_a_longer_run_is_told_how_its_rate_jumps():
  def jump(old, new):
    return optimizer.jump(old, new, step=50, seconds=30.0)

  steps = {"decay": "linear", "decay_by": "steps"}
  text = jump(run_of(**steps), run_of(num_steps=200, **steps))
  assert "num_steps changed from 100 to 200" in text
  assert "of step 50 is 0.075 instead of 0.05" in text
  text = jump(run_of(), run_of(max_seconds=120.0))
  assert "max_seconds changed from 60.0 to 120.0" in text and "0.0854" in text
  # What does not hang on the length of a run has nothing to tell.
  assert not jump(run_of(**steps), run_of(max_seconds=120.0, **steps))
  constant = {"decay": "constant", "decay_by": "steps"}
  assert not jump(run_of(**constant), run_of(num_steps=200, **constant))
  assert not jump(run_of(), run_of(num_steps=200))
  # A run that had come to its end.
  assert "instead of 0" in optimizer.jump(
    run_of(**steps), run_of(num_steps=200, **steps), step=100, seconds=30.0
  )
