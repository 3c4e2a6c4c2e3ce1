"""`vdm-jax plan`, and the metric that `optimize` asks of a model."""

import json
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.helpers import ROOT, vdm_jax
from vdm_jax.diffusion import process
from vdm_jax.diffusion.schedule import CosineSchedule, DiscreteSchedule
from vdm_jax.errors import UserError
from vdm_jax.evaluation import noise_error
from vdm_jax.systems.parts import CondSpec, Noise

SHOW = (
  "plan", "show", "--plan=hierarchy-2", "--length=300", "--num_obs=36",
  "--max_frames=20", "--step_size=10",
)  # fmt: skip


def run(*arguments, cwd, **kwargs):
  return vdm_jax(*arguments, cwd=cwd, data_dir=cwd / "data", **kwargs)


def test_show_prints_the_plan_and_draws_it(tmp_path):
  done = run(*SHOW, "--out=made/scheme.png", "--steps=250", cwd=tmp_path).stdout
  assert "stage 1: samples 37-46 given 65, 94, 123, 153, 182, 36-32\n" in done
  assert "27 stages sample 264 frames" in done
  assert "14 (1 x), 20 (26 x); programs to compile: 2" in done
  assert "network calls at 250 steps: 6750" in done
  assert (tmp_path / "made" / "scheme.png").read_bytes()[1:4] == b"PNG"


def test_show_for_scripts(tmp_path):
  found = json.loads(run(*SHOW, "--json", "--steps=250", cwd=tmp_path).stdout)
  assert found["windows"] == {"14": 1, "20": 26} and len(found["stages"]) == 27
  assert found["stages"][1]["latent"] == list(range(37, 47))
  assert found["network_calls"] == {"250": 6750}


def test_show_says_what_is_wrong(tmp_path):
  for extra, message in (
    ("--step_size=1", "expected 2 to 20 with --max_frames=20"),
    ("--out=x.gif", "expected a name that ends in .png"),
  ):
    done = run(*SHOW, extra, cwd=tmp_path, check=False)
    assert done.returncode == 2 and message in done.stderr
    assert done.stderr.count("\n") == 1


def test_list_names_every_plan_with_its_options(tmp_path):
  done = run("plan", "list", cwd=tmp_path).stdout
  assert "adaptive-hierarchy-3\n" in done and "embedding" in done
  assert "long-range\n  Samples the next S frames" in done


class _Source:
  """Videos whose pixels say which frame they are."""

  full_name, split = "frames", "train"
  lengths = np.array([30, 5, 30, 30, 30])
  labels = np.full(5, -1)

  def __init__(self):
    self.read = []

  def read_many(self, requests):
    self.read.extend((video, tuple(index.tolist())) for video, index in requests)
    return [
      {"frames": np.broadcast_to(i[:, None, None, None], (len(i), 2, 2, 1))}
      for _, i in ((v, np.asarray(index, np.uint8)) for v, index in requests)
    ]


def _system(schedule, levels, stride=1):
  """A system whose network is off by the frame's number times 0.1, at any level."""

  def noise(u, eps):
    if isinstance(schedule, DiscreteSchedule):
      step = schedule.step(u)
      return Noise(schedule.level(step), eps, step)
    return Noise(schedule.sample(u), eps)

  def score(params, video, frames, cond, noise):
    jax.debug.callback(lambda t: levels.extend(t.tolist()), noise.level.time)
    z = process.forward(video, noise.eps, noise.level)
    off = params * process.expand(frames.index, video.ndim)
    return types.SimpleNamespace(output=noise.eps + off, z=z)

  return types.SimpleNamespace(
    schedule=schedule, stride=stride, cond=CondSpec(), noise=noise, score=score,
    objective=types.SimpleNamespace(predict="eps"),
  )  # fmt: skip


@pytest.mark.parametrize("schedule", [CosineSchedule(), DiscreteSchedule.linear(50)])
def test_the_metric_is_the_error_of_the_latent_frames_alone(schedule):
  levels, source = [], _Source()
  metric = noise_error.NoiseError(
    _system(schedule, levels), jnp.asarray(0.1), source,
    length=20, num_videos=4, num_levels=2, batch_size=3,
  )  # fmt: skip
  value = metric(2, [7, 3], [4, 5])
  jax.effects_barrier()
  assert value == pytest.approx(0.1**2 * (4**2 + 5**2), rel=1e-3)
  # All long videos, whole windows, observed frames first.
  assert {video for video, _ in source.read} == {0, 2, 3, 4}
  assert {index for _, index in source.read} == {(7, 3, 4, 5)}
  if isinstance(schedule, DiscreteSchedule):
    # Rescaled times of steps 49 and 24: N - 1 - linspace(0, N, 2, endpoint=False).
    assert set(levels) == {980.0, 480.0}
  # The videos and the noise are the same for every set of this size.
  assert metric(2, [7, 3], [4, 5]) == value
  first, source.read[:] = source.read[: len(source.read) // 2], []
  metric(2, [1, 2], [4, 5])
  assert [video for video, _ in source.read] == [video for video, _ in first]


def test_the_metric_needs_videos_that_are_long_enough():
  make = noise_error.NoiseError
  system, source = _system(CosineSchedule(), [], stride=2), _Source()
  with pytest.raises(UserError, match="expected a multiple of `num_levels=3`"):
    make(system, 0.1, source, length=4, num_videos=4, num_levels=3)
  with pytest.raises(UserError, match="expected 6 videos of 5 frames or more, found 5"):
    make(system, 0.1, source, length=3, num_videos=6, num_levels=3)
  with pytest.raises(UserError, match="expected 3 videos of 39 frames"):
    make(system, 0.1, source, length=20, num_videos=3, num_levels=3)


@pytest.mark.integration
def test_optimize_asks_a_model_and_its_file_is_a_plan(tmp_path):
  run(
    "train", f"--config={ROOT / 'configs' / 'debug.py'}", "--workdir=run",
    "--config.train.num_steps=2", "--config.train.sample_every=0", cwd=tmp_path,
  )  # fmt: skip
  optimize = (
    "plan", "optimize", "--workdir=run", "--plan=autoreg", "--length=4", "--num_obs=2",
    "--max_frames=2", "--num_videos=4", "--num_levels=2", "--out=found.json",
  )  # fmt: skip
  done = run(*optimize, cwd=tmp_path)
  assert "2 stages in found.json" in done.stdout
  done = run(
    "plan", "show", "--plan=optimized", "--length=4", "--num_obs=2",
    "--plan_option=file=found.json", cwd=tmp_path,
  )  # fmt: skip
  assert "stage 1: samples 3 given" in done.stdout
  again = run(*optimize, "--seed=1", cwd=tmp_path, check=False)
  assert again.returncode == 2 and "choose another file" in again.stderr
