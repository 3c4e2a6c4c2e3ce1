"""Carrying the project to where no registry is."""

import hashlib
import os
import platform
import shutil
import subprocess
import sys

import pytest

pytestmark = pytest.mark.integration

DATA = "moving_digits/12px_1digit_4frames_8digitpx_64videos"


def offline(script, *arguments, prefix=(), **settings):
  # The suite's PYTHONPATH would find the modules that were not installed.
  env = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "EXTRAS")}
  env |= {"PYTHON": sys.executable, **settings}
  command = [*prefix, "bash", script, *map(str, arguments)]
  return subprocess.run(command, env=env, capture_output=True, text=True)


@pytest.fixture
def script(checkout):
  return checkout / "launch" / "offline.sh"


def test_what_cannot_be_bundled_is_named_and_leaves_nothing(script, tmp_path):
  there = tmp_path / "there"
  there.mkdir()
  for arguments, settings, message in (
    ([], {}, "For clusters without internet"),
    ([there], {}, f"{there}: is there already; name a new folder"),
    ([tmp_path / "b"], {"ARCH": "i386"}, "ARCH=i386: expected x86_64 or aarch64"),
    ([tmp_path / "b"], {"GLIBC": "new"}, "GLIBC=new: expected such as 2.31"),
    ([tmp_path / "b"], {"PYTHON_VERSION": "3"}, "PYTHON_VERSION=3: expected such as"),
    (
      [tmp_path / "b", "video_folder/mine"],
      {"VDM_JAX_DATA": str(tmp_path)},
      f"{tmp_path}/video_folder/mine: no such data set; build it first",
    ),
  ):
    done = offline(script, "bundle", *arguments, **settings)
    assert done.returncode != 0 and message in done.stderr
  assert [path.name for path in tmp_path.iterdir()] == ["there"]


@pytest.fixture
def small(script, tmp_path):
  """A bundle of one file that holds nothing worth installing."""
  folder = tmp_path / "bundle"
  folder.mkdir()
  shutil.copy(script, folder)
  version = ".".join(map(str, sys.version_info[:2]))
  (folder / "bundle.txt").write_text(f"python {version}\narch {platform.machine()}\n")
  digest = hashlib.sha256((folder / "bundle.txt").read_bytes()).hexdigest()
  (folder / "SHA256SUMS").write_text(f"{digest}  ./bundle.txt\n")
  return folder


def test_what_cannot_be_installed_is_named_and_leaves_nothing(small, tmp_path):
  def install(**settings):
    done = offline(small / "offline.sh", "install", tmp_path / "target", **settings)
    assert done.returncode == 1
    assert not (tmp_path / "target").exists()
    return done.stderr

  assert "PYTHON=no_python: expected Python 3." in install(PYTHON="no_python")
  sums, text = small / "SHA256SUMS", (small / "bundle.txt").read_text()

  def rewrite(new):
    (small / "bundle.txt").write_text(new)
    sums.write_text(f"{hashlib.sha256(new.encode()).hexdigest()}  ./bundle.txt\n")

  rewrite(text.replace("arch ", "arch not_"))
  assert "was bundled for ARCH=not_" in install()
  rewrite(text.replace("python 3.", "python 3.9"))
  assert ": expected Python 3.9" in install() and "found 3." in install()
  (small / "bundle.txt").write_text(text + "\n")
  assert "the files above are not what was bundled; copy it again" in install()
  (small / "bundle.txt").unlink()
  assert "no bundle; `install` is run by the offline.sh in one" in install()


@pytest.mark.integration
def test_a_bundle_installs_and_trains_with_nothing_else_reachable(script, tmp_path):
  from vdm_jax.data import source

  source.ensure_built(DATA, tmp_path / "data")
  bundle, target = tmp_path / "bundle", tmp_path / "target"
  settings = {"VDM_JAX_DATA": str(tmp_path / "data"), "EXTRAS": "video"}
  done = offline(script, "bundle", bundle, DATA, **settings)
  assert done.returncode == 0, done.stderr
  # Where the kernel allows it: without a network at all.
  alone = ["unshare", "--net"]
  if subprocess.run([*alone, "true"], capture_output=True).returncode:
    alone = []
  done = offline(bundle / "offline.sh", "install", target, prefix=alone)
  assert done.returncode == 0, done.stderr
  env = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
  env["VDM_JAX_DATA"] = str(target / "data")
  command = [
    *alone, "bash", target / "launch" / "local.sh", target / "configs" / "debug.py",
    tmp_path / "run", "--config.train.num_steps=2", "--config.train.num_samples=0",
  ]  # fmt: skip
  done = subprocess.run(command, env=env, capture_output=True, text=True)
  assert done.returncode == 0, done.stderr
  assert "all steps done: step 2" in done.stdout
