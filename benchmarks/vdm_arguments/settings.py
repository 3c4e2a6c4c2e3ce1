"""The models of the comparisons, and their samples."""

import dataclasses
import json
import re
from typing import Any

from vdm_jax import configs

DATA = "moving_digits/16px_1digit_160frames_2000videos_1minspeed_deterministic"
WINDOW = 10  # Frames: I3D sees no fewer than 9.
LONG = 4 * WINDOW
CLIPS = 60  # Of each setting and seed: six of each digit.
GIVEN = 2  # Frames, in comparison e.

# By name: frameskip and independent images.
MODELS = {
  "skip1": dict(stride=1, images=0),
  "skip4": dict(stride=4, images=0),
  "images4": dict(stride=1, images=4),
  "images8": dict(stride=1, images=8),
}


@dataclasses.dataclass(frozen=True)
class Setting:
  """One row of a comparison.

  Attributes:
    comparison: its letter.
    name: of the row.
    model: that samples, a name of MODELS.
    options: of `Model.sample`.
    base: model whose videos this one fills in; '' for none.
    given: frames of test clips that each video starts from.
  """

  comparison: str
  name: str
  model: str
  options: dict[str, Any] = dataclasses.field(default_factory=dict)
  base: str = ""
  given: int = 0

  @property
  def file(self) -> str:
    """Names the samples: two comparisons that sample alike share them."""
    options = " ".join(f"{key}={value}" for key, value in sorted(self.options.items()))
    words = f"{self.base} {self.model} given={self.given} {options}"
    return "_".join(re.findall(r"[\w.]+", words))

  @property
  def length(self) -> int:
    return self.options.get("length", WINDOW)

  @property
  def stride(self) -> int:
    """Frames of the data from one frame to the next."""
    return MODELS[self.model]["stride"]


def _long(**options):
  return {"length": LONG, "plan_options": {"overlap": WINDOW // 2}, **options}


def _towards(weight):
  return {"method": "reconstruction", "reconstruction_weight": float(weight)}


def _all() -> list[Setting]:
  found = []
  for model in ("skip1", "skip4"):
    found.append(Setting("a", "replacement", model, _long(method="replacement")))
    found.append(Setting("a", "reconstruction, w_r = 2", model, _long(**_towards(2))))
  for model, name in (("skip1", 0), ("images4", 4), ("images8", 8)):
    found.append(Setting("b", f"{name} images", model))
  found.append(Setting("c", "w = 0", "skip1"))
  for weight in (0.5, 1.0, 2.0, 4.0):
    found.append(Setting("c", f"w = {weight:g}", "skip1", {"guidance": weight}))
  found.append(Setting("d", "extension at frameskip 1", "skip1", _long(**_towards(2))))
  found.append(
    Setting("d", "frameskip 4, filled in", "skip1", _long(**_towards(2)), "skip4")
  )
  for calls in (32, 128):
    for sampler, steps in (("ancestral", calls), ("langevin", calls // 2)):
      options = {"sampler": sampler, "steps": steps, **_towards(9)}
      found.append(
        Setting("e", f"{sampler}, {calls} calls", "skip1", options, given=GIVEN)
      )
  return found


SETTINGS = _all()


def chosen(comparisons: list[str]) -> list[Setting]:
  return [setting for setting in SETTINGS if setting.comparison in comparisons]


def samplings(settings: list[Setting]) -> dict[str, Setting]:
  """Returns by its file what has to be sampled for settings, each once."""
  return {setting.file: setting for setting in settings}


def models(settings: list[Setting]) -> list[str]:
  """Lists the names of the models that settings need."""
  needed = {s.model for s in settings} | {s.base for s in settings if s.base}
  return [name for name in MODELS if name in needed]


def config(model: str, seed: int, steps: int, data_dir: str) -> dict[str, Any]:
  """Returns the config of a model: vdm_digits.py without temporal convolutions.

  Those would mix a clip with its independent images. Attention is on two levels, and a
  batch is small, so that images may matter.
  """
  found = configs.get("vdm_digits")
  found = json.loads(found.to_json_best_effort())
  found["seed"] = seed
  found["data"].update(name=DATA, data_dir=data_dir)
  found["task"] = {
    "name": "joint_images",
    "num_frames": WINDOW,
    "num_images": MODELS[model]["images"],
    "stride": MODELS[model]["stride"],
    "flip": False,
  }
  found["model"].update(conv_time=False, attention_resolutions=(8, 4))
  found["sampling"].update(guidance=0.0, steps=32)
  found["optimizer"].update(decay="cosine")
  found["train"].update(
    batch_size=8,
    num_steps=steps,
    log_every=100,
    eval_every=0,
    sample_every=0,
    num_samples=0,
    checkpoint_every=steps,
    keep_last=1,
  )
  return found
