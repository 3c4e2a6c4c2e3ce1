"""Builds: on every core, resumed, one at a time; what a disk or a decoder may do."""

import contextlib
import os
import pathlib
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from tests.data import helpers
from vdm_jax.data import builders, decoded, records, shards, video, workers
from vdm_jax.data import source as source_lib
from vdm_jax.errors import UserError

ROOT = pathlib.Path(__file__).parents[2]


@pytest.fixture
def root(tmp_path):
  """Twelve films, each of another grey, among them a broken one."""
  root = tmp_path / "clips"
  root.mkdir()
  for number in range(12):
    video.write_gif(root / f"{number:02d}.gif", grey(number), fps=10)
  (root / "05.gif").write_bytes(b"no film")
  return root


def grey(number):
  frames = np.full((4, 16, 16, 3), 10 * number, np.uint8)
  frames[range(4), range(4)] = 255  # A GIF shows equal frames as one.
  return frames


def shade(source, number):
  """The grey of a video of four frames."""
  return source.read(number, np.arange(4))[:, 8:].mean()


def config_of(root, **options):
  options = {"image_size": "16", "validation": 0.0, "test": 0.0} | options
  return builders.parse("video_folder/mine", path=str(root), **options)


def build(root, data_dir, **options):
  """The built training split."""
  directory = records.build(*config_of(root, **options), data_dir)
  return source_lib.VideoSource(directory, "train")


def contents(data_dir):
  paths = [path for path in sorted(data_dir.rglob("*")) if path.is_file()]
  return {str(path.relative_to(data_dir)): path.read_bytes() for path in paths}


@pytest.fixture
def given(monkeypatch):
  """The names of the files that are decoded, as they are."""
  names = []
  give = workers._Worker.give

  def watched(self, number, path, job, threads):
    names.append(job.name)
    give(self, number, path, job, threads)

  monkeypatch.setattr(workers._Worker, "give", watched)
  return names


@contextlib.contextmanager
def interrupted_after(monkeypatch, count):
  """The build within is stopped when so many videos are written."""
  add, left = shards.Split.add, [count]

  def stopping(self, row, records):
    if not left[0]:
      raise KeyboardInterrupt
    left[0] -= 1
    add(self, row, records)

  with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
    patched.setattr(shards.Split, "add", stopping)
    yield


class TestSameBytes:
  def test_however_many_workers(self, root, tmp_path, monkeypatch):
    # A shard is closed after every third video or so.
    monkeypatch.setattr(shards, "LIMIT", 3 * 8 * 16 * 16 * 3)
    for count in (1, 2, 5):
      source = build(root, tmp_path / str(count), num_workers=count)
      greys = [10 * number for number in range(12) if number != 5]
      assert [shade(source, i) for i in range(11)] == greys
    one, two, five = (contents(tmp_path / str(count)) for count in (1, 2, 5))
    assert one == two == five
    assert sum("array_record" in name for name in one) >= 3

  def test_whatever_the_process(self, tmp_path):
    code = (
      "import sys; from vdm_jax.data import source;"
      "source.ensure_built('moving_digits/16px_1digit_4frames_20videos', sys.argv[1])"
    )
    for name in "ab":
      command = [sys.executable, "-c", code, str(tmp_path / name)]
      subprocess.run(command, cwd=ROOT, check=True, timeout=120)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


class TestResume:
  @pytest.mark.parametrize("written", [0, 2, 7])
  def test_decodes_nothing_anew(self, root, tmp_path, monkeypatch, given, written):
    monkeypatch.setattr(shards, "LIMIT", 3 * 8 * 16 * 16 * 3)
    expected = build(root, tmp_path / "whole", num_workers=2)
    given.clear()
    with interrupted_after(monkeypatch, written):
      build(root, tmp_path / "data", num_workers=2)
    assert source_lib.list_built(tmp_path / "data") == []
    first = set(given)
    given.clear()
    source = build(root, tmp_path / "data", num_workers=2)
    # But for the two that were being decoded when it was stopped.
    assert len(first) >= written and len(first & set(given)) <= 2
    assert source.fingerprint == expected.fingerprint
    assert contents(tmp_path / "data") == contents(tmp_path / "whole")

  def test_after_a_kill(self, tmp_path, given, report):
    root = tmp_path / "clips"
    root.mkdir()
    noise = np.random.default_rng(0).integers(0, 256, (60, 64, 64, 3), np.uint8)
    for number in range(40):
      video.write_mp4(root / f"{number:02d}.mp4", noise, fps=10)
    code = (
      "import sys; from vdm_jax.data import builders, records;"
      "cls, config = builders.parse('video_folder/mine', path=sys.argv[1],"
      " image_size='16', validation=0.0, test=0.0);"
      "records.build(cls, config, sys.argv[2])"
    )
    data_dir = tmp_path / "data"
    command = [sys.executable, "-c", code, str(root), str(data_dir)]
    process = subprocess.Popen(command, cwd=ROOT)
    work = data_dir / "video_folder" / "mine" / "incomplete.1.0.0" / "parts"
    deadline = time.time() + 60
    while len([p for p in work.glob("*") if p.suffix != ".tmp"]) < 5:
      assert process.poll() is None and time.time() < deadline
      time.sleep(0.01)
    process.kill()
    process.wait()
    done = len([path for path in work.glob("*") if path.suffix != ".tmp"])
    source = build(root, data_dir)
    assert source.num_videos == 40 and "skipped" not in report()
    assert len(given) <= 40 - done
    assert not list(data_dir.rglob("incomplete*"))

  def test_what_changed_is_read_anew_and_tables_count_as_they_are(
    self, root, tmp_path, monkeypatch, given
  ):
    monkeypatch.setattr(shards, "LIMIT", 8 * 16 * 16 * 3)
    (root / "captions.csv").write_text("file,caption\n00,wrong\n")
    with interrupted_after(monkeypatch, 6):
      build(root, tmp_path / "data", num_workers=1)
    given.clear()
    (root / "captions.csv").write_text("file,caption\n00,right\n")
    video.write_gif(root / "03.gif", grey(20), fps=10)
    source = build(root, tmp_path / "data", num_workers=1)
    assert "03.gif" in given and "00.gif" not in given and "01.gif" not in given
    assert source.caption(0) == "right"
    assert shade(source, 3) == 200

  def test_other_options_begin_anew(self, root, tmp_path, monkeypatch):
    with interrupted_after(monkeypatch, 3):
      build(root, tmp_path / "data")
    assert build(root, tmp_path / "data", channels=1).frame_shape == (16, 16, 1)


# What the decoder does with a file of a certain name; read by every worker.
_HOSTILE = """
import os, signal, time
import PIL.Image
_open = PIL.Image.open

def opened(file, *args, **kwargs):
  name = os.path.basename(file.name)
  if name.startswith("crash"):
    os.kill(os.getpid(), signal.SIGSEGV)
  if name.startswith("hang"):
    time.sleep(1000)
  if name.startswith("hog"):
    bytearray(1 << 40)
  if name.startswith("chatty"):
    os.write(1, b"no JSON\\n")
  return _open(file, *args, **kwargs)

PIL.Image.open = opened
"""


def test_a_decoder_that_crashes_hangs_or_wants_all_memory(
  root, tmp_path, monkeypatch, report
):
  (tmp_path / "site").mkdir()
  (tmp_path / "site" / "sitecustomize.py").write_text(_HOSTILE)
  monkeypatch.syspath_prepend(str(tmp_path / "site"))
  monkeypatch.setattr(workers, "STALL", 4.0)
  for name in ("crash", "crash_2", "hang", "hog", "chatty"):
    video.write_gif(root / f"{name}.gif", grey(20), fps=10)
  source = build(root, tmp_path / "data", num_workers=2)
  assert source.num_videos == 12
  text = report()
  assert "crash.gif: the decoder crashed (signal 11)" in text
  assert "crash_2.gif: the decoder crashed" in text
  assert "hang.gif: no frame was decoded in 4 seconds: given up" in text
  assert "hog.gif: cannot be decoded (MemoryError)" in text


def test_a_negative_number_of_workers(root, tmp_path, monkeypatch):
  # Where nothing decodes, the build would wait for ever.
  monkeypatch.setattr(workers.connection, "wait", lambda *_, **__: pytest.fail("waits"))
  with pytest.raises(UserError, match="`num_workers=-1`: expected >= 0"):
    build(root, tmp_path / "data", num_workers=-1)


def test_a_worker_that_does_not_start_is_no_broken_film(root, tmp_path, monkeypatch):
  (tmp_path / "site").mkdir()
  (tmp_path / "site" / "sitecustomize.py").write_text("import os\nos._exit(3)\n")
  monkeypatch.syspath_prepend(str(tmp_path / "site"))
  with pytest.raises(RuntimeError, match="did not start"):
    build(root, tmp_path / "data")


def test_a_file_that_changes_while_it_is_read(root, tmp_path):
  path = root / "01.gif"
  job = decoded.Job("01", str(path), {"size": (16, 16)})
  decoded.write(str(tmp_path / "part"), job, 1, beat=lambda: os.utime(path, (1, 1)))
  part = decoded.find(str(tmp_path / "part"))
  assert (part.length, part.damage) == (0, "it changed while it was read")
  decoded.write(str(tmp_path / "part"), job, 1)
  assert decoded.find(str(tmp_path / "part")).length == 4


def test_half_a_part_is_none(root, tmp_path):
  path = tmp_path / "part"
  decoded.write(str(path), decoded.Job("01", str(root / "01.gif"), {}), 1)
  data = path.read_bytes()
  for size in (0, 4, len(data) // 2, len(data) - 1):
    path.write_bytes(data[:size])
    assert decoded.find(str(path)) is None
  path.write_bytes(data[100:])
  assert decoded.find(str(path)) is None


def test_no_film_takes_more_than_so_much_disk(root, tmp_path, monkeypatch):
  monkeypatch.setattr(decoded, "MOST", 2 * 16 * 16 * 3)
  decoded.write(str(tmp_path / "part"), decoded.Job("01", str(root / "01.gif"), {}), 1)
  part = decoded.find(str(tmp_path / "part"))
  assert part.length == 0 and "`max_frames`" in part.damage


_LIMITED = """
import resource, sys
from vdm_jax.data import builders, records
from vdm_jax.errors import UserError
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]), -1))
cls, config = builders.parse(
  "video_folder/mine", path=sys.argv[1], image_size="64", validation=0.0, test=0.0
)
try:
  records.build(cls, config, sys.argv[2])
except UserError as error:
  print(error)
"""


class TestDisk:
  # A limit on the size of files stands for a disk that is full: of parts, of shards.
  @pytest.mark.parametrize("limit", [20_000, 100_000])
  def test_full(self, root, tmp_path, limit):
    noise = np.random.default_rng(0).integers(0, 256, (4, 64, 64, 3), np.uint8)
    for number in range(12):
      video.write_gif(root / f"{number:02d}.gif", noise, fps=10)
    data_dir = tmp_path / "data"
    command = [sys.executable, "-c", _LIMITED, root, data_dir, str(limit)]
    done = subprocess.run(
      list(map(str, command)), cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert "the data set cannot be written (File too large" in done.stdout
    assert "the same command resumes" in done.stdout
    assert source_lib.list_built(data_dir) == []
    source = build(root, data_dir, image_size="64")
    assert source.num_videos == 12
    assert not list(data_dir.rglob("incomplete*"))

  def test_full_while_data_are_made_up_leaves_nothing(self, tmp_path, monkeypatch):
    class Full:
      def __init__(self, *_):
        pass

      def write(self, _):
        raise RuntimeError("write() failed: No space left on device; writing x; at 0")

    monkeypatch.setattr(shards.array_record_module, "ArrayRecordWriter", Full)
    name = "moving_digits/16px_1digit_4frames_20videos"
    with pytest.raises(UserError, match=r"cannot be written \(No space left on device"):
      source_lib.ensure_built(name, tmp_path / "data")
    assert not list((tmp_path / "data").iterdir())

  def test_shut(self, root, tmp_path, monkeypatch):
    (tmp_path / "data").write_text("a file where a folder should be")
    with pytest.raises(UserError, match=r"cannot be written \(Not a directory"):
      build(root, tmp_path / "data")

    make = os.mkdir

    def refuse(path, *arguments, **options):
      if "data2" in os.fspath(path):
        raise PermissionError(13, "Permission denied", path)
      make(path, *arguments, **options)

    monkeypatch.setattr(os, "mkdir", refuse)
    with pytest.raises(UserError, match=r"cannot be written \(Permission denied"):
      build(root, tmp_path / "data2")

  def test_overwriting_replaces_only_in_the_end(self, root, tmp_path, monkeypatch):
    old = build(root, tmp_path / "data")
    with interrupted_after(monkeypatch, 3):
      records.build(*config_of(root, channels=1), tmp_path / "data", overwrite=True)
    assert source_lib.load("video_folder/mine", tmp_path / "data").frame_shape[2] == 3
    assert old.read(0, np.arange(4)).shape == (4, 16, 16, 3)
    records.build(*config_of(root, channels=1), tmp_path / "data", overwrite=True)
    assert source_lib.load("video_folder/mine", tmp_path / "data").frame_shape[2] == 1
    assert not list((tmp_path / "data").rglob("incomplete*"))


def test_of_two_builds_at_once_one_waits(root, tmp_path):
  code = _LIMITED.replace("resource.setrlimit", "# ")
  command = [sys.executable, "-c", code, str(root), str(tmp_path / "data"), "0"]
  both = [subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) for _ in "ab"]
  for process in both:
    out, _ = process.communicate(timeout=120)
    assert (process.returncode, out) == (0, b"")
  assert source_lib.load("video_folder/mine", tmp_path / "data").num_videos == 11
  assert not list((tmp_path / "data").rglob("incomplete*"))


def test_a_lock_whose_holder_was_killed_is_free(tmp_path):
  path = tmp_path / "a.lock"
  code = (
    "import sys, time; from etils import epath; from vdm_jax.data import shards\n"
    "with shards.locked(epath.Path(sys.argv[1])):\n  print('in', flush=True)\n"
    "  time.sleep(100)"
  )
  command = [sys.executable, "-c", code, str(path)]
  with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as process:
    assert process.stdout.readline() == b"in\n"
    process.send_signal(signal.SIGKILL)
    process.wait()
  start = time.monotonic()
  with shards.locked(records.epath.Path(path)):
    assert time.monotonic() - start < 5
  assert not path.exists()


class TestNames:
  def test_that_are_no_utf8_or_have_a_line_feed(self, root, tmp_path, report):
    data = (root / "01.gif").read_bytes()
    try:
      (pathlib.Path(os.fsdecode(bytes(root) + b"/caf\xe9.gif"))).write_bytes(data)
    except OSError:
      pytest.skip("this file system takes UTF-8 alone")
    (root / "two\nlines.gif").write_bytes(data)
    (root / "bad\nlines.gif").write_bytes(b"no film")
    (root / "captions.csv").write_text(
      'file,caption\n"two\nlines.gif",first\ncaf\\xe9.gif,second\n'
    )
    source = build(root, tmp_path / "data")
    captions = {source.name(i): source.caption(i) for i in range(source.num_videos)}
    assert captions["two\\nlines.gif"] == "first"
    assert captions["caf\\xe9.gif"] == "second"
    assert "bad\\nlines.gif: cannot be decoded" in report()

  @pytest.mark.parametrize(("file", "table"), [("é", "é"), ("é", "é")])
  def test_in_the_other_normal_form(self, root, tmp_path, file, table):
    (root / "01.gif").rename(root / f"caf{file}.gif")
    (root / "captions.csv").write_text(f"file,caption\ncaf{table}.gif,coffee\n")
    source = build(root, tmp_path / "data")
    names = [source.name(i) for i in range(source.num_videos)]
    assert source.caption(names.index(f"caf{file}.gif")) == "coffee"


@pytest.mark.slow
def test_memory_of_the_build_does_not_grow(tmp_path):
  root = tmp_path / "clips"
  root.mkdir()
  video.write_gif(root / "0.gif", grey(1), fps=10)
  film = helpers.quadrants(64)
  path = helpers.write(tmp_path / "film.mp4", film)
  for number in range(60):
    os.link(path, root / f"{number + 1}.mp4")
  code = (
    _LIMITED.replace("resource.setrlimit", "# ").replace('"64"', '"256"')
    + "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)"
  )
  grown = []
  for name, folder in (("few", root), ("none", tmp_path / "one")):
    if name == "none":
      folder.mkdir()
      os.link(root / "1.mp4", folder / "1.mp4")
    command = [sys.executable, "-c", code, str(folder), str(tmp_path / name), "0"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    grown.append(int(done.stdout.splitlines()[-1]))
  # 60 videos are 750 MB of frames.
  assert grown[0] - grown[1] < 100


def test_cores_are_those_that_this_process_may_use(monkeypatch):
  monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3, 5, 9}, raising=False)
  assert workers.cores() == 3


MEDIA = pathlib.Path(
  os.environ.get("VDM_JAX_TEST_MEDIA", ROOT.parent / "shared" / "media")
)


@pytest.mark.skipif(not MEDIA.is_dir(), reason="no folder of public test films")
def test_real_films_some_of_them_broken(tmp_path, report):
  directory = records.build(*config_of(MEDIA), tmp_path)
  source = source_lib.VideoSource(directory, "train")
  found = {source.name(i): int(source.lengths[i]) for i in range(source.num_videos)}
  assert len(found) == 13
  assert found["cricket.gif"] == 79 and found["pigs_in_a_polka.gif"] == 30
  text = report()
  assert "3 videos were skipped" in text
  assert "corrupted.mp4: cannot be decoded" in text
  assert "testsrc2_mpeg4.mp4: 1 frames, 2 are needed" in text
  assert "left out: 1 .md" in text
