"""RVD's configs: one schema, the authors' numbers and sizes."""

import math

import jax
import pytest

from tests import helpers
from vdm_jax import systems
from vdm_jax.training import optimizer

# Frame, preset (channels, multipliers, those of the predictor), parameters, clips.
SMALL = (48, [1, 2, 4, 8], [1, 2, 2, 4])
LARGE = (64, [1, 1, 2, 2, 4, 4], [1, 2, 3, 4])
PAPER = {
  "rvd_bair": ((64, 64, 3), SMALL, 37_611_414, 16),
  "rvd_kth": ((64, 64, 1), SMALL, 37_607_570, 16),
  "rvd_cityscapes": ((128, 128, 3), LARGE, 43_613_702, 8),
  "rvd_simulation": ((128, 128, 1), LARGE, 43_608_578, 8),
}


@pytest.mark.parametrize("name", PAPER)
def test_the_authors_networks_objective_and_sampler(name):
  config = helpers.load_config(name)
  frame, preset, parameters, clips = PAPER[name]
  system = systems.build(config)
  assert system.frame_shape == frame
  model = config["model"]
  assert preset == tuple(
    model[field] for field in ("channels", "channel_mults", "predictor_mults")
  )
  params = jax.eval_shape(system.init, jax.random.key(0))
  assert sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params)) == parameters
  assert system.schedule.num_steps == config["sampling"]["steps"] == 1600
  assert system.schedule.time[-1] == 1599
  assert (system.objective.predict, system.objective.norm) == ("eps", "l1")
  assert not (system.regression_weight or system.step_per_frame or system.stop_gradient)
  assert (system.task.num_context, system.min_given, system.plan) == (2, 2, "rollout")
  assert system.threshold_bound == 2.0
  assert config["sampling"]["sampler"] == "ancestral"
  assert config["sampling"]["gamma"] == 0.0
  assert config["train"]["batch_size"] == clips
  assert config["preflight"]["topology"] == "v5e:2x4"


def test_the_rate_falls_to_a_fifth_in_eight_steps():
  config = helpers.load_config("rvd_bair")
  rate = optimizer.learning_rate(config["optimizer"], config["train"]["num_steps"])
  found = [
    float(rate(100_000 + step)) / 5e-5 for step in (-50_000, 0, 1, 2, 8, 500_000)
  ]
  assert found == pytest.approx([1.0, 1.0, 0.8, 0.64, 0.2, 0.2])


def test_digits_train_and_sample_on_a_cpu():
  config = helpers.load_config("rvd_digits")
  system = systems.build(config)
  params = jax.eval_shape(system.init, jax.random.key(0))
  assert sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params)) < 2e6
  assert (config["sampling"]["sampler"], config["sampling"]["steps"]) == ("ddim", 25)
  assert 0 < system.regression_weight <= 1
