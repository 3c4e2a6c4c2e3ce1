"""Embedded captions on disk."""

import json
import subprocess
import sys

import numpy as np
import pytest

from vdm_jax.data import captions, text
from vdm_jax.errors import UserError

LENGTH = 12


@pytest.fixture
def table(tmp_path):
  """Some captions and where to embed them."""
  return [f"caption {number}" for number in range(30)], tmp_path / "table"


def test_reads_what_was_embedded(digits):
  stored = captions.ensure(digits, "bytes:6", LENGTH)
  encoder = text.make_encoder("bytes:6", LENGTH)
  assert (stored.length, stored.dim, stored.checksum) == (LENGTH, 6, encoder.checksum)
  tokens, mask = stored.read(np.array([[3, 7], [0, 3]]))
  assert tokens.shape == (2, 2, LENGTH, 6) and mask.shape == (2, 2, LENGTH)
  for row, column, video in ((0, 0, 3), (0, 1, 7), (1, 0, 0), (1, 1, 3)):
    wanted, seen = encoder(digits.caption(video))
    np.testing.assert_array_equal(
      tokens[row, column], wanted.astype(captions.DTYPE), err_msg=str(video)
    )
    np.testing.assert_array_equal(mask[row, column], seen)


def test_embeds_once(digits, monkeypatch):
  captions.ensure(digits, "bytes:8", LENGTH)
  monkeypatch.setattr(text.BytesEncoder, "embed", None)  # Would raise if called.
  captions.ensure(digits, "bytes:8", LENGTH)


@pytest.mark.parametrize("torn", [0, 3])
def test_resumes_after_a_kill(table, monkeypatch, torn):
  words, folder = table
  encoder = text.make_encoder("bytes:4", LENGTH)
  embed, calls = encoder.embed_many, []
  monkeypatch.setattr(captions, "_AT_ONCE", 10)

  def killed(some):
    if len(calls) == 2:
      raise KeyboardInterrupt
    calls.append(some)
    return embed(some)

  monkeypatch.setattr(encoder, "embed_many", killed)
  with pytest.raises(KeyboardInterrupt):
    captions.embed(words, encoder, folder)
  if torn:  # As a kill leaves it in the middle of a caption.
    tokens = folder / "tokens.bin"
    tokens.write_bytes(tokens.read_bytes()[:-torn])
  again = []
  monkeypatch.setattr(encoder, "embed_many", lambda s: again.extend(s) or embed(s))
  captions.embed(words, encoder, folder)
  assert again == words[20 - bool(torn) :]
  whole = folder.with_name("whole")
  captions.embed(words, text.make_encoder("bytes:4", LENGTH), whole)
  for name in ("tokens.bin", "lengths.bin"):
    assert (folder / name).read_bytes() == (whole / name).read_bytes()


def test_other_captions_are_embedded_anew(table):
  words, folder = table
  encoder = text.make_encoder("bytes:4", LENGTH)
  captions.embed(words, encoder, folder)
  before = (folder / "tokens.bin").read_bytes()
  captions.embed(words[::-1], encoder, folder)
  assert (folder / "tokens.bin").read_bytes() != before
  encoder.checksum = "another"
  captions.embed(words, encoder, folder)
  assert json.loads((folder / "about.json").read_text())["checksum"] == "another"
  assert (folder / "tokens.bin").read_bytes() == before


def test_a_heavy_encoder_runs_in_a_process_of_its_own(digits, tmp_path, monkeypatch):
  monkeypatch.setattr(text, "is_heavy", lambda spec: True)
  monkeypatch.setattr(captions, "_place", lambda source, name: tmp_path / name)
  # That process alone may make an encoder.
  monkeypatch.setattr(text, "make_encoder", None)
  stored = captions.ensure(digits, "bytes:10", LENGTH)
  assert stored.dim == 10
  with pytest.raises(UserError, match="text_encoder: bytes:3 failed, see above"):
    captions.ensure(digits, "bytes:3", LENGTH)


def test_the_other_process_ends_without_a_traceback(digits, tmp_path):
  command = [sys.executable, "-m", "vdm_jax.data.captions", str(digits.directory)]
  command += [digits.split, str(tmp_path / "table"), "bytes:3", "8"]
  done = subprocess.run(command, capture_output=True, text=True, check=False)
  assert done.returncode == 1
  assert done.stderr.startswith("vdm-jax: text encoder 'bytes:3': expected an even")


def test_data_without_captions(coded, monkeypatch):
  monkeypatch.setattr(captions, "distinct", lambda metadata: [])
  with pytest.raises(UserError, match="have no captions"):
    captions.ensure(coded, "bytes", LENGTH)


def test_a_folder_that_cannot_be_written(digits, tmp_path, monkeypatch):
  monkeypatch.setattr(captions.os, "access", lambda path, mode: False)
  monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
  captions.ensure(digits, "bytes:14", LENGTH)
  assert list(tmp_path.glob("vdm_jax/text/moving_digits/*bytes_14*/tokens.bin"))
