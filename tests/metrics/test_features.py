"""Clips through a network: batches that are filled up, shapes, what is refused."""

import dataclasses

import jax
import numpy as np
import pytest

from tests import annotations
from vdm_jax.errors import UserError
from vdm_jax.metrics import features, layouts, weight_files, weights
from vdm_jax.metrics.networks import i3d, lpips
from vdm_jax.metrics.perceptual import Perceptual


def random_weights(name):
  rng = np.random.default_rng(0)
  flat = {}
  for key, shape in layouts.shapes(name).items():
    fan_in = np.prod(shape[:-1]) or 1
    values = rng.standard_normal(shape) / np.sqrt(fan_in)
    flat[key] = np.abs(values) if key.endswith(("var", "scale")) else values
  params = weight_files.nest({k: v.astype(np.float32) for k, v in flat.items()})
  return weights.Weights(name, params, "random", "0")


@pytest.fixture(scope="module")
def c3d():
  return features.Extractor(random_weights("c3d"), layer="logits", batch_size=2)


def clips(count, frames=16, channels=3):
  rng = np.random.default_rng(1)
  return rng.integers(0, 256, (count, frames, 12, 12, channels), np.uint8)


@pytest.mark.integration
def test_a_batch_that_is_not_full_changes_nothing(c3d):
  given = clips(3)
  found = c3d(given)
  assert found.shape == (3, 101)
  np.testing.assert_allclose(found[2], c3d(given[2:])[0], rtol=1e-4, atol=1e-4)
  np.testing.assert_allclose(
    np.concatenate(list(c3d.batches(given))), found, rtol=1e-5, atol=1e-5
  )


@pytest.mark.integration
def test_gray_clips_are_repeated(c3d):
  gray = clips(1, channels=1)
  np.testing.assert_allclose(
    c3d(gray), c3d(gray.repeat(3, axis=-1)), rtol=1e-5, atol=1e-5
  )


def test_what_is_refused(c3d):
  with (
    annotations.ignored(),
    pytest.raises(UserError, match="expected 8-bit frames, found float32"),
  ):
    c3d(clips(1).astype(np.float32))
  with pytest.raises(UserError, match="expected frames of 1 or 3 channels"):
    c3d(clips(1, channels=2))
  with annotations.ignored(), pytest.raises(UserError, match="clips of one shape"):
    c3d([clips(1)[0], clips(1, frames=17)[0]])
  with pytest.raises(UserError, match="found none"):
    c3d([])
  with pytest.raises(UserError, match="expected clips of 16 frames in RGB, found 9"):
    c3d(clips(2, frames=9))
  with pytest.raises(UserError, match="layer 'pool': c3d has"):
    dataclasses.replace(c3d, layer="pool")
  with pytest.raises(UserError, match="dtype"):
    dataclasses.replace(c3d, dtype="int8")
  with pytest.raises(UserError, match="expected weights of I3D or C3D"):
    features.Extractor(weights.Weights("lpips_vgg16", {}, "", ""))


@pytest.mark.parametrize(
  ("shape", "message"),
  [
    ((1, 8, 224, 224, 3), "9 frames or more, found 8"),
    ((1, 9, 192, 224, 3), "193 pixels or more, found 192 x 224"),
    ((1, 9, 224, 224, 1), "RGB, found 1 channels"),
  ],
)
def test_i3d_refuses_what_it_cannot_see(shape, message):
  net = i3d.InceptionI3D()
  with pytest.raises(UserError, match=message):
    jax.eval_shape(lambda: net.init(jax.random.key(0), np.zeros(shape, np.float32)))


def test_larger_frames_average_over_places():
  net = i3d.InceptionI3D()

  def found():
    return net.init_with_output(jax.random.key(0), np.zeros((1, 9, 256, 256, 3)))[0]

  shapes = jax.eval_shape(found)
  assert shapes["logits"].shape == (1, 400) and shapes["pool"].shape == (1, 1024)


@pytest.fixture(scope="module")
def alexnet():
  return Perceptual("alexnet", random_weights("lpips_alexnet"))


def test_lpips_of_equal_frames_is_zero_and_symmetric(alexnet):
  a, b = clips(1, frames=20)[0], clips(1, frames=21)[0][1:]
  a, b = (np.repeat(np.repeat(x, 3, axis=1), 3, axis=2) for x in (a, b))
  assert not alexnet(a, a).any()
  far = alexnet(a, b)
  assert far.shape == (20,)
  np.testing.assert_allclose(far, alexnet(b, a), rtol=1e-4, atol=1e-5)
  np.testing.assert_allclose(far[18:], alexnet(a[18:], b[18:]), rtol=1e-4, atol=1e-5)


def test_lpips_of_small_frames_is_refused(alexnet):
  assert alexnet.min_size == lpips.MIN_SIZE["alexnet"] == 31
  small = clips(1)[0]
  with pytest.raises(UserError, match="31 pixels or more, found 12 x 12"):
    alexnet(small, small)


def test_gradient_of_lpips_is_finite_where_activations_vanish():
  net = lpips.Lpips("alexnet")
  params = random_weights("lpips_alexnet").params
  params = {k: -abs(v) if "bias" in k else v for k, v in params.items()}
  x = np.zeros((1, 35, 35, 3), np.float32)
  gradient = jax.jit(jax.grad(lambda y: net.apply({"params": params}, x, y).sum()))(
    x + 0.1
  )
  assert np.isfinite(gradient).all()
