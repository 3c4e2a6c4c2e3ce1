"""Captions to token embeddings, on the host.

An encoder turns a caption into `length` embeddings and a mask of those that are
real. Networks see embeddings only, so any encoder will do:

    bytes                  a fixed random table over UTF-8 bytes plus sinusoidal
                           positions; nothing to download, the same everywhere
    bert:NAME_OR_PATH      last hidden states of a BERT (VDM uses BERT-large),
                           through the `text` extra

`make_encoder(spec, length)` builds one; each distinct caption is encoded once.
"""

import abc
import collections
import threading
from collections.abc import Callable

import numpy as np

from vdm_jax import errors
from vdm_jax.errors import UserError

_CACHE_BYTES = 1 << 30


class TextEncoder(abc.ABC):
  """A cached map from captions to embeddings; safe to call from several threads.

  Attributes:
    spec: what it was made from; belongs in a checkpoint's identity.
    length: L, tokens of every caption; longer captions are cut.
    dim: D, width of an embedding.
  """

  spec: str
  length: int
  dim: int

  def __init__(self, spec: str, length: int):
    if length < 1:
      raise UserError(f"text length: expected >= 1, found {length}")
    self.spec, self.length = spec, length
    self._cache: collections.OrderedDict[str, np.ndarray] = collections.OrderedDict()
    self._cached_bytes = 0
    self._lock = threading.Lock()

  @abc.abstractmethod
  def embed(self, caption: str) -> np.ndarray:
    """float32 [l, D] embeddings of a non-empty caption, l <= length."""

  def __call__(self, caption: str) -> tuple[np.ndarray, np.ndarray]:
    """Encodes a caption.

    Returns:
      tokens float32 [L, D], zero where there is no token, and mask bool [L]. The
      empty caption has no token at all: it is how "no text" is spelled.
    """
    tokens = np.zeros((self.length, self.dim), np.float32)
    mask = np.zeros(self.length, bool)
    if caption:
      found = self._cached(caption)
      tokens[: len(found)] = found
      mask[: len(found)] = True
    return tokens, mask

  def _cached(self, caption: str) -> np.ndarray:
    with self._lock:
      if caption not in self._cache:
        embedding = np.asarray(self.embed(caption)[: self.length], np.float32)
        self._cache[caption] = embedding
        self._cached_bytes += embedding.nbytes
        while self._cached_bytes > _CACHE_BYTES and len(self._cache) > 1:
          self._cached_bytes -= self._cache.popitem(last=False)[1].nbytes
      return self._cache[caption]


class BytesEncoder(TextEncoder):
  """A seeded random embedding of each UTF-8 byte, plus its position."""

  def __init__(self, spec: str, length: int, dim: int = 64):
    super().__init__(spec, length)
    if dim < 2 or dim % 2:
      raise UserError(f"text dim of 'bytes': expected an even number, found {dim}")
    self.dim = dim
    # Random directions are nearly orthogonal, which is all that telling 256 bytes
    # apart takes; the seed is part of the format.
    table = np.random.default_rng(256).standard_normal((256, dim))
    rates = 10_000.0 ** (-np.arange(0, dim, 2) / dim)
    angles = np.arange(length)[:, None] * rates
    self._table = table.astype(np.float32)
    self._positions = np.concatenate([np.sin(angles), np.cos(angles)], axis=1)

  def embed(self, caption: str) -> np.ndarray:
    codes = np.frombuffer(caption.encode()[: self.length], np.uint8)
    return self._table[codes] + self._positions[: len(codes)]


class BertEncoder(TextEncoder):
  """Last hidden states of a frozen BERT, [CLS] and [SEP] included."""

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

  def embed(self, caption: str) -> np.ndarray:
    tokens = self._tokenizer(
      caption, truncation=True, max_length=self.length, return_tensors="pt"
    )
    with self._torch.inference_mode():
      return self._model(**tokens).last_hidden_state[0].numpy()


_REGISTRY: dict[str, Callable[..., TextEncoder]] = {}


def register(kind: str, build: Callable[..., TextEncoder]) -> None:
  """Makes `kind` and `kind:...` specs of `make_encoder`; build(spec, length, ...)."""
  _REGISTRY[kind] = build


def make_encoder(spec: str, length: int = 64, **options) -> TextEncoder:
  """The encoder that `spec` names.

  Args:
    spec: "bytes", or "bert:" and a model's name or directory.
    length: L, tokens of every caption.
    **options: the kind's own, such as `dim` of "bytes".

  Raises:
    UserError: the kind is unknown, an extra is missing, or the model is not found.
  """
  kind = spec.partition(":")[0]
  if kind not in _REGISTRY:
    raise errors.unknown("text encoder", kind, _REGISTRY)
  return _REGISTRY[kind](spec, length, **options)


register("bytes", BytesEncoder)
register("bert", BertEncoder)
