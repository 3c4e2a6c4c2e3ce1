"""Files in the layouts of the published checkpoints, of the full size and small."""

import collections
import json
import pathlib
from typing import Any, NamedTuple

import jax
import numpy as np
import pytest

from tests.golden import case
from vdm_jax import tasks
from vdm_jax.diffusion.schedule import DiscreteSchedule
from vdm_jax.interop import fdm, formats, mapping, ramvid, rvd, torch_file, workdir
from vdm_jax.models import fdm as fdm_model
from vdm_jax.models import ramvid as ramvid_model
from vdm_jax.models import rvd as rvd_model
from vdm_jax.systems import DiffusionSystem, parts

torch = pytest.importorskip("torch")

GOLDEN = pathlib.Path(case.__file__).parent / "data"
SIZE = 32
STEPS = 40


def examine(system, path, *, shapes_only=False, dataset=None, raw=False, asked=None):
  """As the command does."""
  contents = torch_file.read(str(path), shapes_only)
  file = formats.File(path.name, contents, dataset, raw)
  return workdir.examine(system, file, asked)


def empty(shapes):
  """A state dict that takes no room: one element on disk for every tensor."""
  return collections.OrderedDict(
    (key, torch.nn.Parameter(torch.zeros(()).expand(*shape)))
    for key, shape in shapes.items()
  )


def filled(shapes, seed=0):
  rng = np.random.default_rng(seed)
  return collections.OrderedDict(
    (key, torch.nn.Parameter(torch.tensor(0.1 * rng.standard_normal(shape)).float()))
    for key, shape in shapes.items()
  )


def fdm_layout(name):
  """(options, shapes, parameters)."""
  found = json.loads((GOLDEN / "fdm_checkpoint_layout.json").read_text())
  layout = found["layouts"][name]
  return layout["config"], layout["state_dict"], layout["n_parameters"]


def ramvid_layout(name):
  """(shapes, parameters)."""
  found = json.loads((GOLDEN / "ramvid_checkpoint_keys.json").read_text())
  layout = found["configs"][name]
  return layout["keys"], layout["number_of_parameters"]


def network_shapes(network, entries, size=SIZE, frames=4):
  """Shapes of a state dict, by key."""
  module = DiffusionSystem(
    network=network,
    schedule=DiscreteSchedule.linear(STEPS),
    objective=parts.Objective("eps", "eps"),
    task=tasks.Unconditional(frames),
    frame_shape=(size, size, 3),
  )
  params = jax.eval_shape(module.init, jax.random.key(0))
  return mapping.state_shapes(entries, params)


class Small(NamedTuple):
  """A small checkpoint: contents of the file, its name, how to sample from it."""

  contents: Any
  name: str
  asked: dict[str, Any]
  length: int
  given: tuple[tuple[int, ...], ...]  # Of each video that is asked for.


def small_fdm():
  options, _, _ = fdm_layout("carla128_readme_command")
  options |= {"image_size": SIZE, "num_channels": 32, "attention_resolutions": "8"}
  options |= {"diffusion_steps": STEPS, "max_frames": 4, "T": 8, "batch_size": 8}
  settings = fdm.settings_from_options(options)
  shapes = network_shapes(fdm_model.FdmUNet(settings), fdm.entries(settings, SIZE))
  contents = {"state_dict": filled(shapes), "config": options, "step": 3}
  return Small(contents, "ema_0.9999_000003.pt", {}, 6, ((0, 1, 2),))


def small_ramvid():
  settings = ramvid_model.RamvidSettings(
    channels=32, channel_mults=(1, 2), blocks=1, attention_resolutions=(16,)
  )
  network = ramvid_model.RamvidUNet(settings)
  shapes = network_shapes(network, ramvid.entries(settings, SIZE))
  asked = {
    "data.frame_shape": (SIZE, SIZE, 3),
    "task.num_frames": 4,
    "task.max_observed": 2,
    "train.batch_size": 8,
  }
  # Prediction, infilling, up-sampling in time, generation.
  given = ((0,), (0, 3), (0, 2), ())
  return Small(filled(shapes), "ema_0.9999_000003.pt", asked, 4, given)


def small_rvd():
  settings = rvd_model.RvdSettings(
    channels=8, channel_mults=(1, 2), predictor_mults=(1, 2)
  )
  shapes = network_shapes(rvd_model.RvdNetwork(settings), rvd.entries(settings))
  shapes |= dict.fromkeys(rvd.TABLES, (STEPS,))
  contents = {"step": 3, "model": filled(shapes, 1), "ema": filled(shapes)}
  asked = {
    "data.frame_shape": (SIZE, SIZE, 3),
    "task.num_frames": 4,
    "train.batch_size": 8,
  }
  return Small(contents, "small.pt", asked, 4, ((0, 1),))


SMALL = {"fdm": small_fdm, "ramvid": small_ramvid, "rvd": small_rvd}
