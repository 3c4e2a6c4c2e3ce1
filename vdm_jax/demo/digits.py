"""A classifier that reads the digit in a frame of moving digits.

Samples are measured with it, so it is trained on the digits of the data set's training
split and tested on digits that it has never seen. The library's own training loop
trains it.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import scipy.special
from etils import epath
from flax import linen as nn

from vdm_jax import sharding
from vdm_jax.data import builders
from vdm_jax.data.builders import moving_digits
from vdm_jax.errors import UserError
from vdm_jax.pixels import to_float
from vdm_jax.training import loop, program

NUM_CLASSES = 10
FEATURES = 64
# Frames per call, constant so that one compiled program serves any number.
_BATCH = 512


class Rendering:
  """Digit images of a split, placed at random like in the data set.

  Attributes:
    frame_shape: (H, W, C).
    digit_size: height and width of a digit, in pixels.
  """

  def __init__(self, dataset: str, split: str):
    """Parses the rendering from a data set's name; it need not be built.

    Args:
      dataset: name such as "moving_digits/16px_1digit_8frames", with one digit per
        clip.
      split: split of the digits.

    Raises:
      UserError: the data set is not moving_digits with one digit.
    """
    config = None
    if dataset.partition("/")[0] == "moving_digits":
      _, config = builders.parse(dataset)
    if config is None or config.num_digits != 1:
      raise UserError(
        f"data set {dataset!r}: expected moving_digits with 1digit, whose clips have "
        "a digit to read"
      )
    images, self.labels = moving_digits.digit_images(split)
    self._images = moving_digits.enlarge(images, config.digit_size)
    self.frame_shape = (config.image_size, config.image_size, config.channels)
    self.digit_size = config.digit_size

  def __len__(self) -> int:
    return len(self.labels)

  def render(self, numbers: np.ndarray, rng: np.random.Generator) -> dict[str, Any]:
    """Renders digits: {"image": uint8 [B, H, W, C], "label": int32 [B]}."""
    size, _, channels = self.frame_shape
    corners = rng.integers(size - self.digit_size, size=(len(numbers), 2))
    frames = np.stack(
      [
        moving_digits.render_digit(self._images[number], corner, size)
        for number, corner in zip(numbers, corners, strict=True)
      ]
    )
    pixels = np.rint(frames * 255).astype(np.uint8)[..., None]
    return {
      "image": np.repeat(pixels, channels, axis=-1),
      "label": self.labels[numbers].astype(np.int32),
    }


class Batches:
  """Endless training batches on the mesh; batch i depends only on (seed, i)."""

  def __init__(self, rendering: Rendering, batch_size: int, seed: int, mesh: Any):
    self._rendering, self._batch_size = rendering, batch_size
    self._seed, self._mesh = seed, mesh
    self._index = 0

  def __next__(self) -> dict[str, jax.Array]:
    rng = np.random.default_rng([self._seed, self._index])
    self._index += 1
    numbers = rng.integers(len(self._rendering), size=self._batch_size)
    return sharding.global_batch(self._mesh, self._rendering.render(numbers, rng))

  def get_state(self) -> dict[str, int]:
    return {"index": self._index}

  def set_state(self, state: Mapping[str, int]) -> None:
    self._index = state["index"]


class _Network(nn.Module):
  """A few convolutions, pooling over all places, then features and a head."""

  stages: int

  @nn.compact
  def __call__(self, image):
    """Maps float32 [B, H, W, C] in [-1, 1] to (logits [B, 10], features [B, 64])."""
    # Black is 0, like padding, so that the border of the frame does not matter.
    x = (image.mean(-1, keepdims=True) + 1.0) / 2.0
    for stage in range(self.stages):
      x = nn.relu(nn.Conv(32 if stage == 0 else 64, (3, 3))(x))
      if stage < self.stages - 1:
        x = nn.max_pool(x, (2, 2), (2, 2), "SAME")
    # The strongest response over all places, as the digit may be anywhere.
    x = x.max((1, 2))
    features = nn.relu(nn.Dense(FEATURES)(x))
    return nn.Dense(NUM_CLASSES)(features), features


class DigitClassifier:
  """The system that the training loop trains, with init, loss and batch_spec.

  Attributes:
    network: maps images to (logits, features).
    frame_shape: (H, W, C).
  """

  def __init__(self, frame_shape: tuple[int, int, int], digit_size: int):
    # Each halving doubles the receptive field, up to that of a digit with its rim.
    stages = 3 + max(0, round(np.log2(digit_size / 8)))
    self.network = _Network(stages)
    self.frame_shape = frame_shape

  def init(self, key: jax.Array) -> Any:
    return self.network.init(key, jnp.zeros((1, *self.frame_shape)))["params"]

  def batch_spec(self, batch_size: int) -> dict[str, jax.ShapeDtypeStruct]:
    return {
      "image": jax.ShapeDtypeStruct((batch_size, *self.frame_shape), jnp.uint8),
      "label": jax.ShapeDtypeStruct((batch_size,), jnp.int32),
    }

  def loss(self, params, batch, key, train):
    """Computes the cross-entropy, with metrics `loss` and `accuracy`."""
    del key, train  # The random places are the only augmentation.
    logits, _ = self.network.apply({"params": params}, to_float(batch["image"]))
    label = batch["label"]
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, label)
    right = (logits.argmax(-1) == label).astype(jnp.float32)
    count = jnp.float32(len(label))
    metrics = {
      "loss": jnp.stack([losses.sum(), count]),
      "accuracy": jnp.stack([right.sum(), count]),
    }
    return losses.mean(), metrics


class DigitReader:
  """A trained classifier, applied to frames."""

  def __init__(self, classifier: DigitClassifier, params: Any):
    self.frame_shape = classifier.frame_shape
    self._params = jax.device_get(params)
    self._apply = jax.jit(
      lambda params, image: classifier.network.apply(
        {"params": params}, to_float(image)
      )
    )

  def __call__(self, frames: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Reads frames.

    Args:
      frames: uint8 [..., H, W, C].

    Returns:
      Logits float32 [..., 10] and features float32 [..., 64].

    Raises:
      ValueError: frames have another shape or dtype.
    """
    frames = np.asarray(frames)
    if frames.dtype != np.uint8 or frames.shape[-3:] != self.frame_shape:
      raise ValueError(
        f"expected frames uint8 {self.frame_shape}, found {frames.dtype} {frames.shape}"
      )
    lead = frames.shape[:-3]
    flat = frames.reshape(-1, *self.frame_shape)
    outputs = []
    for start in range(0, len(flat), _BATCH):
      part = flat[start : start + _BATCH]
      full = np.zeros((_BATCH, *self.frame_shape), np.uint8)
      full[: len(part)] = part
      outputs.append(
        [np.asarray(o)[: len(part)] for o in self._apply(self._params, full)]
      )
    logits, features = (np.concatenate(parts) for parts in zip(*outputs, strict=True))
    return logits.reshape(*lead, -1), features.reshape(*lead, -1)

  def vote(self, videos: np.ndarray) -> np.ndarray:
    """Reads the digit that the frames of each clip show together, int [N].

    Args:
      videos: uint8 [N, T, H, W, C].
    """
    return most_likely(self(videos)[0])

  def accuracy(self, rendering: Rendering, places: int = 4, seed: int = 0) -> float:
    """Computes the share of a split's digits that are read right, at random places."""
    rng = np.random.default_rng(seed)
    batch = rendering.render(np.tile(np.arange(len(rendering)), places), rng)
    logits, _ = self(batch["image"])
    return float(np.mean(logits.argmax(-1) == batch["label"]))


def most_likely(logits: np.ndarray) -> np.ndarray:
  """Finds the digit, int [N], that frames with logits [N, T, 10] show together."""
  return scipy.special.log_softmax(logits, axis=-1).mean(1).argmax(-1)


def config(dataset: str, num_steps: int = 400, seed: int = 0) -> dict[str, Any]:
  """Makes a config of the training loop for the classifier of a data set's digits."""
  devices = jax.device_count()
  return {
    "system": "digit_classifier",
    "seed": seed,
    "data": {"name": dataset},
    "mesh": {"data": -1, "fsdp": 1},
    "optimizer": {
      "name": "adam",
      "learning_rate": 3e-3,
      "b1": 0.9,
      "b2": 0.99,
      "eps": 1e-8,
      "weight_decay": 0.0,
      "warmup_steps": 20,
      "decay": "cosine",
      "clip_norm": 1.0,
    },
    "train": {
      "batch_size": -(-128 // devices) * devices,
      "num_steps": num_steps,
      "max_seconds": 0.0,
      "accumulate": 1,
      "ema": [],
      "log_every": 50,
      "eval_every": 0,
      "eval_batches": 0,
      "sample_every": 0,
      "num_samples": 0,
      "checkpoint_every": 0,
      "keep_last": 1,
      "keep_every": 0,
      "max_bad_steps": 20,
    },
  }


def train(
  dataset: str, workdir: epath.PathLike, *, num_steps: int = 400, seed: int = 0
) -> tuple[DigitReader, loop.Result]:
  """Trains a classifier of a data set's digits, or loads a trained one.

  Args:
    dataset: name such as "moving_digits/16px_1digit_8frames".
    workdir: folder of the run.
    num_steps: training steps.
    seed: seed of parameters and batches.

  Returns:
    The reader, and the result of training.

  Raises:
    UserError: the data set is not of single digits, or the workdir has another run.
  """
  from vdm_jax.storage import workdirs

  settings = config(dataset, num_steps, seed)
  rendering = Rendering(dataset, "train")
  classifier = DigitClassifier(rendering.frame_shape, rendering.digit_size)
  programs = program.Program(classifier, settings)
  batches = Batches(rendering, settings["train"]["batch_size"], seed, programs.mesh)
  # The digits come with scikit-learn, so the name determines the data.
  meta = workdirs.describe(settings, dataset)
  result = loop.train(programs, batches, str(workdir), meta)
  return DigitReader(classifier, result.state.params), result
