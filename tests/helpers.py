"""What several test files share: the command, the debug config, lively parameters."""

import importlib.util
import json
import os
import pathlib
import subprocess
import sys
from typing import Any

import jax
import numpy as np
import pytest

from vdm_jax import configs, tasks
from vdm_jax.frames import Frames

ROOT = pathlib.Path(__file__).resolve().parents[1]
needs_compiler = pytest.mark.skipif(
  importlib.util.find_spec("libtpu") is None, reason="libtpu is not installed"
)


def vdm_jax(*arguments, cwd, data_dir, check=True, **env):
  """Runs `vdm-jax` in a process of its own, as users do."""
  found = subprocess.run(
    [sys.executable, "-m", "vdm_jax.cli.main", *map(str, arguments)],
    cwd=cwd,
    env={
      **os.environ, "PYTHONPATH": str(ROOT), "VDM_JAX_DATA": str(data_dir), **env,
    },
    capture_output=True,
    text=True,
    timeout=600,
  )  # fmt: skip
  if check:
    assert found.returncode == 0, f"{arguments}\n{found.stderr[-3000:]}"
  return found


def compile_for_tpu(script):
  """Runs a script that compiles for absent TPUs; what it prints last, as JSON."""
  run = subprocess.run(
    [sys.executable, "-c", script],
    capture_output=True,
    text=True,
    cwd=ROOT,
    check=False,
  )
  assert run.returncode == 0, run.stderr
  return json.loads(run.stdout.splitlines()[-1])


def load_config(name: str = "debug", **sections: Any) -> dict[str, Any]:
  """A config of the checkout as plain dicts; sections are merged over it."""
  config = json.loads(configs.get(name).to_json_best_effort())
  for section, values in sections.items():
    if isinstance(values, dict):
      config[section] = {**config[section], **values}
    else:
      config[section] = values
  return config


def tiny_config(**sections):
  """The smallest network there is: a compile of seconds."""
  config = load_config(
    model={"channel_mults": [1], "attention_resolutions": [], "mlp_layers": 1}
  )
  config["task"] = {"name": "unconditional", "num_frames": 2}
  for section, values in sections.items():
    config[section] = {**config[section], **values}
  return config


def lively(params: Any, seed: int = 0, scale: float = 0.2) -> Any:
  """The parameters plus noise: zero-initialised outputs would hide everything."""
  leaves, tree = jax.tree.flatten(params)
  rng = np.random.default_rng(seed)
  noisy = [
    np.asarray(leaf) + scale * rng.standard_normal(leaf.shape).astype(np.float32)
    for leaf in leaves
  ]
  return jax.tree.unflatten(tree, noisy)


def random_batch(
  system: Any, batch_size: int, seed: int = 0, length: int = 40
) -> dict[str, Any]:
  """A batch of noise that fits a system: its own task, random pixels and labels.

  `length` is the number of frames of the videos that it would be cut from.
  """
  rng = np.random.default_rng(seed)
  task: tasks.Task = system.task
  rows = [task.sample(rng, [length] * task.num_sources) for _ in range(batch_size)]
  spec = system.batch_spec(batch_size)
  return {
    "video": rng.integers(0, 256, spec["video"].shape, dtype=np.uint8),
    "frames": Frames(
      **{
        name: np.stack([getattr(row, name) for row in rows])
        for name in ("index", "observed", "latent", "group")
      }
    ),
    "cond": {
      name: rng.integers(0, 10, leaf.shape).astype(leaf.dtype)
      for name, leaf in spec["cond"].items()
    },
  }
