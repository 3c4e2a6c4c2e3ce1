"""Files are there whole or not at all."""

import pytest

from vdm_jax import atomic


def names(folder):
  return sorted(path.name for path in folder.iterdir())


def test_text_and_bytes_are_written_and_replaced(tmp_path):
  path = tmp_path / "new" / "file"
  atomic.write(path, "größer")
  assert path.read_text(encoding="utf-8") == "größer"
  atomic.write(str(path), b"\0\1")
  assert path.read_bytes() == b"\0\1" and names(path.parent) == ["file"]


@pytest.mark.parametrize("failure", [RuntimeError, KeyboardInterrupt])
def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path, failure):
  path = tmp_path / "file"
  atomic.write(path, "old")
  with pytest.raises(failure), atomic.aside(path) as part:
    part.write_text("half of the n")
    assert path.read_text() == "old" and len(names(tmp_path)) == 2
    raise failure
  assert path.read_text() == "old" and names(tmp_path) == ["file"]
  with pytest.raises(OSError), atomic.aside(path):
    pass  # Nothing was written.
  assert path.read_text() == "old"


def test_two_writers_of_one_file_do_not_meet(tmp_path):
  path = tmp_path / "file"
  with atomic.aside(path) as slow:
    slow.write_text("slow")
    atomic.write(path, "quick")
    assert path.read_text() == "quick"
  assert path.read_text() == "slow" and names(tmp_path) == ["file"]


def test_a_folder_appears_whole_or_not(tmp_path):
  out = tmp_path / "out"
  out.mkdir()  # An empty one may be there.
  with pytest.raises(RuntimeError), atomic.aside(out) as part:
    part.mkdir()
    (part / "a").write_text("1")
    raise RuntimeError
  assert names(tmp_path) == ["out"] and not names(out)
  with atomic.aside(out) as part:
    part.mkdir()
    (part / "a").write_text("1")
    assert not names(out)
  assert names(tmp_path) == ["out"] and names(out) == ["a"]
