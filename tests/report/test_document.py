"""What all pages share: colours that can be read, files that appear whole."""

import re

import pytest

from vdm_jax.report import document


def luminance(colour):
  digits = colour if len(colour) == 6 else "".join(2 * c for c in colour)
  parts = [int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4)]
  linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
  return sum(w * c for w, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def contrast(a, b):
  low, high = sorted((luminance(a), luminance(b)))
  return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_colours_can_be_told_from_what_they_stand_on(scheme, tmp_path):
  """By WCAG 2.2: 4.5 for text, 3 for lines that carry meaning."""
  document.write(tmp_path / "page.html", "t", [])
  text = (tmp_path / "page.html").read_text()
  blocks = re.findall(r":root \{(.*?)\}", text, re.S)
  assert len(blocks) == 2
  block = blocks[scheme == "dark"]
  colours = dict(re.findall(r"--(\w+): #(\w+);", block))
  assert len(colours) == 17
  for name in ("ink", "soft", "link", "warn"):
    for ground in ("paper", "box"):
      assert contrast(colours[name], colours[ground]) >= 4.5, (name, ground)
  assert contrast(colours["ink"], colours["mark"]) >= 4.5
  for i in range(8):
    assert contrast(colours[f"s{i}"], colours["paper"]) >= 3, i


def test_a_page_appears_whole_or_not_at_all(tmp_path):
  (tmp_path / "folder").mkdir()
  with pytest.raises(OSError):
    document.write(tmp_path / "folder", "t", [])
  assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def test_text_is_not_markup():
  assert document.words("a <b> & `c < d`") == (
    "a &lt;b&gt; &amp; <code>c &lt; d</code>"
  )
  assert "<td>&lt;x&gt;</td>" in document.table([["h"], ["<x>"]])
  assert "<dd>&lt;x&gt;</dd>" in document.facts({"n": "<x>"})
