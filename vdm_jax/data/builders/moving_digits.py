"""Moving digits: stochastic Moving MNIST from the digits in scikit-learn's wheel.

Nothing is downloaded: `sklearn.datasets.load_digits` has 1797 handwritten digits of 8x8
pixels. They are enlarged and bounce in a frame by the dynamics of stochastic Moving
MNIST (SVG, MCVD), for any frame size.

Dynamics. A digit of size d in a frame of size S has its top-left corner at
(x, y), 0 <= x, y < L = S - d. The start is uniform; the velocity (dx, dy) is uniform
on {-V..V}^2, zero included. Before each frame is drawn, y and then x is tested:

    below 0        -> set to 0,     its velocity redrawn from {1..V}
    L or above     -> set to L - 1, its velocity redrawn from {-V..-1}

and the *other* velocity is redrawn from {-V..V} (so that in a corner the x test may
send y back into the wall, as in the original). In the deterministic variant the
velocity changes sign and nothing is redrawn. Then the digit is added to the frame,
the velocity to the position, and the frame is clipped to 1. The original has S = 64,
d = 32, V = 4; here V scales with the frame: V = max(1, round(S / 16)).

With a smallest speed m > 0 every velocity along an axis is drawn from {-V..-m, m..V}
(or {m..V}, {-V..-m} at a wall), so that a digit never stands still except for the one
frame in which both walls of a corner stop it. Without m it often does in small frames:
at 16 pixels a third of all draws are zero.

With captions, a clip's first direction is uniform over eight, and its start is in the
quarter of the frame opposite to it, so that the movement is visible; captions come in
several wordings. Two of the eight directions of each digit occur only in the test split
(`held_out`), so that a model cannot have memorised those captions.

Clip `index` of a split depends on (seed, split, index) only.
"""

import dataclasses
import functools
import re
from typing import ClassVar, NamedTuple

import numpy as np

from vdm_jax.data import records
from vdm_jax.errors import UserError

SPLITS = ("train", "validation", "test")
# Digit images of the other splits; the rest, about 1200, are for training.
_HELD_OUT = 300
_TOKENS = {
  "px": "image_size",
  "digit": "num_digits",
  "digits": "num_digits",
  "frames": "num_frames",
  "videos": "num_videos",
  "digitpx": "digit_size",
  "minspeed": "min_speed",
  "maxspeed": "speed_limit",
  "every": "every",
  "seed": "seed",
  "chunk": "chunk",
}


def _require(holds: bool, field: str, expected: str, found) -> None:
  if not holds:
    raise UserError(f"moving_digits {field}: expected {expected}, found {found}")


@dataclasses.dataclass(eq=False)
class MovingDigitsConfig(records.ChunkConfig):
  """Options; the config's name holds all non-default values."""

  image_size: int = records.option(64, "height and width of a frame in pixels")
  digit_size: int = records.option(
    0, "height and width of a digit in pixels; 0: half a frame"
  )
  num_digits: int = records.option(2, "number of digits per clip")
  num_frames: int = records.option(20, "frames per clip")
  num_videos: int = records.option(
    10_000, "number of training clips; other splits have a tenth"
  )
  channels: int = records.option(1, "number of channels: 1, or 3 equal ones")
  deterministic: bool = records.option(
    False, "whether walls reflect, without random draws"
  )
  min_speed: int = records.option(
    0, "smallest speed along an axis, in pixels per frame"
  )
  speed_limit: int = records.option(
    0, "largest speed along an axis, in pixels per frame; 0: image_size / 16"
  )
  every: int = records.option(1, "number of frames from one move to the next")
  captions: bool = records.option(
    False, "whether clips have captions, see the module's text"
  )
  seed: int = records.option(0, "seed of the whole data set")

  def __post_init__(self):
    self.digit_size = self.digit_size or self.image_size // 2
    for field, least in (("num_digits", 1), ("num_frames", 1), ("num_videos", 1)):
      _require(
        getattr(self, field) >= least, field, f">= {least}", getattr(self, field)
      )
    _require(self.channels in (1, 3), "channels", "1 or 3", self.channels)
    _require(self.digit_size >= 8, "digit_size", ">= 8", self.digit_size)
    room = self.image_size - self.digit_size
    _require(room >= 2, "image_size", f">= {self.digit_size + 2}", self.image_size)
    _require(self.speed_limit >= 0, "speed_limit", ">= 0", self.speed_limit)
    _require(self.every >= 1, "every", ">= 1", self.every)
    _require(
      0 <= self.min_speed <= self.max_speed,
      "min_speed",
      f"0 to {self.max_speed}, the largest speed",
      self.min_speed,
    )
    self.name = self._canonical_name()

  def _canonical_name(self) -> str:
    parts = [
      f"{self.image_size}px",
      f"{self.num_digits}digit" + "s" * (self.num_digits > 1),
      f"{self.num_frames}frames",
    ]
    if self.digit_size != self.image_size // 2:
      parts.append(f"{self.digit_size}digitpx")
    if self.num_videos != 10_000:
      parts.append(f"{self.num_videos}videos")
    if self.min_speed:
      parts.append(f"{self.min_speed}minspeed")
    if self.speed_limit:
      parts.append(f"{self.speed_limit}maxspeed")
    if self.every != 1:
      parts.append(f"{self.every}every")
    parts += ["rgb"] * (self.channels == 3) + ["deterministic"] * self.deterministic
    parts += ["captions"] * self.captions
    if self.seed:
      parts.append(f"{self.seed}seed")
    if self.chunk != 8:
      parts.append(f"{self.chunk}chunk")
    return "_".join(parts)

  @property
  def max_speed(self) -> int:
    """Returns the largest speed V along an axis, in pixels per frame."""
    return self.speed_limit or max(1, round(self.image_size / 16))


class Clip(NamedTuple):
  """One generated clip.

  Attributes:
    frames: uint8 [T, S, S, C].
    positions: float32 [T, D, 2], (x, y) of each digit's top-left corner, in pixels.
    labels: int [D], classes of the digits.
    velocities: int [T, D, 2], (dx, dy) added after each frame, in pixels.
    caption: description of the digits and their first directions.
  """

  frames: np.ndarray
  positions: np.ndarray
  labels: np.ndarray
  velocities: np.ndarray
  caption: str


class MovingDigits(records.ChunkBuilder):
  """Handwritten digits bouncing in a frame (stochastic Moving MNIST dynamics)."""

  CONFIG = MovingDigitsConfig
  EMBEDDED = True
  BUILDER_CONFIGS: ClassVar = [
    MovingDigitsConfig(image_size=16, num_digits=1, num_frames=8),
    MovingDigitsConfig(image_size=16, num_digits=1, num_frames=20),
    MovingDigitsConfig(image_size=32, num_digits=1, num_frames=16),
    MovingDigitsConfig(image_size=32, num_digits=2, num_frames=20),
    MovingDigitsConfig(),
    MovingDigitsConfig(num_frames=100, num_videos=1_000),
    MovingDigitsConfig(
      image_size=16, num_digits=1, num_frames=8, min_speed=1, deterministic=True
    ),
    MovingDigitsConfig(image_size=16, num_digits=1, num_frames=20, min_speed=1),
    MovingDigitsConfig(
      image_size=16,
      num_digits=1,
      num_frames=100,
      num_videos=2_000,
      min_speed=1,
      deterministic=True,
    ),
  ]

  @classmethod
  def parse(cls, config_name: str, **options) -> MovingDigitsConfig:
    """Parses a name such as "24px_2digits_12frames", with any numbers."""
    fields = {}
    for part in filter(None, config_name.split("_")):
      match = re.fullmatch(r"(\d+)([a-z]+)", part)
      if part == "rgb":
        fields["channels"] = 3
      elif part in ("deterministic", "captions"):
        fields[part] = True
      elif match and match[2] in _TOKENS:
        fields[_TOKENS[match[2]]] = int(match[1])
      else:
        raise UserError(
          f"moving_digits/{config_name}: expected parts such as 24px, 2digits,"
          f" 12frames, 500videos, 12digitpx, 1minspeed, 1maxspeed, 2every, 1seed,"
          f" rgb, deterministic, captions; found {part!r}"
        )
    config = MovingDigitsConfig(**fields | options)
    # TFDS needs its own object for a config that it knows by name.
    return {known.name: known for known in cls.BUILDER_CONFIGS}.get(config.name, config)

  def frame_shape(self) -> tuple[int, int, int]:
    config = self.builder_config
    return (config.image_size, config.image_size, config.channels)

  def extras(self) -> dict[str, records.Extra]:
    config = self.builder_config
    span = float(config.image_size - config.digit_size)
    mirror = ([-1.0, 1.0], [span, 0.0])  # (x, y) -> (S - d - x, y)
    return {"position": records.Extra((config.num_digits, 2), mirror=mirror)}

  def label_names(self) -> list[str]:
    return [str(digit) for digit in range(10)] * (self.builder_config.num_digits == 1)

  def videos(self):
    return {split: self._videos(split) for split in SPLITS}

  def _videos(self, split: str):
    config = self.builder_config
    total = config.num_videos if split == "train" else -(-config.num_videos // 10)
    for index in records.progress(range(total), total=total, description=split):
      clip = generate(config, split, index)
      yield records.Video(
        frames=clip.frames,
        label=clip.labels[0] if config.num_digits == 1 else -1,
        caption=clip.caption,
        name=f"{split}-{index}",
        extra={"position": clip.positions},
      )


def generate(config: MovingDigitsConfig, split: str, index: int) -> Clip:
  """Generates clip `index` of `split`; the module's text describes the dynamics."""
  rng = np.random.default_rng([config.seed, SPLITS.index(split), index])
  images, labels = _enlarged(split, config.digit_size)
  chosen = rng.integers(len(images), size=config.num_digits)
  size, channels = config.image_size, config.channels
  canvas = np.zeros((config.num_frames, size, size), np.float32)
  ways = [_way(rng, label, split) for label in labels[chosen] if config.captions]
  paths = [_path(config, rng, *way) for way in ways or [()] * len(chosen)]
  for image, (positions, _) in zip(images[chosen], paths, strict=True):
    for frame, position in zip(canvas, positions, strict=True):
      frame += render_digit(image, position, size)
  frames = np.rint(np.clip(canvas, 0, 1) * 255).astype(np.uint8)
  velocities = np.stack([path[1] for path in paths], axis=1)
  describe = functools.partial(_worded, rng) if config.captions else _describe
  return Clip(
    frames=np.repeat(frames[..., None], channels, axis=-1),
    positions=np.stack([path[0] for path in paths], axis=1).astype(np.float32),
    labels=labels[chosen],
    velocities=velocities,
    caption=", ".join(map(describe, labels[chosen], velocities[0])),
  )


# Directions as signs of (dx, dy), clockwise from up; y points down.
DIRECTIONS = ((0, -1), (1, -1), (1, 0), (1, 1), (0, 1), (-1, 1), (-1, 0), (-1, -1))
NUMERALS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight",
            "nine")  # fmt: skip
_SUBJECTS = ("a {numeral}", "the digit {label}", "a handwritten {numeral}")
_VERBS = ("moving", "going", "drifting")


def held_out(label: int, direction: int) -> bool:
  """Returns whether captioned training clips leave out a direction of a digit.

  Args:
    label: class of the digit.
    direction: number in DIRECTIONS.
  """
  return (direction - label) % 4 == 0


def words(direction: int) -> str:
  """Returns the name of a direction in captions, such as "up and left"."""
  dx, dy = DIRECTIONS[direction]
  vertical = ["up"] * (dy < 0) + ["down"] * (dy > 0)
  return " and ".join(vertical + ["left"] * (dx < 0) + ["right"] * (dx > 0))


def _way(rng: np.random.Generator, label: int, split: str) -> tuple[tuple[int, int]]:
  """Draws the direction of a captioned clip."""
  numbers = range(len(DIRECTIONS))
  open_ = [n for n in numbers if split == "test" or not held_out(label, n)]
  return (DIRECTIONS[open_[rng.integers(len(open_))]],)


def _worded(rng: np.random.Generator, label: int, velocity: np.ndarray) -> str:
  """Describes a clip in one of several wordings."""
  subject, verb = (some[rng.integers(len(some))] for some in (_SUBJECTS, _VERBS))
  subject = subject.format(label=label, numeral=NUMERALS[label])
  subject = subject.replace("a eight", "an eight")
  direction = DIRECTIONS.index(tuple(np.sign(velocity).tolist()))
  return f"{subject} {verb} {words(direction)}"


def _path(
  config: MovingDigitsConfig,
  rng: np.random.Generator,
  way: tuple[int, int] | None = None,
):
  """Simulates one bouncing digit: (positions, velocities), int [T, 2] each, as (x, y).

  Args:
    config: config of the data set.
    rng: source of randomness.
    way: signs of the first velocity; None for any.
  """
  limit = config.image_size - config.digit_size
  slow, fast = config.min_speed, config.max_speed
  # An index is drawn; without a smallest speed that equals the original's draw.
  speeds = [v for v in range(-fast, fast + 1) if abs(v) >= slow]

  def drawn(size=None):
    return np.asarray(speeds)[rng.integers(len(speeds), size=size)]

  position = rng.integers(limit, size=2)
  velocity = drawn(2)
  if way is not None:
    velocity = np.array(way) * rng.integers(max(1, slow), fast + 1, size=2)
    quarter = (limit + 3) // 4
    position = np.where(way, rng.integers(quarter, size=2), position)
    position = np.where(np.array(way) < 0, limit - 1 - position, position)
  positions, velocities = [], []
  for number in range(config.num_frames):
    for axis in (1, 0):  # y before x, as in the original
      if 0 <= position[axis] < limit:
        continue
      inwards = 1 if position[axis] < 0 else -1
      position[axis] = 0 if inwards > 0 else limit - 1
      if config.deterministic:
        velocity[axis] = -velocity[axis]
      else:
        velocity[axis] = inwards * rng.integers(max(1, slow), fast + 1)
        velocity[1 - axis] = drawn()
    positions.append(position.copy())
    velocities.append(velocity.copy())
    if (number + 1) % config.every == 0:
      position += velocity
  return np.stack(positions), np.stack(velocities)


def _describe(label: int, velocity: np.ndarray) -> str:
  dx, dy = velocity.tolist()
  words = ["left"] * (dx < 0) + ["right"] * (dx > 0)
  words += ["up"] * (dy < 0) + ["down"] * (dy > 0)
  motion = f"moving {' and '.join(words)}" if words else "standing still"
  return f"the digit {label} {motion}"


@functools.cache
def digit_images(split: str) -> tuple[np.ndarray, np.ndarray]:
  """Loads the digits of a split: (images float32 [N, 8, 8] in [0, 1], labels [N]).

  The splits are disjoint: digits of the test clips do not occur in training.
  """
  from sklearn import datasets  # Imported here, as that takes a second.

  digits = datasets.load_digits()
  order = np.random.default_rng(1797).permutation(len(digits.images))
  bounds = {
    "test": slice(0, _HELD_OUT),
    "validation": slice(_HELD_OUT, 2 * _HELD_OUT),
    "train": slice(2 * _HELD_OUT, None),
  }
  if split not in bounds:
    raise UserError(f"split: expected one of {', '.join(SPLITS)}, found {split!r}")
  chosen = order[bounds[split]]
  return (digits.images[chosen] / 16).astype(np.float32), digits.target[chosen]


def enlarge(images: np.ndarray, size: int) -> np.ndarray:
  """Enlarges digits [N, 8, 8] in [0, 1] to float32 [N, size, size] with sharp edges.

  Cubic interpolation is followed by a contrast curve that steepens as the digit grows:
  the interpolated edge of a stroke is as wide as a source pixel, which at 32 pixels
  would look out of focus. At 8 pixels the digits are unchanged.
  """
  source = images.shape[-1]
  if size == source:
    return images.astype(np.float32)
  matrix = _cubic(source, size)
  smooth = np.clip(np.einsum("ai,nij,bj->nab", matrix, images, matrix), 0, 1)
  gain = min(size / source, 3.0)
  return np.clip((smooth - 0.5) * gain + 0.5, 0, 1).astype(np.float32)


def render_digit(image: np.ndarray, position, frame_size: int) -> np.ndarray:
  """Draws a digit [d, d] with top-left corner (x, y) on a black frame, float32 [S, S].

  Raises:
    ValueError: the digit would leave the frame.
  """
  x, y = (round(float(value)) for value in position)
  digit = len(image)
  if min(x, y) < 0 or max(x, y) + digit > frame_size:
    raise ValueError(f"a digit of {digit} at ({x}, {y}) leaves a frame of {frame_size}")
  frame = np.zeros((frame_size, frame_size), np.float32)
  frame[y : y + digit, x : x + digit] = image
  return frame


@functools.lru_cache
def _enlarged(split: str, size: int) -> tuple[np.ndarray, np.ndarray]:
  images, labels = digit_images(split)
  return enlarge(images, size), labels


def _cubic(source: int, target: int) -> np.ndarray:
  """Makes weights [target, source] of cubic (Catmull-Rom) interpolation, 0 outside."""
  centres = (np.arange(target) + 0.5) * source / target - 0.5
  t = np.abs(centres[:, None] - np.arange(source))
  near = 1.5 * t**3 - 2.5 * t**2 + 1
  far = -0.5 * t**3 + 2.5 * t**2 - 4 * t + 2
  return np.where(t < 1, near, np.where(t < 2, far, 0.0))
