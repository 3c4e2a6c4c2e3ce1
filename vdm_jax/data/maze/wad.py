"""Encodes a maze as a map of the game: a PWAD file with one text (UDMF) map.

The engine builds the search tree of a text map by itself, so nothing is compiled.
"""

import struct

from vdm_jax.data.maze import layout as layout_lib
from vdm_jax.data.maze import themes

MAP = "MAP01"
_HEIGHT = 128  # Height of walls, in map units.


def encode(
  layout: layout_lib.Layout, start: tuple[float, float], heading: int
) -> bytes:
  """Encodes the PWAD file of a maze, in which the player starts at `start`.

  Args:
    layout: the maze.
    start: (x, y) in map units.
    heading: direction of view, in whole degrees counter-clockwise from east.
  """
  lumps = [(MAP, b""), ("TEXTMAP", _text(layout, start, heading)), ("ENDMAP", b"")]
  body, directory, place = b"", b"", 12
  for name, content in lumps:
    entry = struct.pack("<ii8s", place + len(body), len(content), name.encode())
    directory += entry
    body += content
  header = struct.pack("<4sii", b"PWAD", len(lumps), place + len(body))
  return header + body + directory


def _text(layout: layout_lib.Layout, start, heading: int) -> bytes:
  blocks = ['namespace = "zdoom";']
  vertices: dict[tuple[int, int], int] = {}
  sectors: dict[int, int] = {}
  sides, lines = [], []

  def vertex(point) -> int:
    return vertices.setdefault(point, len(vertices))

  def side(block, texture: str = "") -> int:
    theme = layout.theme_of(block)
    sector = sectors.setdefault(theme, len(sectors))
    sides.append(_block("sidedef", sector=sector, texturemiddle=texture or "-"))
    return len(sides) - 1

  for line, number in layout.lines(walls=True):
    front = side(line.block, _texture(layout, line, number))
    ends = {"v1": vertex(line.start), "v2": vertex(line.end)}
    lines.append(_block("linedef", **ends, sidefront=front, blocking=True))
  for line, _ in layout.lines(walls=False):
    floors = {layout.theme_of(block) for block in (line.block, line.beyond)}
    if len(floors) == 2:  # Two floors meet here.
      ends = {"v1": vertex(line.start), "v2": vertex(line.end)}
      front, back = side(line.block), side(line.beyond)
      lines.append(
        _block("linedef", **ends, sidefront=front, sideback=back, twosided=True)
      )
  blocks += [_block("vertex", x=float(x), y=float(y)) for x, y in vertices]
  blocks += lines + sides
  blocks += [_sector(themes.THEMES[theme]) for theme in sectors]
  x, y = map(float, start)
  skills = {f"skill{i}": True for i in range(1, 6)}
  player = {"x": x, "y": y, "angle": heading % 360, "type": 1, "single": True}
  blocks.append(_block("thing", **player, **skills))
  return "\n".join(blocks).encode()


def _texture(layout: layout_lib.Layout, line: layout_lib.Line, side: int) -> str:
  walls = themes.THEMES[layout.theme_of(line.block)].walls
  column, row = line.block
  if column % 2 and row % 2:
    return walls[layout.decoration[row // 2, column // 2, side]]
  return walls[0]


def _sector(theme: themes.Theme) -> str:
  return _block(
    "sector",
    heightfloor=0,
    heightceiling=_HEIGHT,
    texturefloor=theme.floor,
    textureceiling=theme.ceiling,
    lightlevel=theme.light,
  )


def _block(kind: str, **fields) -> str:
  return f"{kind} {{ {' '.join(f'{k} = {_value(v)};' for k, v in fields.items())} }}"


def _value(value) -> str:
  if isinstance(value, bool):
    return str(value).lower()
  return f'"{value}"' if isinstance(value, str) else repr(value)
