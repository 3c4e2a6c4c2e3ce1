"""Figures of matplotlib, written to files."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from etils import epath

from vdm_jax import atomic


@contextmanager
def figure(
  path: epath.PathLike, size: tuple[float, float], dpi: int = 120
) -> Iterator[Any]:
  """Yields a matplotlib figure and writes it on exit.

  Args:
    path: path of the file, whose suffix sets the format: .png, .svg or .pdf.
    size: width and height in inches.
    dpi: pixels per inch.
  """
  # Matplotlib's object interface needs no global state and no display.
  from matplotlib.backends.backend_agg import FigureCanvasAgg
  from matplotlib.figure import Figure

  drawn = Figure(figsize=size, dpi=dpi, layout="constrained")
  FigureCanvasAgg(drawn)
  yield drawn
  buffer = io.BytesIO()
  drawn.savefig(buffer, format=epath.Path(path).suffix[1:])
  atomic.write(path, buffer.getvalue())
