"""Protocol `fvd`: the distance between the videos of two sources.

It reports the Fréchet distance (FVD), the kernel distance (KVD) and FVD extrapolated to
infinitely many videos, on features of I3D or C3D or on the user's own features. A
preset is one published protocol; every setting that departs from it is named on every
line.
"""

import dataclasses
import math
from typing import Any, ClassVar

import numpy as np
from etils import epath

from vdm_jax import key_values
from vdm_jax.errors import UserError
from vdm_jax.evaluation import (
  clip_sources,
  distances,
  feature_store,
  fvd_table,
  presets,
  protocol,
)
from vdm_jax.metrics import (
  features,
  inception,
  jackknife,
  resize,
  weights,
)
from vdm_jax.metrics.networks import c3d, i3d

_WINDOWS = ("first", "random")
_SAME_FPS = 0.05  # A GIF's times are hundredths of a second: 12 fps become 12.5.
# Smallest allowed values of numbers.
_LEAST = {
  "num_a": 0, "num_b": 0, "num_frames": -1, "num_context": 0, "bn_eps": 0.0, "ddof": -1,
  "inception_splits": 0, "fps": 0.0, "size": 0, "batch_size": 1, "seed": 0,
}  # fmt: skip
setting = protocol.setting


@dataclasses.dataclass(frozen=True)
class Fvd:
  """Measures FVD and KVD, see the module's text; '' and 0 take the preset's value."""

  name: ClassVar[str] = "fvd"
  several: ClassVar[bool] = True

  a: tuple[str, ...] = setting((), "what is measured: a folder of videos or samples, a "
    "run, a data set (NAME:SPLIT), or features (.npz); repeated for further samples of "
    "the same videos: measured together and one by one (trajectories)")  # fmt: skip
  b: str = setting("", "what it is compared with, named as a is; real videos")
  preset: str = setting("", f"a published protocol: {', '.join(presets.PRESETS)}")
  num_a: int = setting(
    0, "number of videos of a, from the first on; a run makes so many"
  )
  num_b: int = setting(0, "number of videos of b, from the first on")
  num_frames: int = setting(
    0, "number of frames of a clip; -1 is all, of videos of one length"
  )
  window: str = setting("", "which frames of a video a clip holds: first or random")
  include_conditioning: str = setting("", "whether given frames count: yes or no")
  num_context: int = setting(
    0, "number of given frames at the start, if the samples do not record it"
  )
  network: str = setting("", "network of the features: i3d or c3d")
  weights: str = setting("", "name of the network's weights; see vdm-jax weights list")
  layer: str = setting(
    "", "output of the network: logits or pool (I3D), features or logits (C3D)"
  )
  resize: str = setting("", f"how frames are resized to 224: {', '.join(resize.RULES)}")
  bn_eps: float = setting(0.0, "epsilon of I3D's batch norms")
  dtype: str = setting(
    "float32", "dtype of I3D's convolutions; bfloat16 changes the numbers"
  )
  ddof: int = setting(-1, "number d in covariances divided by n - d: 0 or 1")
  root: str = setting(
    "", f"root of the product of covariances: {', '.join(distances.ROOTS)}"
  )
  inception_splits: int = setting(
    0, "number of parts of a for the Inception score (C3D)"
  )
  fps: float = setting(
    0.0, "frames per second at which frames of folders of videos are read"
  )
  size: int = setting(
    0, "height and width to which frames of folders of videos are resized first"
  )
  any_fps: bool = setting(
    False, "whether videos of different frame rates may be compared"
  )
  features: str = setting("", "folder that keeps features; default that of the results")
  batch_size: int = setting(4, "number of clips through the network at a time")
  seed: int = setting(0, "seed of random windows and of a run's noise")
  sampling: tuple = setting(
    (), "sampling setting of a run as KEY=VALUE; may be repeated"
  )
  data_dir: str = setting("", "folder of the data sets; default $VDM_JAX_DATA")

  def __post_init__(self):
    if isinstance(self.a, str):
      object.__setattr__(self, "a", (self.a,) if self.a else ())

  def run(self, out: epath.Path) -> protocol.Outcome:
    preset = presets.find(self.preset)
    wanted, departs = self._resolve(preset)
    parts, b = self._sources(wanted)
    # Frames of real videos that correspond to those given to the model.
    skipped = max(self.num_context, *(source.context for source in (*parts, b)))
    skipped = 0 if wanted["include_conditioning"] else skipped
    for argument, source in (*(("a", part) for part in parts), ("b", b)):
      if source.given > skipped and not wanted["include_conditioning"]:
        raise UserError(
          f"`{argument}={source.name}`: frames after the first {source.context} were "
          "given, too, and cannot be left out: `include_conditioning=yes` counts them"
        )
    shapes = {}
    if b.features is None:
      shapes = {source.name: source.first_shape() for source in (*parts, b)}
    if self.preset and not self.num_frames and shapes:
      departs += _shorten(wanted, shapes, skipped)
    departs += [
      f"{count} videos in {name}, the preset wants {number}"
      for name, count, number in (
        ("a", sum(part.count for part in parts), preset.num_a),
        ("b", b.count, preset.num_b),
      )
      if self.preset and number and count != number
    ]
    found, logits, about = self._features(parts, b, wanted, skipped, out)
    first, second = np.concatenate(found[:-1]), found[-1]
    result = distances.measure(first, second, root=wanted["root"], ddof=wanted["ddof"])
    if len(parts) > 1:
      each = [
        distances.ROOTS[wanted["root"]](x, second, wanted["ddof"]) for x in found[:-1]
      ]
      result["fvd_trajectories"] = {
        "value": float(np.mean(each)),
        "error": float(np.std(each, ddof=1) / np.sqrt(len(each))),
        "each": [float(value) for value in each],
      }
    if logits is not None:
      splits = wanted["inception_splits"]
      scores = inception.scores(logits, splits)
      value, error = jackknife.estimate(
        lambda n: inception.scores(logits[n], splits).mean(), len(logits)
      )
      result["inception_score"] = {"value": value, "error": error, "splits": splits}
      result["inception_score"]["std"] = float(scores.std())
    result |= {
      "preset": {
        "name": self.preset or presets.DEFAULT,
        "text": preset.text,
        "known": preset.known,
        "published": preset.published,
      },
      "departs": departs,
      "notes": _notes(shapes),
      "used": wanted,
      "extractor": about,
      "a": [part.describe() for part in parts],
      "b": b.describe(),
    }
    return protocol.Outcome(result, fvd_table.table(result))

  def _resolve(self, preset: presets.Preset) -> tuple[dict[str, Any], list[str]]:
    """Returns all settings, and names those that depart from the preset."""
    protocol.check_least(self, **_LEAST)
    wanted, departs = preset.settings(), []
    asked = {
      "num_frames": self.num_frames,
      "window": self.window,
      "network": self.network,
      "resize": self.resize,
      "bn_eps": self.bn_eps,
      "root": self.root,
      "inception_splits": self.inception_splits,
    }
    asked = {key: value for key, value in asked.items() if value}
    if self.ddof > 1:
      raise UserError(f"`ddof`: expected 0 or 1, found {self.ddof}")
    if self.ddof >= 0:
      asked["ddof"] = self.ddof
    if self.include_conditioning:
      if self.include_conditioning not in ("yes", "no"):
        raise UserError(
          "`include_conditioning`: expected yes or no, found "
          f"{self.include_conditioning!r}"
        )
      asked["include_conditioning"] = self.include_conditioning == "yes"
    for key, value in asked.items():
      if value != wanted[key]:
        departs.append(f"{key} {value} instead of {wanted[key]}")
      wanted[key] = value
    for key, known in (
      ("window", _WINDOWS), ("root", tuple(distances.ROOTS)), ("resize", resize.RULES),
      ("network", tuple(features.LAYERS)),
    ):  # fmt: skip
      if wanted[key] not in known:
        raise UserError(
          f"`{key}`: expected one of {', '.join(known)}, found {wanted[key]!r}"
        )
    if wanted["inception_splits"] and wanted["network"] != "c3d":
      raise UserError("`inception_splits`: an Inception score is C3D's: `network=c3d`")
    if self.layer and self.layer != features.LAYERS[wanted["network"]][0]:
      departs.append(f"layer {self.layer}")
    if self.dtype != "float32":
      departs.append(f"convolutions in {self.dtype}")
    wanted["num_a"] = self.num_a or preset.num_a
    wanted["num_b"] = self.num_b or preset.num_b
    return wanted, departs if self.preset else []

  def _sources(self, wanted) -> tuple[list[clip_sources.Source], clip_sources.Source]:
    options = key_values.parse(self.sampling, "sampling")

    def open_source(argument, name, count):
      return clip_sources.open_source(
        name,
        argument=argument,
        count=count,
        fps=self.fps,
        size=self.size,
        seed=self.seed,
        data_dir=self.data_dir,
        options=options,
      )

    # A preset's number is the total over all sources.
    count = self.num_a or -(-wanted["num_a"] // max(len(self.a), 1))
    parts = [open_source("a", name, count) for name in self.a or [""]]
    b = open_source("b", self.b, wanted["num_b"])
    kinds = {source.kind for source in (*parts, b)}
    for key, kind, what in (
      ("fps", "videos", "folders of videos"),
      ("size", "videos", "folders of videos"),
      ("sampling", "run", "runs"),
    ):
      if getattr(self, key) and kind not in kinds:
        raise UserError(
          f"`{key}`: is for {what}; `a` and `b` are of kind {', '.join(sorted(kinds))}"
        )
    for a in parts:
      if (a.features is None) != (b.features is None):
        raise UserError(
          "`a`, `b`: expected videos or features (.npz) in both, found one of each"
        )
      same = not (a.fps and b.fps) or math.isclose(a.fps, b.fps, rel_tol=_SAME_FPS)
      if not same and not self.any_fps:
        raise UserError(
          f"`a`, `b`: {a.fps:g} and {b.fps:g} frames a second: other videos; "
          + "`fps=RATE` reads folders of videos at one rate, " * ("videos" in kinds)
          + "`any_fps` compares them as they are"
        )
    if len(set(self.a)) < len(self.a):
      raise UserError(f"`a={', '.join(self.a)}`: the same videos twice")
    return parts, b

  def _features(self, parts, b, wanted, skipped, out):
    """Computes features of all sources, --b last, logits, and a description of both."""
    if b.features is not None:
      widths = [x.features.shape[1] for x in (*parts, b)]
      if len(set(widths)) > 1:
        found = " and ".join(map(str, widths))
        raise UserError(f"`a`, `b`: features of {found} dimensions")
      return [x.features for x in (*parts, b)], None, {"network": "the user's own"}
    network = wanted["network"]
    name = self.weights or network
    if weights.network_of(name) != network:
      raise UserError(f"`weights={name}`: expected those of {network}")
    extractor = features.Extractor(
      weights.load(name),
      resize=wanted["resize"],
      layer=self.layer or features.LAYERS[network][0],
      bn_eps=wanted["bn_eps"],
      dtype=self.dtype,
      batch_size=self.batch_size,
    )
    if network == "c3d":
      if wanted["num_frames"] != c3d.FRAMES:
        raise UserError(
          f"`num_frames={wanted['num_frames']}`: C3D wants {c3d.FRAMES} frames"
        )
    elif 0 < wanted["num_frames"] < i3d.MIN_FRAMES:
      raise UserError(
        f"`num_frames={wanted['num_frames']}`: I3D wants {i3d.MIN_FRAMES} or more; "
        "conditioning frames that do not count are not among them"
      )
    folder = self.features or out / "features"
    found, lengths = [], set()
    for argument, source in (*(("a", part) for part in parts), ("b", b)):
      window = self._window(argument, source, wanted, skipped, lengths)
      about = {"num_frames": wanted["num_frames"], "window": wanted["window"]}
      about |= {"seed": self.seed, "skipped": skipped}
      found.append(feature_store.features(source, window, extractor, folder, about))
    logits = None
    if network == "c3d" and wanted["inception_splits"]:
      of_logits = dataclasses.replace(extractor, layer="logits")
      logits = np.concatenate([
        feature_store.features(
          part,
          self._window("a", part, wanted, skipped, set()),
          of_logits,
          folder,
          about,
        )
        for part in parts
      ])  # fmt: skip
    return found, logits, extractor.describe()

  def _window(self, argument, source, wanted, skipped, lengths):
    """Returns the function that cuts a clip out of a video."""
    count = max(wanted["num_frames"], 0)
    sizes: set[tuple[int, ...]] = set()

    def window(number: int, video: np.ndarray) -> np.ndarray:
      sizes.add(video.shape[1:3])
      if len(sizes) > 1:
        h2, w2 = video.shape[1:3]
        ((h1, w1),) = sizes - {(h2, w2)}
        raise UserError(
          f"`{argument}={source.name}`: video {number} has frames of {h2}x{w2}, others "
          f"have {h1}x{w1}; `size=N` fits videos to N x N"
        )
      video = video[skipped:]
      if len(video) < count:
        raise UserError(
          f"`{argument}={source.name}`: video {number} has {len(video)} frames"
          + (f" after the {skipped} given ones" * bool(skipped))
          + f", expected {count} or more (`num_frames`)"
        )
      if not count:
        if wanted["network"] == "i3d" and len(video) < i3d.MIN_FRAMES:
          raise UserError(
            f"`{argument}={source.name}`: video {number} has {len(video)} frames, I3D "
            f"wants {i3d.MIN_FRAMES} or more"
          )
        lengths.add(len(video))
        if len(lengths) > 1:
          raise UserError(
            f"`a`, `b`: videos of {min(lengths)} and of {max(lengths)} frames; "
            "`num_frames=N` takes N of each"
          )
        return video
      first = 0
      if wanted["window"] == "random":
        rng = np.random.default_rng((self.seed, number))
        first = int(rng.integers(len(video) - count + 1))
      return video[first : first + count]

    return window


def _notes(shapes: dict[str, tuple[int, ...]]) -> list[str]:
  """Lists unexpected properties of the sources' first videos."""
  notes = [
    f"{name}: gray, repeated to three channels"
    for name, shape in shapes.items()
    if shape[-1] == 1
  ]
  sizes = {name: "x".join(map(str, shape[1:3])) for name, shape in shapes.items()}
  if len(set(sizes.values())) > 1:
    of_each = ", ".join(f"{size} in {name}" for name, size in sizes.items())
    notes.append(f"frames of different sizes: {of_each}")
  return notes


def _shorten(wanted, shapes, skipped: int) -> list[str]:
  """Shortens clips to the frames that exist if a preset asks for more, and says so.

  Only the first video of each source is considered; shorter ones after it raise an
  error that names them.

  Raises:
    UserError: nothing is left of a video after its given frames.
  """
  lengths = {name: shape[0] - skipped for name, shape in shapes.items()}
  name = min(lengths, key=lengths.get)
  if lengths[name] >= wanted["num_frames"]:
    return []
  if lengths[name] < 1:
    raise UserError(
      f"{name}: video 0 has {shapes[name][0]} frames, of which the {skipped} given "
      "ones do not count"
    )
  text = (
    f"{lengths[name]} frames, all of {name}, the preset wants {wanted['num_frames']}"
  )
  wanted["num_frames"] = lengths[name]
  return [text]
