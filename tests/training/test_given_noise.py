"""Noise on given frames while training: what a network sees, what it is scored by."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from tests import helpers
from tests.models.test_patches import small
from vdm_jax import systems
from vdm_jax.errors import UserError

STD = 0.4


def worn(name, monkeypatch, train=True, batch_size=64, **diffusion):
  """(videos that `encode` saw, clean ones, frames) of one training loss."""
  config = helpers.load_config(name, diffusion={"given_noise": STD, **diffusion})
  config["data"]["frame_shape"] = (8, 8, 1)
  if config["task"]["name"] == "plan_stages":
    config["task"]["length"] = 20
  system = systems.build(config)
  batch = helpers.random_batch(system, batch_size)
  batch["video"][:] = 128
  place = jnp.arange(batch_size)
  batch = {**batch, "example": place, "stratum": place / batch_size}
  seen = []

  class Stop(Exception):
    pass

  def apply(self, params, method, video, *args, **kwargs):
    seen.append(np.asarray(video))
    raise Stop

  monkeypatch.setattr(type(system), "_apply", apply)
  monkeypatch.setattr(
    type(system.network), "apply", lambda self, p, video, *a, **k: apply(0, 0, 0, video)
  )
  with pytest.raises(Stop):
    system.loss({}, batch, jax.random.key(0), train)
  clean = np.asarray(batch["video"] / 127.5 - 1, np.float32)
  return seen[0], clean, batch["frames"]


@pytest.mark.parametrize("name", ["fdm_digits", "ramvid_digits", "rvd_digits"])
def test_given_frames_are_noisy_by_an_even_strength_and_others_are_not(
  name, monkeypatch
):
  seen, clean, frames = worn(name, monkeypatch)
  observed = np.asarray(frames.observed)
  np.testing.assert_allclose(seen[~observed], clean[~observed], atol=1e-6)
  some = observed.any(1)
  noise = [(s - c)[o] for s, c, o in zip(seen, clean, observed, strict=True)]
  strength = np.array([n.std() for n, has in zip(noise, some, strict=True) if has])
  assert stats.kstest(strength / STD, "uniform").pvalue > 1e-3
  whole = np.concatenate([n.ravel() / n.std() for n in noise if n.size])
  assert stats.kstest(whole[:5000], "norm").pvalue > 1e-3


def test_validation_sees_them_clean(monkeypatch):
  seen, clean, _ = worn("fdm_digits", monkeypatch, train=False)
  np.testing.assert_allclose(seen, clean, atol=1e-6)


@pytest.mark.parametrize("name", ["fdm_digits", "ramvid_digits"])
def test_frames_are_scored_by_what_they_are(name):
  """A network that repeats what it is given: the loss sees latent frames alone."""
  system = small(name, patch=1)
  params = helpers.lively(jax.jit(system.init)(jax.random.key(0)))
  batch = helpers.random_batch(system, 2)
  video = jnp.asarray(batch["video"] / 127.5 - 1, jnp.float32)
  noise = system.noise(jnp.full(2, 0.5), jnp.zeros(video.shape))
  observed = batch["frames"].observed[..., None, None, None]

  def score(seen):
    return system.score(params, video, batch["frames"], batch["cond"], noise, seen=seen)

  score = jax.jit(score)
  same, other = score(video), score(jnp.where(observed, -video, video))
  assert same.loss != other.loss  # Given frames are looked at.
  # Whatever latent frames of `seen` hold is not.
  hidden = score(jnp.where(observed, video, 7.0))
  np.testing.assert_allclose(hidden.loss, same.loss, rtol=1e-6)


def test_where_it_means_nothing_it_is_refused():
  for name, value in (("debug", 0.1), ("fdm_digits", -0.1)):
    config = helpers.load_config(name, diffusion={"given_noise": value})
    with pytest.raises(UserError, match=r"config\.diffusion\.given_noise"):
      systems.build(config)
