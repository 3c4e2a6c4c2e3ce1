"""Configs of RaMViD: they load, describe a system, and have the authors' numbers."""

import jax
import pytest

from tests import helpers
from tests.test_configs import load
from vdm_jax import plans, systems, tasks
from vdm_jax.errors import UserError
from vdm_jax.sampling.settings import SamplerSettings

NAMES = ("ramvid_kinetics600", "ramvid_bair", "ramvid_ucf101", "ramvid_digits")


@pytest.mark.parametrize("name", NAMES)
def test_config_describes_a_system_and_how_to_sample_it(name):
  config = helpers.load_config(name)
  system = systems.build(config)
  settings = SamplerSettings.from_config(config["sampling"])
  assert len(settings.grid(system.schedule).logsnr) == config["sampling"]["steps"] + 1
  for length, given in ((system.window, (0, 3)), (3 * system.window + 1, (0,))):
    plan = plans.build(
      system.plan, length=length, given=given, window=system.window,
      **system.plan_options,
    )  # fmt: skip
    # One compiled program serves all windows.
    assert {f.shape[1] for f in plans.stages(plan)} == {system.window}


@pytest.mark.parametrize(
  "name, frames, blocks, rate, batch, parameters",
  [
    ("ramvid_kinetics600", 16, 3, 0.25, 64, 308_343_427),
    ("ramvid_bair", 20, 2, 0.25, 32, 235_071_875),
    ("ramvid_ucf101", 16, 3, 0.75, 64, 308_343_427),
  ],
)
def test_the_authors_settings(name, frames, blocks, rate, batch, parameters):
  config = helpers.load_config(name)
  system = systems.build(config)
  shapes = jax.eval_shape(system.init, jax.random.key(0))
  assert sum(leaf.size for leaf in jax.tree.leaves(shapes)) == parameters
  assert config["model"]["blocks"] == blocks
  assert config["train"]["batch_size"] == batch
  assert system.task == tasks.RandomMask(
    frames, max_observed=4, uncondition_rate=rate, mask_range=[]
  )
  d, optimizer, sampling = (config[s] for s in ("diffusion", "optimizer", "sampling"))
  assert (d["schedule"], d["num_steps"], d["predict"]) == ("linear_steps", 1000, "eps")
  assert (d["where"], d["normalise"]) == ("latent", "example")
  # FIXED_LARGE, in the bound and in sampling.
  assert system.gamma == sampling["gamma"] == 1.0 and sampling["steps"] == 1000
  assert (optimizer["learning_rate"], optimizer["weight_decay"]) == (2e-5, 0.0)
  assert (optimizer["clip_norm"], optimizer["warmup_steps"]) == (1.0, 0)
  assert list(config["train"]["ema"]) == [0.9999]


def test_arguments_of_the_small_config():
  assert load("ramvid_digits:p=0.75").task.uncondition_rate == 0.75
  task = tasks.build(load("ramvid_digits:task=mcvd").task.to_dict())
  assert isinstance(task, tasks.PastFuture) and task.num_frames == 8


def test_a_task_of_several_videos_is_refused():
  joint = {"name": "joint_images", "num_frames": 6, "num_images": 2}
  config = helpers.load_config("ramvid_digits") | {"task": joint}
  with pytest.raises(UserError, match="takes clips of one video, found 'joint_images'"):
    systems.build(config)
