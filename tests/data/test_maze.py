"""The plan of a maze, its map file, and the walker."""

import math
import struct

import numpy as np
import pytest

from vdm_jax.data.maze import layout as layout_lib
from vdm_jax.data.maze import themes, wad, walker

RADIUS = 16  # Of the player, map units.


def make_layout(cells: int = 6, seed: int = 0) -> layout_lib.Layout:
  return layout_lib.generate(cells, np.random.default_rng(seed))


def block_at(layout: layout_lib.Layout, x: float, y: float) -> tuple[int, int]:
  """(row, column) of the block that holds a point."""
  row, column = np.searchsorted(layout.edges, [y, x], side="right") - 1
  return int(row), int(column)


class TestLayout:
  @pytest.mark.parametrize("cells", [3, 4, 6, 11])
  def test_all_cells_can_be_reached(self, cells):
    for seed in range(5):
      layout = make_layout(cells, seed)
      assert layout.cells == cells
      seen, waiting = {(0, 0)}, [(0, 0)]
      while waiting:
        cell = waiting.pop()
        for other in layout.exits(cell):
          assert cell in layout.exits(other)
          if other not in seen:
            seen.add(other)
            waiting.append(other)
      assert len(seen) == cells**2

  def test_there_are_loops(self):
    passages = sum(len(make_layout().exits((i, j))) for i in range(6) for j in range(6))
    assert passages // 2 > 6**2 - 1  # A tree has one less than cells.

  def test_is_closed(self):
    solid = make_layout().solid
    assert solid[[0, -1]].all() and solid[:, [0, -1]].all()

  def test_regions_look_different(self):
    layout = make_layout(6)
    regions = layout.theme.reshape(3, 2, 3, 2).swapaxes(1, 2).reshape(9, 4)
    assert (regions == regions[:, :1]).all()
    assert len(set(regions[:, 0].tolist())) == 9

  def test_walls_of_a_region_share_its_textures(self):
    layout = make_layout(6)
    counts = np.zeros((len(themes.THEMES), len(themes.THEMES[0].walls)), int)
    for line, side in layout.lines(walls=True):
      column, row = line.block
      if column % 2 and row % 2:
        texture = layout.decoration[row // 2, column // 2, side]
        counts[layout.theme_of(line.block), texture] += 1
    used = counts[counts.any(1)]
    assert len(used) == 9 and (np.ptp(used, axis=1) <= 1).all()

  def test_open_blocks_lie_to_the_right_of_walls(self):
    layout = make_layout(4, 1)
    for line, _ in layout.lines(walls=True):
      start, end = np.array(line.start), np.array(line.end)
      middle, (dx, dy) = (start + end) / 2, np.sign(end - start)
      assert not layout.solid[block_at(layout, middle[0] + dy, middle[1] - dx)]
      assert layout.solid[block_at(layout, middle[0] - dy, middle[1] + dx)]

  def test_figure(self):
    layout = make_layout(3)
    figure = layout.figure()
    assert figure["bounds"] == [0, 0, 512, 512]  # 3 cells of 128, 4 walls of 32.
    walls = np.array(figure["walls"])
    assert walls.shape == (len(list(layout.lines(walls=True))), 4)
    assert walls.min() == 32 and walls.max() == 480


def test_themes_are_alike():
  assert len({len(theme.walls) for theme in themes.THEMES}) == 1
  walls = [name for theme in themes.THEMES for name in theme.walls]
  assert len(walls) == len(set(walls))


def test_map_file():
  layout = make_layout(3)
  content = wad.encode(layout, (96.0, 96.0), -90)
  kind, number, place = struct.unpack("<4sii", content[:12])
  assert (kind, number) == (b"PWAD", 3)
  entries = [struct.unpack_from("<ii8s", content, place + 16 * i) for i in range(3)]
  assert [name.rstrip(b"\0") for _, _, name in entries] == [
    b"MAP01",
    b"TEXTMAP",
    b"ENDMAP",
  ]
  begin, size, _ = entries[1]
  text = content[begin : begin + size].decode()
  assert text.count("blocking = true") == len(list(layout.lines(walls=True)))
  assert text.count("sector {") == 9 and text.count("thing {") == 1
  assert "x = 96.0; y = 96.0; angle = 270;" in text


class Walk:
  """A walk without the game: a body with its friction, and no walls."""

  def __init__(self, layout: layout_lib.Layout, seed: int, tics: int):
    guide = walker.Walker(layout, np.random.default_rng(seed))
    position, velocity = np.array(guide.start, float), np.zeros(2)
    heading, self.positions, self.turns = float(guide.heading), [], []
    for _ in range(tics):
      turn, thrust = guide.steer(*position, heading)
      heading += turn
      ahead = np.array(
        [math.cos(math.radians(heading)), math.sin(math.radians(heading))]
      )
      velocity = velocity + thrust / 32 * ahead
      position = position + velocity
      velocity *= 0.90625
      self.positions.append(position)
      self.turns.append(turn)


@pytest.fixture(scope="module")
def walks():
  return [Walk(make_layout(6, seed), seed, 4000) for seed in range(3)]


class TestWalker:
  def test_keeps_clear_of_walls(self, walks):
    for seed, walk in enumerate(walks):
      layout = make_layout(6, seed)
      for x, y in walk.positions:
        corners = [
          (x + dx, y + dy) for dx in (-RADIUS, RADIUS) for dy in (-RADIUS, RADIUS)
        ]
        assert not any(layout.solid[block_at(layout, *corner)] for corner in corners)

  def test_is_smooth(self, walks):
    for walk in walks:
      assert np.abs(walk.turns).max() <= 4
      assert np.abs(np.diff(walk.turns)).max() <= 0.5 + 1e-9
      steps = np.hypot(*np.diff(walk.positions, axis=0).T)
      assert steps.max() < 4 and np.median(steps) > 2

  def test_explores(self, walks):
    for walk in walks:
      cells = {tuple(cell) for cell in (np.array(walk.positions) // 160).astype(int)}
      assert len(cells) > 0.75 * 36

  def test_is_seeded(self):
    layout = make_layout()
    same = [Walk(layout, 5, 300).positions for _ in range(2)]
    assert np.array_equal(*same)
    assert not np.array_equal(same[0], Walk(layout, 6, 300).positions)
