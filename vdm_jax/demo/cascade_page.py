"""report.html of the cascade, with captions and base, final and real videos."""

import html
from collections.abc import Mapping, Sequence

import numpy as np
from etils import epath

from vdm_jax.demo import captioned, digits_page
from vdm_jax.report import document

_PIXELS = 96  # Height of a video on the page, in pixels.


def write(
  path: epath.PathLike,
  asked: Sequence[captioned.Asked],
  columns: Mapping[str, np.ndarray],
  table: str,
  out: epath.PathLike,
) -> None:
  """Writes the page.

  Args:
    path: path of the HTML file.
    asked: N captions.
    columns: uint8 [N, T, H, W, C] by the heading of their column. All videos of a row
      take the same time.
    table: the measurements, as text.
    out: folder of the demo, for the commands.
  """
  longest = max(videos.shape[1] for videos in columns.values())
  rows = []
  for number, one in enumerate(asked):
    held = " <small>(held out)</small>" if one.held_out else ""
    cells = [f"<td>{html.escape(one.caption)}{held}</td>"]
    for name, videos in columns.items():
      clip = videos[number]
      scale = max(1, round(_PIXELS / clip.shape[1]))
      fps = 2 * digits_page.FPS * len(clip) / longest
      words = html.escape(f"{name}: {one.caption}")
      cells.append(
        f'<td><img alt="{words}" src="{digits_page.gif(clip, scale, fps)}"></td>'
      )
    rows.append(f"<tr>{''.join(cells)}</tr>")
  head = "".join(f"<th>{html.escape(name)}</th>" for name in columns)
  folder = html.escape(str(out))
  document.write(
    path,
    "vdm_jax: from a caption to a video",
    [
      "<h1>From a caption to a video</h1>",
      "<p>A model of few small frames makes the base video from the caption; a second "
      "one, guided by it, makes it larger and fills in the frames between. Neither has "
      "seen a digit move in a direction that is marked as held out.</p>",
      f'<table class="films captions"><thead><tr><th>caption</th>{head}</tr></thead>'
      f"<tbody>{''.join(rows)}</tbody></table>",
      '<p class="note">These are all videos, not a selection. Real videos are test '
      "clips of the same caption.</p>",
      "<h2>Numbers</h2>",
      f"<pre>{html.escape(table)}</pre>",
      "<h2>Sample more</h2>",
      f"<pre>vdm-jax sample --workdir={folder}/base --then={folder}/upper "
      "--caption='a three moving left' --guidance=2 --out=DIR</pre>",
    ],
  )
