"""Encoders of captions to token embeddings, on the host.

An encoder maps a caption to `length` embeddings and a mask of those that are real.
Networks take only embeddings, so any encoder will do:

    bytes, bytes:DIM       a fixed random table over UTF-8 bytes plus sinusoidal
                           positions; no download, the same everywhere
    minilm                 last hidden states of all-MiniLM-L6-v2, 384 wide, whose
                           weights come in a package; see `minilm`
    bert:NAME_OR_PATH      last hidden states of a BERT (VDM uses BERT-large), by the
                           extra `text`

`make_encoder(spec, length)` builds one. Training reads embeddings that were computed
once, see `captions`.
"""

import abc
import hashlib
from collections.abc import Callable, Sequence

import numpy as np

from vdm_jax import names
from vdm_jax.errors import UserError


class TextEncoder(abc.ABC):
  """A map from captions to embeddings.

  Attributes:
    spec: specification that it was made from.
    length: number L of tokens per caption; longer captions are cut.
    dim: width D of an embedding.
    checksum: checksum of its weights, which models record.
  """

  spec: str
  length: int
  dim: int
  checksum: str

  def __init__(self, spec: str, length: int):
    if length < 1:
      raise UserError(f"text length: expected >= 1, found {length}")
    self.spec, self.length = spec, length

  @abc.abstractmethod
  def embed(self, caption: str) -> np.ndarray:
    """Embeds a non-empty caption, to float32 [l, D] with l <= length."""

  def embed_many(self, captions: Sequence[str]) -> list[np.ndarray]:
    """Embeds several captions."""
    return [self.embed(caption) for caption in captions]

  def __call__(self, caption: str) -> tuple[np.ndarray, np.ndarray]:
    """Encodes a caption.

    Returns:
      Tokens float32 [L, D], zero where there is no token, and mask bool [L]. The empty
      caption, which stands for no text, has no token at all.
    """
    tokens = np.zeros((self.length, self.dim), np.float32)
    mask = np.zeros(self.length, bool)
    if caption:
      found = self.embed(caption)[: self.length]
      tokens[: len(found)] = found
      mask[: len(found)] = True
    return tokens, mask


class BytesEncoder(TextEncoder):
  """An encoder to a seeded random embedding of each UTF-8 byte plus its position."""

  def __init__(self, spec: str, length: int):
    super().__init__(spec, length)
    width = spec.partition(":")[2] or "64"
    dim = int(width) if width.isdecimal() else 0
    if dim < 2 or dim % 2:
      raise UserError(
        f"text encoder {spec!r}: expected an even width, as in bytes:64, found "
        f"{width!r}"
      )
    self.dim = dim
    # Random directions are nearly orthogonal, which suffices to distinguish 256 bytes;
    # the seed is part of the format.
    table = np.random.default_rng(256).standard_normal((256, dim))
    rates = 10_000.0 ** (-np.arange(0, dim, 2) / dim)
    angles = np.arange(length)[:, None] * rates
    self._table = table.astype(np.float32)
    self.checksum = hashlib.sha256(self._table.tobytes()).hexdigest()[:16]
    self._positions = np.concatenate([np.sin(angles), np.cos(angles)], axis=1)

  def embed(self, caption: str) -> np.ndarray:
    codes = np.frombuffer(caption.encode()[: self.length], np.uint8)
    return self._table[codes] + self._positions[: len(codes)]


class BertEncoder(TextEncoder):
  """An encoder to the last hidden states of a BERT, [CLS] and [SEP] included."""

  def __init__(self, spec: str, length: int):
    super().__init__(spec, length)
    name = spec.partition(":")[2]
    try:
      import torch
      import transformers
    except ImportError as error:
      raise UserError(
        f"text encoder {spec!r} needs the `text` extra: pip install 'vdm_jax[text]'"
      ) from error
    try:
      self._tokenizer = transformers.AutoTokenizer.from_pretrained(name)
      self._model = transformers.AutoModel.from_pretrained(name).eval()
    except (OSError, ValueError) as error:
      raise UserError(
        f"text encoder {spec!r}: expected the name of a BERT model or its directory,"
        f" found neither ({str(error).splitlines()[0]})"
      ) from error
    self._torch = torch
    self.dim = self._model.config.hidden_size
    digest = hashlib.sha256()
    for name, value in sorted(self._model.state_dict().items()):
      digest.update(name.encode() + value.numpy().tobytes())
    self.checksum = digest.hexdigest()[:16]

  def embed(self, caption: str) -> np.ndarray:
    tokens = self._tokenizer(
      caption, truncation=True, max_length=self.length, return_tensors="pt"
    )
    with self._torch.inference_mode():
      return self._model(**tokens).last_hidden_state[0].numpy()


def _minilm(spec: str, length: int) -> TextEncoder:
  from vdm_jax.data import minilm  # Imports this module.

  return minilm.MiniLmEncoder(spec, length)


_ENCODERS: names.Registry[Callable[[str, int], TextEncoder]] = names.Registry(
  "text encoder", {"bytes": BytesEncoder, "minilm": _minilm, "bert": BertEncoder}
)


def make_encoder(spec: str, length: int = 64) -> TextEncoder:
  """Makes the encoder that `spec` names.

  Args:
    spec: "bytes", "minilm", or "bert:" and a model's name or directory.
    length: number L of tokens per caption.

  Raises:
    UserError: the kind is unknown, an extra is missing, or the model is not found.
  """
  kind = spec.partition(":")[0]
  return _ENCODERS.find(kind)(spec, length)


def is_heavy(spec: str) -> bool:
  """Returns whether an encoder needs libraries that training does not."""
  return spec.partition(":")[0] == "bert"
