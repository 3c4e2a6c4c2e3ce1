import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vdm_jax.diffusion import loss, process
from vdm_jax.diffusion.schedule import Level
from vdm_jax.errors import UserError

LOGSNR = jnp.array([[-9.0, -2.0, 0.0], [1.0, 4.0, 9.0]])
LEVEL = Level(LOGSNR, jnp.zeros_like(LOGSNR))


@pytest.fixture
def data():
  """Clean video, noise, noisy video and a wrong estimate of the clean video."""
  keys = jax.random.split(jax.random.key(1), 3)
  x, eps, wrong = (jax.random.normal(key, (2, 3, 4, 4, 1)) for key in keys)
  return x, eps, process.forward(x, eps, LEVEL), wrong


def denoising_loss(kind, data, **kwargs):
  """The loss of the network of this kind that means `wrong`."""
  x, eps, z, wrong = data
  prediction = process.from_x(kind, wrong, z, LEVEL)
  kwargs = {"where": None, "normalise": "all"} | kwargs
  return loss.denoising_loss(kind, prediction, x, eps, LEVEL, **kwargs)


def test_one_estimate_has_one_loss_in_a_space_whatever_the_network(data):
  for space in ("x", "eps", "v", "flow"):
    for norm in ("l1", "l2"):
      losses = [
        denoising_loss(kind, data, space=space, norm=norm).per_example
        for kind in ("x", "eps", "v", "flow")
      ]
      for other in losses[1:]:
        np.testing.assert_allclose(losses[0], other, rtol=1e-3)


def test_the_space_is_where_the_error_is(data):
  """Against errors of converted predictions, which no loss computes."""
  x, eps, z, wrong = data
  for space in ("x", "eps", "v", "flow"):
    right = process.target(space, x, eps, LEVEL)
    error = process.from_x(space, wrong, z, LEVEL) - right
    found = denoising_loss("v", data, space=space).mean
    np.testing.assert_allclose(found, jnp.mean(error**2), rtol=1e-3)
    found = denoising_loss("v", data, space=space, norm="l1").mean
    np.testing.assert_allclose(found, jnp.mean(jnp.abs(error)), rtol=1e-3)


def test_weightings_mean_the_same_in_every_space(data):
  for make in (loss.snr, loss.truncated_snr, loss.min_snr, loss.p2):
    values = [
      denoising_loss("v", data, space=space, weighting=make()).mean
      for space in ("x", "eps", "v", "flow")
    ]
    np.testing.assert_allclose(values, values[0], rtol=1e-5)


def test_weightings_by_name_and_limit(data):
  def mean(space, weighting):
    return denoising_loss("eps", data, space=space, weighting=weighting).mean

  plain_eps, plain_x = mean("eps", None), mean("x", None)
  named = loss.WEIGHTINGS
  np.testing.assert_allclose(mean("x", named["snr"]()), plain_eps, rtol=1e-5)
  np.testing.assert_allclose(mean("x", named["simple"]()), plain_x, rtol=1e-6)
  np.testing.assert_allclose(mean("v", named["p2"](gamma=0.0)), plain_eps, rtol=1e-5)
  np.testing.assert_allclose(mean("v", named["min_snr"](1e9)), plain_eps, rtol=1e-5)
  np.testing.assert_allclose(
    mean("x", named["truncated_snr"]()) + mean("x", named["min_snr"](1.0)),
    plain_eps + plain_x,  # max(SNR, 1) + min(SNR, 1) = SNR + 1
    rtol=1e-5,
  )


VALUES = jnp.array([[1.0, 2.0, 3.0], [10.0, 20.0, 30.0]])[..., None] * jnp.ones(5)
WHERE = jnp.array([[True, False, True], [False, False, True]])


@pytest.mark.parametrize(
  "normalise,mean,per_example",
  [
    ("all", 34 / 6, [4 / 3, 10]),
    ("example", (2 + 30) / 2, [2, 30]),
    ("selected", 34 / 3, [2, 30]),
  ],
)
def test_three_ways_to_average(normalise, mean, per_example):
  found = loss.masked_mean(VALUES, where=WHERE, normalise=normalise)
  np.testing.assert_allclose(found.mean, mean, rtol=1e-6)
  np.testing.assert_allclose(found.per_example, per_example, rtol=1e-6)
  full = loss.masked_mean(VALUES, where=None, normalise=normalise)
  np.testing.assert_allclose(full.mean, 11, rtol=1e-6)


def test_what_is_not_selected_cannot_hurt():
  values = VALUES.at[1, 0].set(jnp.nan)

  def mean(values, normalise):
    return loss.masked_mean(values, where=WHERE, normalise=normalise).mean

  for normalise in ("all", "example", "selected"):
    assert jnp.isfinite(mean(values, normalise))
    gradient = jax.grad(mean)(values, normalise)
    assert jnp.isfinite(gradient).all() and (gradient[1, 0] == 0).all()


def test_nothing_selected_is_an_error_and_zero_inside_jit():
  empty = WHERE.at[1].set(False)
  with pytest.raises(UserError, match="1 of 2 examples have none"):
    loss.masked_mean(VALUES, where=empty, normalise="example")
  with pytest.raises(UserError, match="2 of 2"):
    loss.masked_mean(VALUES, where=empty & False, normalise="selected")

  @jax.jit
  def mean(where):
    return [
      loss.masked_mean(VALUES, where=where, normalise=normalise).mean
      for normalise in ("example", "selected")
    ]

  np.testing.assert_allclose(mean(empty), [2, 2], rtol=1e-6)
  np.testing.assert_allclose(mean(empty & False), 0)


def test_names_are_checked(data):
  for kwargs in ({"normalise": "mean"}, {"norm": "l3"}, {"space": "score"}):
    with pytest.raises(UserError, match=next(iter(kwargs.values()))):
      denoising_loss("x", data, **kwargs)


def test_bfloat16_prediction_and_gradient(data):
  x, eps, _, _ = data

  def mean(prediction):
    return loss.denoising_loss(
      "v", prediction, x, eps, LEVEL, where=None, normalise="all", space="eps"
    ).mean

  value, gradient = jax.value_and_grad(mean)(jnp.zeros_like(x, jnp.bfloat16))
  assert value.dtype == jnp.float32 and gradient.dtype == jnp.bfloat16
  assert jnp.isfinite(gradient.astype(jnp.float32)).all()
