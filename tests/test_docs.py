"""The documentation site: it builds without a warning, from this checkout alone."""

import importlib.util
import os
import re
import subprocess
import sys

import numpy as np
import PIL.Image
import pytest
import yaml

import vdm_jax as vdm
from tests import pages

ROOT = pages.ROOT
DOCS = ROOT / "docs"
HAS_MKDOCS = all(map(importlib.util.find_spec, ("mkdocs", "material", "mkdocstrings")))
HAS_NOTEBOOKS = all(map(importlib.util.find_spec, ("nbclient", "ipykernel")))
PACKAGES = (
  "data",
  "diffusion",
  "metrics",
  "models",
  "plans",
  "sampling",
  "systems",
  "tasks",
)


def test_the_reference_has_every_public_name():
  text = "".join(path.read_text() for path in (DOCS / "api").glob("*.md"))
  shown = re.findall(r"^::: vdm_jax\.(\S+)$", text, re.M)
  wanted = {name for name in vdm.__all__ if name not in PACKAGES}
  for package in PACKAGES:
    for name in getattr(vdm, package).__all__:
      thing = getattr(getattr(vdm, package), name)
      # `sampling.Model` is `vdm.Model`, and shown as this.
      short = thing is getattr(vdm, name, None)
      wanted.add(name if short else f"{package}.{name}")
  assert wanted <= set(shown), sorted(wanted - set(shown))
  assert len(shown) == len(set(shown))


def test_every_page_of_docs_is_in_the_navigation():
  class Loader(yaml.SafeLoader):
    """Reads mkdocs.yml without calling what it names."""

  Loader.add_multi_constructor("tag:yaml.org,2002:python/", lambda *_: None)
  nav = yaml.load((ROOT / "mkdocs.yml").read_text(), Loader)["nav"]
  named = set(re.findall(r"'([^']+\.md)'", repr(nav)))
  for path in [*DOCS.rglob("*.md"), *DOCS.rglob("*.ipynb")]:
    place = path.relative_to(DOCS).as_posix().replace(".ipynb", ".md")
    assert place in named, f"mkdocs.yml: nav lacks {place}"


def test_pictures_are_small_and_drawn_by_the_script():
  spec = importlib.util.spec_from_file_location("draw", DOCS / "draw.py")
  draw = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(draw)
  found = {path.name: path.stat().st_size for path in (DOCS / "pictures").iterdir()}
  assert set(found) == set(draw.PICTURES)
  assert max(found.values()) < 200_000
  shown = set(re.findall(r"\(pictures/(\S+)\)", (DOCS / "how_it_works.md").read_text()))
  assert shown == set(draw.PICTURES)


@pytest.mark.slow
def test_the_pictures_are_drawn(tmp_path, monkeypatch):
  monkeypatch.setenv("VDM_JAX_DATA", str(tmp_path / "data"))
  done = subprocess.run(
    [sys.executable, DOCS / "draw.py", tmp_path / "pictures"],
    env={**os.environ, "PYTHONPATH": str(ROOT)},
    capture_output=True,
    text=True,
  )
  assert done.returncode == 0, done.stderr[-3000:]
  kept = sorted((DOCS / "pictures").iterdir())
  assert [path.name for path in kept] == sorted(os.listdir(tmp_path / "pictures"))
  for path in kept:  # What the library draws has not changed.
    pictures = [PIL.Image.open(folder / path.name).convert("L")
                for folder in (path.parent, tmp_path / "pictures")]  # fmt: skip
    before, now = (np.asarray(picture, np.float32) for picture in pictures)
    assert before.shape == now.shape and np.abs(before - now).mean() < 2, path.name


@pytest.mark.skipif(not HAS_MKDOCS, reason="needs the extra docs")
@pytest.mark.slow
def test_the_site_builds_and_needs_no_other_host(tmp_path):
  done = subprocess.run(
    [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", tmp_path],
    cwd=ROOT,
    env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
    capture_output=True,
    text=True,
  )
  assert done.returncode == 0, done.stderr[-5000:]
  pages_of_site = list(tmp_path.rglob("*.html"))
  assert len(pages_of_site) > 40
  for page in pages_of_site:
    text = page.read_text()
    for tag in re.findall(r"<(?:script|link|img|iframe|source)\b[^>]*>", text):
      if 'rel="canonical"' not in tag:
        assert not re.search(r"(?:src|href)=\"?(?:https?:)?//", tag), f"{page}: {tag}"
    assert "- **" not in text, f"{page}: a list that is none"
  home = (tmp_path / "index.html").read_text()
  assert 'href="launch/index.html"' in home
  assert (tmp_path / "files" / "configs" / "common.py.html").exists()


@pytest.mark.skipif(not HAS_NOTEBOOKS, reason="needs the extra docs")
@pytest.mark.slow
def test_the_notebooks_run_from_top_to_bottom(tmp_path, monkeypatch):
  """In the order of the site: the second one finds what the first has trained."""
  import nbclient
  import nbformat

  monkeypatch.setenv("VDM_JAX_DATA", str(tmp_path / "data"))
  monkeypatch.setenv("PYTHONPATH", str(ROOT))
  monkeypatch.delenv("XLA_FLAGS", raising=False)
  for name in ("first_model", "guidance_and_plans"):
    notebook = nbformat.read(DOCS / "notebooks" / f"{name}.ipynb", as_version=4)
    resources = {"metadata": {"path": str(tmp_path)}}
    nbclient.NotebookClient(notebook, timeout=900, resources=resources).execute()
    pictures = [
      output for cell in notebook.cells if cell.cell_type == "code"
      for output in cell.outputs if "image/png" in output.get("data", {})
    ]  # fmt: skip
    assert len(pictures) >= 3
