"""Mutated videos and pictures: read, or refused in the one way that is meant.

    pytest tests/data/test_fuzz.py                                     some dozens
    VDM_JAX_FUZZ_SEED=7 VDM_JAX_FUZZ_CASES=5000 pytest -m slow tests/data/test_fuzz.py

Case `number` of a seed is a function of both. Cases run in processes with little memory
and a time limit each; what is found is named by seed and number, and the file is kept.
"""

import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import numpy as np
import PIL.Image
import pytest

from tests.data import helpers
from vdm_jax.data import decode, video

ROOT = pathlib.Path(__file__).parents[2]
SEED = int(os.environ.get("VDM_JAX_FUZZ_SEED", "0"))
CASES = int(os.environ.get("VDM_JAX_FUZZ_CASES", "3000"))
_MEMORY = 3 << 30  # Address space; a process that has read nothing takes 0.6 GiB.
_SECONDS = 20  # Of a case; a whole file takes 0.02.
_MOST_FRAMES = 20_000  # 12 frames and gaps of a minute, at 8 frames a second.

_FILMS = {
  "h264.mp4": "libx264",
  "mpeg4.mov": "mpeg4",
  "h264.mkv": "libx264",
  "vp9.webm": "libvpx-vp9",
  "mjpeg.avi": "mjpeg",
  "mpeg4.avi": "mpeg4",
  "mpeg1.mpg": "mpeg1video",
  "h264.ts": "libx264",
  "flv1.flv": "flv",
}
_PICTURES = {"a.png": {}, "b.jpg": {}, "c.jpeg": {"progressive": True}}


def originals(folder: pathlib.Path) -> dict[str, bytes]:
  """Small whole files of every kind, by name."""
  folder.mkdir(parents=True)
  frames = helpers.quadrants(12, 48, 64)
  for name, codec in _FILMS.items():
    kwargs = {"pix_fmt": "yuvj420p"} if codec == "mjpeg" else {}
    rate = 25 if codec == "mpeg1video" else 10
    helpers.write(folder / name, frames, codec=codec, fps=rate, **kwargs)
  video.write_gif(folder / "film.gif", frames, fps=10)
  images = [PIL.Image.fromarray(frame) for frame in frames[:6]]
  images[0].convert("L").save(
    folder / "grey.gif", save_all=True, append_images=images[1:], disposal=2
  )
  for name, options in _PICTURES.items():
    images[0].save(folder / name, **options)
  images[0].convert("P").save(folder / "d.png")
  images[0].convert("RGBA").save(folder / "e.png")
  deep = np.arange(48 * 64, dtype=np.uint16).reshape(48, 64) * 20
  PIL.Image.fromarray(deep).save(folder / "f.png")
  images[0].save(folder / "g.jpg", format="WEBP")  # Under a wrong name.
  images[0].save(folder / "h.png", format="TIFF")
  return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def mutated(files: dict[str, bytes], rng: np.random.Generator) -> tuple[str, bytes]:
  """(name, contents) of one of the files, worse."""
  name = str(rng.choice(list(files)))
  data = bytearray(files[name])
  for _ in range(rng.integers(1, 4)):
    kind = rng.integers(7)
    place = int(rng.integers(len(data))) if data else 0
    length = int(2 ** rng.uniform(0, 10))
    if kind == 0:
      del data[place:]
    elif kind == 1 and data:
      for at in rng.integers(0, len(data), rng.integers(1, 30)):
        data[at] = rng.integers(256)
    elif kind == 2 and data:  # Headers say sizes, counts and time bases.
      for at in rng.integers(0, min(len(data), 1200), rng.integers(1, 8)):
        data[at] = rng.choice([0, 1, 127, 128, 255])
    elif kind == 3:
      other = files[str(rng.choice(list(files)))]
      start = int(rng.integers(len(other)))
      data[place:place] = other[start : start + length]
    elif kind == 4:
      del data[place : place + length]
    elif kind == 5:
      data[place : place + length] = bytes(len(data[place : place + length]))
    else:
      data[place:place] = data[place : place + length]
  return name, bytes(data)


class _Slow(BaseException):
  """A case takes too long; no `Exception`, which readers turn into other ones."""


def fuzz(seed: int, first: int, count: int, folder: str) -> None:
  """Reads cases; ends with a report {"case", "error"} on standard output if one fails.

  The number of the case under way is in the file `case`.
  """
  import resource

  resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))

  def slow(*_):
    raise _Slow(f"more than {_SECONDS} seconds")

  signal.signal(signal.SIGALRM, slow)
  root = pathlib.Path(folder)
  files = originals(root / "originals")
  refused = 0
  for number in range(first, first + count):
    rng = np.random.default_rng([seed, number])
    name, data = mutated(files, rng)
    path = root / f"case{pathlib.Path(name).suffix}"
    if decode.is_picture(path):
      path = root / "pictures" / path.name
      path.parent.mkdir(exist_ok=True)
    path.write_bytes(data)
    (root / "case").write_text(f"{number} {name}")
    read = path.parent if decode.is_picture(path) else path
    signal.alarm(_SECONDS)
    try:
      frames = decode.decode(read, size=(16, 16), fps=float(rng.choice([0, 8])))
      for count_of_frames, (when, frame) in enumerate(frames):
        assert frame.shape == (16, 16, 3) and np.isfinite(when)
        assert count_of_frames < _MOST_FRAMES
    except decode.Unreadable as error:
      assert str(error) and "\n" not in str(error)
      refused += 1
    except BaseException as error:
      signal.alarm(0)
      report = {"case": number, "error": f"{type(error).__name__}: {error}"}
      print(json.dumps(report), flush=True)
      raise
    signal.alarm(0)
    path.unlink()
  print(json.dumps({"refused": refused}), flush=True)


def run(seed: int, count: int, folder: pathlib.Path) -> int:
  """How many cases are refused; fails at the first that is not as it should be."""
  code = (
    "import sys; from tests.data import test_fuzz;"
    "test_fuzz.fuzz(int(sys.argv[1]), 0, int(sys.argv[2]), sys.argv[3])"
  )
  folder.mkdir()
  command = [sys.executable, "-c", code, str(seed), str(count), str(folder)]
  start = time.monotonic()
  try:
    done = subprocess.run(
      command, cwd=ROOT, capture_output=True, text=True, timeout=120 + count
    )
  except subprocess.TimeoutExpired:
    pytest.fail(f"{time.monotonic() - start:.0f} s, {_where(seed, folder)}")
  if done.returncode:
    pytest.fail(
      f"status {done.returncode}, {_where(seed, folder)}\n{done.stdout}{done.stderr}"
    )
  return json.loads(done.stdout.splitlines()[-1])["refused"]


def _where(seed: int, folder: pathlib.Path) -> str:
  return f"seed {seed}, case {(folder / 'case').read_text()}, kept in {folder}"


def test_some_dozens(tmp_path):
  assert 20 < run(SEED, 60, tmp_path / "fuzz") < 60


@pytest.mark.slow
@pytest.mark.parametrize("part", range(4))
def test_thousands(tmp_path, part):
  count = -(-CASES // 4)
  assert count // 4 < run(1000 * SEED + part + 1, count, tmp_path / "fuzz") < count


def test_whole_files_are_read(tmp_path):
  for name in originals(tmp_path / "originals"):
    path = tmp_path / "originals" / name
    if decode.is_picture(path):
      assert len(list(decode.decode_pictures([path], size=(16, 16)))) == 1
    else:
      frames = len(list(decode.decode(path, size=(16, 16))))
      assert frames == (6 if name == "grey.gif" else 12), name
