"""Hooks of mkdocs: pages that lie outside docs/, and links that lead there.

The Markdown files of the checkout link to each other as GitHub shows them. Here they
become pages wherever they lie, with the same links: the README is the first page of the
site, a file of code that a page links to is a page that shows it, and a notebook is a
page of its cells.
"""

import html
import json
import pathlib
import posixpath
import re

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files, InclusionLevel
from mkdocs.structure.pages import Page

ROOT = pathlib.Path(__file__).resolve().parents[1]
# Places of pages on the site, by where the files lie in the checkout.
ELSEWHERE = {
  "README.md": "index.md",
  "CONTRIBUTING.md": "CONTRIBUTING.md",
  "CHANGELOG.md": "CHANGELOG.md",
  "launch/README.md": "launch/README.md",
  "benchmarks/README.md": "benchmarks/README.md",
}
LANGUAGES = {".py": "python", ".sh": "bash", ".sbatch": "bash", ".yaml": "yaml"}
LINK = re.compile(r"(\]\()([^)\s#:]+)(#[^)\s]*)?(\))")


def on_files(files: Files, config: MkDocsConfig) -> Files:
  """Adds the pages that lie elsewhere, and every file of code that a page links to."""
  for source, place in ELSEWHERE.items():
    files.append(File.generated(config, place, content=(ROOT / source).read_text()))
  for file in list(files):
    if file.src_uri.endswith(".ipynb"):
      cells = notebook(json.loads(file.content_string))
      files.remove(file)
      files.append(File.generated(config, _page(file.src_uri), content=cells))
  for file in list(files.documentation_pages()):
    for _, target in links(_source(file.src_uri), file.content_string):
      place = _place(target)
      if place.startswith("files/") and files.get_file_from_path(place) is None:
        text = f"# `{target}`\n\n{_fenced(ROOT / target)}"
        added = File.generated(config, place, content=text)
        added.inclusion = InclusionLevel.NOT_IN_NAV
        files.append(added)
  return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files) -> str:
  """Turns links between files of the checkout into links between pages."""
  source = _source(page.file.src_uri)
  here = posixpath.dirname(page.file.src_uri)

  def turn(match):
    target = posixpath.normpath(posixpath.join(posixpath.dirname(source), match[2]))
    if not (ROOT / target).exists():
      return match[0]  # mkdocs names it.
    there = posixpath.relpath(_place(target), here or ".")
    return f"{match[1]}{there}{match[3] or ''}{match[4]}"

  return LINK.sub(turn, markdown)


def links(source: str, text: str) -> list[tuple[str, str]]:
  """Finds the files that a page links to.

  Args:
    source: the page's path in the checkout.
    text: its Markdown.

  Returns:
    Pairs of a link as it stands and the path in the checkout that it leads to.
  """
  found = []
  for match in LINK.finditer(text):
    target = posixpath.normpath(posixpath.join(posixpath.dirname(source), match[2]))
    if (ROOT / target).is_file():
      found.append((match[2], target))
  return found


def notebook(content: dict) -> str:
  """Renders a notebook as Markdown: text, code, and outputs of text and pictures."""
  parts = []
  for cell in content["cells"]:
    text = "".join(cell["source"])
    if cell["cell_type"] == "markdown":
      parts.append(text)
      continue
    parts.append(f"```python\n{text}\n```")
    for output in cell["outputs"]:
      if output.get("name") == "stderr":
        continue  # Progress bars.
      data = output.get("data", {})
      if "image/png" in data:
        picture = "".join(data["image/png"]).replace("\n", "")
        parts.append(f'<img alt="" src="data:image/png;base64,{picture}">')
      elif said := "".join(output.get("text", data.get("text/plain", ""))):
        parts.append(f"<pre><code>{html.escape(said.rstrip())}</code></pre>")
  return "\n\n".join(parts) + "\n"


def _source(place: str) -> str:
  """The path in the checkout of a page of the site."""
  for source, elsewhere in ELSEWHERE.items():
    if place == elsewhere:
      return source
  return f"docs/{place}"


def _place(source: str) -> str:
  """Where on the site a file of the checkout is."""
  if source in ELSEWHERE:
    return ELSEWHERE[source]
  if source.startswith("docs/"):
    return _page(source.removeprefix("docs/"))
  return f"files/{source}.md"


def _page(path: str) -> str:
  return f"{path.removesuffix('.ipynb')}.md" if path.endswith(".ipynb") else path


def _fenced(path: pathlib.Path) -> str:
  language = LANGUAGES.get(path.suffix, "text")
  return f"````{language}\n{path.read_text()}\n````\n"
