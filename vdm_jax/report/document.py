"""Self-contained HTML files: the style of all pages, and small parts of them."""

import base64
import html
import re
from collections.abc import Mapping, Sequence

from etils import epath

from vdm_jax import atomic

# Colours are variables, so that SVG follows the scheme, too. Text has a contrast of at
# least 4.5 : 1 to its background, lines of 3 : 1, in both schemes.
_STYLE = """
:root { color-scheme: light dark; --ink: #222; --paper: #fff; --soft: #555;
  --rule: #e0e0e0; --strong: #222; --box: #f4f5f7; --mark: #e8effc; --link: #1a56c4;
  --warn: #8a4b00; --s0: #1f5fd0; --s1: #b8480f; --s2: #1b7f3b; --s3: #8a3fb8;
  --s4: #c22f56; --s5: #0f7285; --s6: #7a6a00; --s7: #5c5c5c; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e6e6; --paper: #16181c; --soft: #b0b4bb; --rule: #3a3e46;
    --strong: #d0d0d0; --box: #22252b; --mark: #22314f; --link: #8ab4ff;
    --warn: #f0b45a; --s0: #7fb0ff; --s1: #ff9d5c; --s2: #5fd08a; --s3: #d09bff;
    --s4: #ff8aa8; --s5: #5fd0e0; --s6: #d8c850; --s7: #bdbdbd; } }
body { font: 16px/1.5 system-ui, sans-serif; color: var(--ink);
  background: var(--paper); max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
a { color: var(--link); }
h1 { font-size: 1.6rem; margin-bottom: .2rem; overflow-wrap: anywhere; }
h2 { font-size: 1.15rem; margin-top: 2.2rem; }
h3 { font-size: 1rem; margin: 1rem 0 .3rem; overflow-wrap: anywhere; }
p.note, figcaption { color: var(--soft); font-size: .9rem; }
table { border-collapse: collapse; font-size: .9rem; }
caption { text-align: left; color: var(--soft); padding: .5rem 0 .2rem; }
td, th { padding: .25rem .7rem; text-align: right; vertical-align: middle; }
td:first-child, th:first-child { text-align: left; font-weight: normal;
  padding-left: 0; }
thead th { border-bottom: 2px solid var(--strong); font-weight: 600; }
.numbers { width: 100%; font-variant-numeric: tabular-nums; }
.numbers td, .numbers tbody th { border-bottom: 1px solid var(--rule);
  white-space: nowrap; }
.numbers td:first-child { white-space: normal; }
.numbers td:nth-child(2), .numbers th:nth-child(2) { background: var(--mark); }
.films td, .films th { text-align: center; }
.films td:first-child { font-size: 1.3rem; width: 1.5rem; }
.captions td:first-child { font-size: .9rem; width: 14rem; }
img { max-width: 100%; height: auto; vertical-align: middle; }
.films img { image-rendering: pixelated; }
pre { background: var(--box); padding: .7rem 1rem; overflow-x: auto;
  font-size: .85rem; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .15rem 1.2rem;
  font-size: .9rem; }
dt { color: var(--soft); } dd { margin: 0; overflow-wrap: anywhere; }
summary { cursor: pointer; }
:focus-visible { outline: 3px solid var(--link); outline-offset: 2px; }
"""


def write(
  path: epath.PathLike,
  title: str,
  parts: Sequence[str],
  *,
  style: str = "",
  script: str = "",
) -> None:
  """Writes a self-contained HTML file, all or nothing.

  Args:
    path: path of the file.
    title: title of the page.
    parts: parts of its body, as HTML.
    style: CSS in addition to the style of all pages.
    script: JavaScript that runs when the page is loaded.

  Raises:
    OSError: the file cannot be written.
  """
  path = epath.Path(path)
  code = f"<script>{script}</script>\n" if script else ""
  text = (
    '<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n'
    '<meta name="viewport" content="width=device-width">\n'
    f"<title>{html.escape(title)}</title>\n<style>{_STYLE}{style}</style>\n"
    + "\n".join(parts)
    + f"\n{code}</html>\n"
  )
  atomic.write(path, text)


def paragraph(text: str, kind: str = "") -> str:
  """Makes a paragraph of `words`, of a class of the style."""
  attribute = f' class="{kind}"' if kind else ""
  return f"<p{attribute}>{words(text)}</p>"


def words(text: str) -> str:
  """Converts plain text to HTML; text between backticks becomes code."""
  return re.sub("`([^`]+)`", r"<code>\1</code>", html.escape(text))


def facts(items: Mapping[str, str]) -> str:
  """Makes a list of names and values."""
  inner = "".join(
    f"<dt>{html.escape(name)}</dt><dd>{html.escape(str(value))}</dd>"
    for name, value in items.items()
  )
  return f"<dl>{inner}</dl>"


def table(cells: Sequence[Sequence[str]], kind: str = "numbers", title="") -> str:
  """Makes a table of rows of plain text, header first.

  Args:
    cells: rows of equal length.
    kind: class of the style.
    title: title of the table; '' for none.
  """
  head, *body = cells
  top = "".join(f'<th scope="col">{html.escape(cell)}</th>' for cell in head)
  lines = "".join(
    "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>"
    for row in body
  )
  caption = f"<caption>{html.escape(title)}</caption>" if title else ""
  return (
    f'<table class="{kind}">{caption}<thead><tr>{top}</tr></thead>'
    f"<tbody>{lines}</tbody></table>"
  )


def data_address(content: bytes, kind: str) -> str:
  """Encodes content as a data: URL, so that the page needs no other file.

  Args:
    content: content of a file.
    kind: media type of the file, such as 'image/png'.
  """
  return f"data:{kind};base64,{base64.b64encode(content).decode()}"
