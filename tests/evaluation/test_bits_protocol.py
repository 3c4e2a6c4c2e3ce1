"""Protocol `bits`: draws of few levels are unbiased; conditioning; what is refused."""

import contextlib
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import helpers
from vdm_jax import plans, systems
from vdm_jax.errors import UserError
from vdm_jax.evaluation import bits_protocol, protocol, protocols
from vdm_jax.systems.observed import ByNetwork


def small(name, **sections):
  config = helpers.load_config(name, **sections)
  config["data"]["frame_shape"] = (8, 8, 1)
  config["model"] |= {"channels": 32, "channel_mults": (1,), "patch": 1}
  config["model"]["attention_resolutions"] = ()
  system = systems.build(config)
  params = helpers.lively(jax.jit(system.init)(jax.random.key(0)), scale=0.05)
  video = helpers.random_batch(system, 2)["video"] / 127.5 - 1
  return system, params, jnp.asarray(video)


@pytest.fixture(scope="module")
def discrete():
  return small(
    "ramvid_digits",
    diffusion={"schedule": "linear_steps", "num_steps": 24, "predict": "eps",
               "loss_space": "eps"},
  )  # fmt: skip


def means(system, params, video, draws, context=0, repeats=24):
  program = jax.jit(
    lambda keys: bits_protocol.terms(system, context, draws, params, video, keys)
  )
  found = [program(jax.random.split(jax.random.key(i), 2)) for i in range(repeats)]
  values = np.array([f["bound"] for f in found]).mean(1)
  return values.mean(), values.std(ddof=1) / np.sqrt(repeats)


@pytest.mark.integration
def test_some_steps_are_all_steps_on_average(discrete):
  every, error_every = means(*discrete, draws=0, repeats=4)
  some, error = means(*discrete, draws=6)
  assert error_every < error and abs(some - every) < 4 * np.hypot(error, error_every)


def test_given_frames_do_not_count(discrete):
  system, params, video = discrete
  keys = jax.random.split(jax.random.key(0), 2)
  first = bits_protocol.terms(system, 2, 4, params, video, keys)
  changed = video.at[:, 0].set(-video[:, 0])
  second = bits_protocol.terms(system, 2, 4, params, changed, keys)
  # They are seen by the network, no more: the prior is of the others alone.
  np.testing.assert_array_equal(first["prior"], second["prior"])
  assert np.abs(first["bound"] - second["bound"]).max() > 1e-4


def test_terms_add_up_and_a_bound_in_continuous_time_is_finite():
  system, params, video = small("ramvid_digits")
  keys = jax.random.split(jax.random.key(0), 2)
  found = bits_protocol.terms(system, 0, 4, params, video, keys)
  np.testing.assert_allclose(
    found["bound"], found["prior"] + found["decoder"] + found["diffusion"], rtol=1e-5
  )
  assert np.isfinite(found["bound"]).all() and (found["bound"] > 0).all()


@pytest.mark.parametrize(("draws", "levels"), [(0, 24), (7, 7), (99, 24)])
def test_no_step_of_a_discrete_schedule_counts_twice(
  discrete, tmp_path, monkeypatch, draws, levels
):
  system, params, video = discrete
  info = {"config": {"data": {"name": "x"}}, "step": 1, "ema": ""}
  model = types.SimpleNamespace(system=system, params=params, info=info)
  clips = np.asarray((video + 1) * 127.5).astype(np.uint8)
  monkeypatch.setattr(bits_protocol.sampling, "load", lambda *_, **__: model)
  monkeypatch.setattr(bits_protocol.run_data, "given_clips", lambda *_: clips)
  monkeypatch.setattr(
    bits_protocol, "terms", lambda *args: {"bound": args[-2].mean((1, 2, 3, 4))}
  )
  built = protocols.build("bits", {"workdir": "x", "num_clips": 2, "draws": draws})
  assert built.run(tmp_path).result["levels_per_clip"] == levels


@pytest.mark.integration
def test_through_the_command(run, tmp_path):
  settings = {"workdir": run, "num_clips": 3, "batch_size": 2, "draws": 2}
  result = protocol.evaluate(protocols.build("bits", settings), tmp_path / "o").result
  assert result["clips"] == 3 and result["bits"]["bound"]["mean"] > 0
  assert "bits per dimension" in (tmp_path / "o" / "table.txt").read_text()
  # A clip's bits do not depend on its batch.
  one = protocols.build("bits", {**settings, "batch_size": 3})
  again = protocol.evaluate(one, tmp_path / "p").result
  assert again["bits"]["bound"]["mean"] == pytest.approx(
    result["bits"]["bound"]["mean"], rel=1e-4
  )


@pytest.mark.parametrize(
  ("min_given", "context", "message"),
  [(8, 6, ""), (8, 0, "expected 1 to 7"), (8, 8, "expected 1 to 7"),
   (4, 3, "expected 4 to 7"), (4, 4, "")],
)  # fmt: skip
def test_windows_of_long_videos_are_given_fewer_frames(min_given, context, message):
  """FDM's windows may be no longer than what its long videos are given."""
  system = types.SimpleNamespace(
    windows=plans.AnyFrames(), observed=ByNetwork(), min_given=min_given, window=8
  )
  built = protocols.build("bits", {"workdir": "x", "num_context": context})
  expected = pytest.raises(UserError, match=message)
  with expected if message else contextlib.nullcontext():
    built._check(system)


@pytest.mark.parametrize(
  ("settings", "message"),
  [
    ({"workdir": ""}, "expected `workdir=RUN`"),
    ({"num_context": 2}, "not told of given frames"),
    ({"num_context": 99}, "`num_context=99`: expected 0 to"),
    ({"draws": -1}, "`draws`: expected >= 0"),
    ({"batch_size": 0}, "`batch_size`: expected >= 1"),
  ],
)
def test_what_is_refused(run, tmp_path, settings, message):
  with pytest.raises(UserError, match=message):
    protocols.build("bits", {"workdir": run, **settings}).run(tmp_path)
