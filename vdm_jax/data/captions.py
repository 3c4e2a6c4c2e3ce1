"""Embeddings of a data set's captions, computed once and read in training.

    DATASET/text/minilm-16/
      tokens.bin     bfloat16 [sum of l, D], one caption after another
      lengths.bin    int32: number l of tokens of every finished caption
      about.json     the captions, the encoder (with its checksum), whether it is done

Each distinct caption of all splits is stored once, without padding. If `ensure` is
interrupted, it resumes. If the data set is on a bucket, or in a folder that cannot be
written, the table is kept in the user's cache instead.
"""

import hashlib
import json
import os
import pathlib
import re
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

import filelock
import ml_dtypes
import numpy as np
import tqdm

from vdm_jax import atomic, user_files
from vdm_jax.data import source as sources
from vdm_jax.data import text
from vdm_jax.errors import UserError

DTYPE = np.dtype(ml_dtypes.bfloat16)
_AT_ONCE = 64  # Captions written at a time, after which a job can be resumed.


class StoredCaptions:
  """Tokens of the captions of a split's videos.

  Attributes:
    length: number L of tokens per caption.
    dim: width D of a token.
    checksum: checksum of the encoder.
  """

  def __init__(self, folder: pathlib.Path, source: sources.VideoSource):
    """Opens a finished table.

    Args:
      folder: folder of the table.
      source: a split of the data set that the table was made for.
    """
    about = json.loads((folder / "about.json").read_text())
    self.length, self.dim = about["length"], about["dim"]
    self.checksum = about["checksum"]
    lengths = np.fromfile(folder / "lengths.bin", np.int32)
    self._ends = np.cumsum(lengths, dtype=np.int64)
    self._tokens = _tokens(folder, self.dim, int(lengths.sum()))
    rows = {caption: row for row, caption in enumerate(distinct(source.metadata))}
    self._rows = np.array(
      [rows.get(source.caption(video), -1) for video in range(source.num_videos)]
    )

  def read(self, videos: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Reads captions.

    Args:
      videos: int [...], numbers of videos.

    Returns:
      Tokens bfloat16 [..., L, D], zero where there is none, and mask bool [..., L].
    """
    videos = np.asarray(videos)
    tokens = np.zeros((videos.size, self.length, self.dim), DTYPE)
    mask = np.zeros((videos.size, self.length), bool)
    for place, row in enumerate(self._rows[videos.ravel()]):
      if row < 0:  # There is no caption.
        continue
      start = self._ends[row - 1] if row else 0
      count = self._ends[row] - start
      tokens[place, :count] = self._tokens[start : start + count]
      mask[place, :count] = True
    return (
      tokens.reshape(*videos.shape, self.length, self.dim),
      mask.reshape(*videos.shape, self.length),
    )


def distinct(metadata: dict[str, Any]) -> list[str]:
  """Lists the distinct captions of all splits of a data set, without the empty one."""
  tables = metadata["splits"].values()
  return sorted({caption for table in tables for caption in table["captions"]} - {""})


def ensure(source: sources.VideoSource, spec: str, length: int) -> StoredCaptions:
  """Embeds those captions of a data set that are not embedded yet.

  Encoders that need heavy libraries run in a separate process.

  Args:
    source: a split of the data set.
    spec: see `text.make_encoder`.
    length: L.

  Raises:
    UserError: the encoder does not exist or its extra is missing, or there is nothing
      to embed.
  """
  captions = distinct(source.metadata)
  if not captions:
    raise UserError(
      f"config.model.token_dim: the videos of {source.full_name} have no captions"
    )
  name = re.sub(r"[^A-Za-z0-9._-]+", "_", spec)[-60:]
  folder = _place(source, f"{name}-{length}")
  with filelock.FileLock(folder.with_name(f".{folder.name}.lock")):
    # A finished table is used as it is, so its encoder need not even be installed.
    if _is_done(folder, _wanted(captions, spec, length)):
      pass
    elif text.is_heavy(spec):
      command = [sys.executable, "-m", "vdm_jax.data.captions"]
      command += [str(source.directory), source.split, str(folder), spec, str(length)]
      if subprocess.run(command, check=False).returncode:
        raise UserError(f"config.data.text_encoder: {spec} failed, see above")
    else:
      embed(captions, text.make_encoder(spec, length), folder)
  return StoredCaptions(folder, source)


def embed(
  captions: Sequence[str], encoder: text.TextEncoder, folder: pathlib.Path
) -> None:
  """Embeds captions into a table, and resumes where an earlier call stopped."""
  wanted = _wanted(captions, encoder.spec, encoder.length)
  wanted |= {"checksum": encoder.checksum, "dim": encoder.dim}
  if _is_done(folder, wanted):
    return
  folder.mkdir(parents=True, exist_ok=True)
  about = folder / "about.json"
  found = json.loads(about.read_text()) if about.exists() else {}
  if {key: found.get(key) for key in wanted} != wanted:
    for name in ("tokens.bin", "lengths.bin"):
      (folder / name).unlink(missing_ok=True)
  atomic.write(about, json.dumps({**wanted, "done": False}))
  size = DTYPE.itemsize * encoder.dim
  with (
    open(folder / "lengths.bin", "ab") as lengths,
    open(folder / "tokens.bin", "ab") as tokens,
  ):
    done = np.fromfile(folder / "lengths.bin", np.int32)
    # A killed process may have stopped between the two files, or within a number.
    whole = np.cumsum(done, dtype=np.int64) * size <= tokens.tell()
    done = done[: int(whole.sum())]
    lengths.truncate(4 * len(done))
    tokens.truncate(int(done.sum()) * size)
    with tqdm.tqdm(
      desc=f"embed captions ({encoder.spec})", unit="caption",
      total=len(captions), initial=len(done), mininterval=1, delay=2,
    ) as bar:  # fmt: skip
      for start in range(len(done), len(captions), _AT_ONCE):
        some = captions[start : start + _AT_ONCE]
        found = [f[: encoder.length].astype(DTYPE) for f in encoder.embed_many(some)]
        tokens.write(b"".join(states.tobytes() for states in found))
        tokens.flush()
        lengths.write(np.array([len(states) for states in found], np.int32).tobytes())
        lengths.flush()
        bar.update(len(some))
  atomic.write(about, json.dumps({**wanted, "done": True}))


def _wanted(captions: Sequence[str], spec: str, length: int) -> dict[str, Any]:
  digest = hashlib.sha256(json.dumps(captions).encode()).hexdigest()
  return {"encoder": spec, "length": length, "captions": digest}


def _place(source: sources.VideoSource, name: str) -> pathlib.Path:
  """Finds the place of a table: beside the data if that can be written."""
  directory = os.fspath(source.directory)
  if "://" not in directory:
    beside = pathlib.Path(directory, "text")
    if (beside / name).exists() or os.access(directory, os.W_OK):
      beside.mkdir(exist_ok=True)
      return beside / name
  place = user_files.cache("text", source.dataset_name)
  place.mkdir(parents=True, exist_ok=True)
  return place / f"{source.config_name or 'default'}-{name}"


def _is_done(folder: pathlib.Path, wanted: dict[str, Any]) -> bool:
  about = folder / "about.json"
  if not about.exists():
    return False
  found = json.loads(about.read_text())
  return found.get("done", False) and all(found[k] == v for k, v in wanted.items())


def _tokens(folder: pathlib.Path, dim: int, count: int) -> np.ndarray:
  """Maps the file of tokens, bfloat16 [count, D]."""
  return np.memmap(folder / "tokens.bin", DTYPE, "r", shape=(count, dim))


def main(directory: str, split: str, folder: str, spec: str, length: str) -> None:
  """Embeds the captions of a data set, in the process that `ensure` starts."""
  source = sources.VideoSource(directory, split)
  encoder = text.make_encoder(spec, int(length))
  embed(distinct(source.metadata), encoder, pathlib.Path(folder))


if __name__ == "__main__":
  try:
    main(*sys.argv[1:])
  except UserError as error:
    sys.exit(f"vdm-jax: {error}")
