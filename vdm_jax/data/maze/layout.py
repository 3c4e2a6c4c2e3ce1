"""The layout of a maze: cells, passages, walls, and regions of different appearance.

A maze has n x n square cells between walls of some thickness. Both are blocks of a grid
of (2n + 1) x (2n + 1): odd-odd blocks are cells, odd-even ones are walls or, if two
cells are joined, passages, and even-even ones are always solid:

    #######
    #     #      n = 3: odd lines and columns hold the cells; between two of
    ### # #      them is a wall (#) or a passage
    # # # #
    # # ###
    #     #
    #######

Coordinates are those of the game: x to the east, y to the north, in map units. A
walker's eyes are 41 above the floor, and the walls are 128 high.

The maze is cut into 3 x 3 regions. Each has its own theme (textures of walls, floor and
ceiling), whose textures are spread over its walls as evenly as possible, so that a
frame shows where it was taken.
"""

import dataclasses
import functools
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from vdm_jax.data.maze import themes

CELL = 128  # Width of a cell, in map units.
WALL = 32  # Thickness of a wall, in map units.
_REGIONS = 3  # Regions along an axis.
# Share of a perfect maze's walls to remove, as loops make dead ends rare.
_FALLEN = 0.25

Cell = tuple[int, int]  # (column, row), counted from the south-west.
_SIDES = ((0, 1), (1, 0), (0, -1), (-1, 0))  # North, east, south, west.


class Line(NamedTuple):
  """A straight line of the map, with its own block to its right.

  Attributes:
    start, end: (x, y) in map units.
    block: (column, row) of its block in the grid.
    beyond: (column, row) of the block on its other side.
  """

  start: tuple[int, int]
  end: tuple[int, int]
  block: tuple[int, int]
  beyond: tuple[int, int]


@dataclasses.dataclass(frozen=True, eq=False)
class Layout:
  """A maze.

  Attributes:
    solid: bool [2n + 1, 2n + 1], blocks by (row, column).
    theme: int [n, n], number in `themes.THEMES` of each cell, by (row, column).
    decoration: int [n, n, 4], number of the theme's texture on each side (north, east,
      south, west) of each cell, if it is a wall.
  """

  solid: np.ndarray
  theme: np.ndarray
  decoration: np.ndarray

  @property
  def cells(self) -> int:
    """Returns the number of cells along an axis."""
    return len(self.theme)

  @functools.cached_property
  def edges(self) -> np.ndarray:
    """Returns where blocks begin and end, int [2n + 2], the same for x and y."""
    widths = [WALL, CELL] * self.cells + [WALL]
    return np.concatenate([[0], np.cumsum(widths)])

  def centre(self, cell: Cell) -> np.ndarray:
    """Returns (x, y) of the middle of a cell."""
    return np.array([WALL + CELL / 2 + i * (CELL + WALL) for i in cell])

  def exits(self, cell: Cell) -> list[Cell]:
    """Lists the cells that passages join to `cell`."""
    column, row = cell
    return [
      (column + dx, row + dy)
      for dx, dy in _SIDES
      if not self.solid[2 * row + 1 + dy, 2 * column + 1 + dx]
    ]

  def theme_of(self, block: tuple[int, int]) -> int:
    """Returns the theme's number of an open block; a passage has that of a cell."""
    column, row = ((i - 1) // 2 for i in block)
    return int(self.theme[row, column])

  def lines(self, *, walls: bool) -> Iterator[tuple[Line, int]]:
    """Yields sides of open blocks, each with its number (north, east, south, west).

    Args:
      walls: True for the sides towards solid blocks; False for those between two open
        blocks, seen from one of the two.
    """
    for row, column in np.argwhere(~self.solid).tolist():
      x0, x1 = self.edges[column : column + 2].tolist()
      y0, y1 = self.edges[row : row + 2].tolist()
      corners = [(x0, y1), (x1, y1), (x1, y0), (x0, y0)]  # Clockwise.
      for side, (dx, dy) in enumerate(_SIDES):
        beyond = (column + dx, row + dy)
        solid = bool(self.solid[beyond[1], beyond[0]])
        if solid == walls and (walls or side < 2):
          start, end = corners[side], corners[(side + 1) % 4]
          yield Line(start, end, (column, row), beyond), side

  def figure(self) -> dict[str, list]:
    """Describes the map for figures, as JSON values in map units.

    Returns:
      {"walls": [[x0, y0, x1, y1], ...], "bounds": [x_min, y_min, x_max, y_max]}.
    """
    walls = [[*line.start, *line.end] for line, _ in self.lines(walls=True)]
    end = int(self.edges[-1])
    return {"walls": walls, "bounds": [0, 0, end, end]}


def generate(cells: int, rng: np.random.Generator) -> Layout:
  """Generates a random maze of `cells` x `cells` cells that can all be reached."""
  size = 2 * cells + 1
  solid = np.ones((size, size), bool)
  solid[1::2, 1::2] = False
  _carve(solid, cells, rng)
  inner = [
    (row, column)
    for row in range(1, size - 1)
    for column in range(1, size - 1)
    if (row + column) % 2 and solid[row, column]
  ]
  fallen = rng.permutation(len(inner))[: round(_FALLEN * len(inner))]
  for number in fallen:
    solid[inner[number]] = False
  axis = np.arange(cells) * _REGIONS // cells
  region = axis[:, None] * _REGIONS + axis
  return Layout(
    solid=solid,
    theme=rng.permutation(len(themes.THEMES))[region],
    decoration=_decorate(solid, region, rng),
  )


def _decorate(
  solid: np.ndarray, region: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
  """Assigns the textures of every region to its walls, see `Layout.decoration`."""
  number = len(themes.THEMES[0].walls)
  n = len(region)
  sides = [solid[1 + dy :: 2, 1 + dx :: 2][:n, :n] for dx, dy in _SIDES]
  walls = np.stack(sides, axis=-1)
  decoration = np.zeros(walls.shape, int)
  for own in np.unique(region):
    places = walls & (region == own)[..., None]
    decoration[places] = rng.permutation(np.count_nonzero(places)) % number
  return decoration


def _carve(solid: np.ndarray, cells: int, rng: np.random.Generator) -> None:
  """Opens passages in place, by a depth-first walk, to a maze without loops."""
  stack = [tuple(rng.integers(cells, size=2).tolist())]
  seen = {stack[0]}
  while stack:
    column, row = stack[-1]
    ways = [
      (dx, dy)
      for dx, dy in _SIDES
      if 0 <= column + dx < cells
      and 0 <= row + dy < cells
      and (column + dx, row + dy) not in seen
    ]
    if not ways:
      stack.pop()
      continue
    dx, dy = ways[rng.integers(len(ways))]
    solid[2 * row + 1 + dy, 2 * column + 1 + dx] = False
    stack.append((column + dx, row + dy))
    seen.add(stack[-1])
