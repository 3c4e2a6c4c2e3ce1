"""The library from Python, and installed from a wheel into an empty folder."""

import ast
import inspect
import json
import pathlib
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest

import vdm_jax as vdm
from vdm_jax import configs
from vdm_jax.errors import UserError

ROOT = pathlib.Path(__file__).resolve().parents[1]
QUICK = {
  "train": {"num_steps": 2, "num_samples": 0, "eval_batches": 0, "checkpoint_every": 2}
}
FIVE_LINES = """
import vdm_jax as vdm
config = vdm.configs.get("debug", train={"num_steps": 2, "num_samples": 0})
vdm.train(config, "w")
videos = vdm.load("w").sample(2, steps=2)
print(videos.shape)
"""


def run(words, **kwargs):
  done = subprocess.run(words, capture_output=True, text=True, **kwargs)
  assert done.returncode == 0, done.stdout + done.stderr
  return done.stdout


PACKAGES = (
  vdm.data,
  vdm.diffusion,
  vdm.metrics,
  vdm.models,
  vdm.plans,
  vdm.sampling,
  vdm.systems,
  vdm.tasks,
)


@pytest.mark.parametrize("package", (vdm, *PACKAGES), ids=lambda p: p.__name__)
def test_every_public_name_is_there_and_says_what_it_is(package):
  assert package.__all__ and set(package.__all__) <= set(dir(package))
  for name in package.__all__:
    assert inspect.getdoc(getattr(package, name)), f"{package.__name__}.{name}"


def test_the_documentation_is_of_public_names():
  """Each `::: vdm_jax.a.b` of docs/api leads through `__all__`, where there is one."""
  pages = "".join(page.read_text() for page in (ROOT / "docs" / "api").glob("*.md"))
  found = re.findall(r"^::: vdm_jax\.([\w.]+)$", pages, re.MULTILINE)
  for path in found:
    place = vdm
    for name in path.split("."):
      assert name in getattr(place, "__all__", [name]), path
      place = getattr(place, name)
  assert len(found) > 70


def test_what_the_example_imports_is_public():
  """A paper outside of the package needs nothing that is not named."""
  tree = ast.parse((ROOT / "examples" / "mcvd.py").read_text())
  found = 0
  for node in ast.walk(tree):
    if isinstance(node, ast.ImportFrom) and node.module.startswith("vdm_jax"):
      for name in node.names:
        place = vdm
        for part in (*node.module.split(".")[1:], name.name):
          listed = getattr(place, "__all__", None)
          assert listed is None or part in listed, f"{node.module}.{name.name}"
          if place is not vdm.configs:
            place = getattr(place, part)
          found += 1
  assert found > 8


def test_importing_it_imports_nothing_heavy():
  code = (
    "import sys, vdm_jax; print(sorted({'jax', 'flax', 'numpy'} & set(sys.modules)))"
  )
  assert run([sys.executable, "-c", code]).strip() == "[]"


def test_train_load_sample(tmp_path):
  config = vdm.configs.get("debug", data={"data_dir": str(tmp_path / "data")}, **QUICK)
  assert int(vdm.train(config, str(tmp_path / "run")).state.step) == 2
  videos = vdm.load(str(tmp_path / "run")).sample(2, steps=2)
  assert videos.shape[0] == 2 and np.abs(videos).max() <= 1


def test_every_config_is_had_by_name():
  for name in configs.names():
    config = configs.get(name)
    assert config.system and json.loads(config.to_json_best_effort())
  assert configs.get("vdm_ucf101:chips=8").mesh.fsdp == 8
  assert configs.get("debug", seed=3, train={"num_steps": 5}).train.num_steps == 5


@pytest.mark.parametrize(
  ("name", "sections", "message"),
  [
    ("vdm_digit", {}, "unknown config 'vdm_digit'.*Did you mean 'vdm_digits'"),
    (
      "vdm_ucf101:chip=8",
      {},
      "config argument: expected KEY=VALUE with a key of .*found 'chip=8'",
    ),
    ("vdm_digits:chips=8", {}, "vdm_digits:chips=8.*argument"),
    ("debug", {"trian": {}}, "unknown config.trian 'trian'.*'train'"),
    ("debug", {"train": {"num_step": 2}}, "config.train.num_step.*'num_steps'"),
    ("debug", {"train": {"num_steps": "many"}}, "config.train.num_steps"),
  ],
)
def test_mistakes_are_named(name, sections, message):
  with pytest.raises(UserError, match=message):
    configs.get(name, **sections)


@pytest.mark.slow
def test_a_wheel_works_in_an_empty_folder(tmp_path):
  """Without the dependencies, which this environment has."""
  source = tmp_path / "source"
  source.mkdir()
  for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
    shutil.copy(ROOT / name, source)
  for name in ("vdm_jax", "configs"):
    shutil.copytree(ROOT / name, source / name, symlinks=True)
  pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
  run(
    [
      *pip,
      "wheel",
      source,
      "--no-deps",
      "--no-build-isolation",
      "-w",
      tmp_path / "dist",
    ]
  )
  (wheel,) = (tmp_path / "dist").glob("vdm_jax-*.whl")
  run([*pip, "install", "--no-deps", "--target", tmp_path / "site", wheel])
  assert (tmp_path / "site" / "vdm_jax" / "configs" / "vdm_ucf101.py").exists()
  assert (tmp_path / "site" / "vdm_jax" / "py.typed").exists()
  (tmp_path / "empty").mkdir()
  environment = {
    "PATH": "/usr/bin:/bin",
    "HOME": str(tmp_path),
    "PYTHONPATH": str(tmp_path / "site"),
    "VDM_JAX_DATA": str(tmp_path / "data"),
  }
  here = {"cwd": tmp_path / "empty", "env": environment}
  command = [sys.executable, "-m", "vdm_jax"]
  run([*command, "train", "--config=debug", "--workdir=w", "--config.train.num_steps=2",
       "--config.train.num_samples=0"], **here)  # fmt: skip
  run([*command, "sample", "--workdir=w", "--num_videos=2", "--steps=2", "--out=o"],
      **here)  # fmt: skip
  assert (tmp_path / "empty" / "o" / "videos.npz").exists()
  where = run([sys.executable, "-c", "import vdm_jax; print(vdm_jax.__file__)"], **here)
  assert where.startswith(str(tmp_path / "site"))
  (tmp_path / "other").mkdir()
  shape = run(
    [sys.executable, "-c", FIVE_LINES], cwd=tmp_path / "other", env=environment
  )
  assert shape.strip().startswith("(2, ")
