"""Video diffusion models in JAX: VDM, FDM, RaMViD and RVD as one design.

    import vdm_jax as vdm

    config = vdm.configs.get("vdm_digits", train={"num_steps": 1000})
    vdm.train(config, "runs/first")
    videos = vdm.load("runs/first").sample(4, label=3, guidance=2.0)

Everything is imported when it is first used.
"""

from typing import TYPE_CHECKING

import lazy_loader

if TYPE_CHECKING:
  from vdm_jax import (
    configs,
    data,
    diffusion,
    metrics,
    models,
    plans,
    systems,
    tasks,
  )
  from vdm_jax.errors import UserError
  from vdm_jax.experiment import train
  from vdm_jax.frames import Frames
  from vdm_jax.sampling import Model, load

__version__ = "0.1.0"

__getattr__, __dir__, _ = lazy_loader.attach(
  __name__,
  submodules=[
    "configs",
    "data",
    "diffusion",
    "metrics",
    "models",
    "plans",
    "systems",
    "tasks",
  ],
  submod_attrs={
    "errors": ["UserError"],
    "experiment": ["train"],
    "frames": ["Frames"],
    "sampling": ["Model", "load"],
  },
)

__all__ = [
  "Frames",
  "Model",
  "UserError",
  "configs",
  "data",
  "diffusion",
  "load",
  "metrics",
  "models",
  "plans",
  "systems",
  "tasks",
  "train",
]
