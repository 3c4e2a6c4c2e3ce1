"""Themes: the appearance of the regions of a maze.

Textures are those of Freedoom 2, which the `vizdoom` package includes. None of them is
animated, so that a frame depends only on the pose.
"""

from typing import NamedTuple

_SKY = "F_SKY1"


class Theme(NamedTuple):
  """The appearance of a region.

  Attributes:
    walls: textures of walls, equally many in every theme; the first one is also on the
      short ends of walls.
    floor, ceiling: textures of floor and ceiling.
    light: brightness, 0 to 255.
  """

  walls: tuple[str, ...]
  floor: str
  ceiling: str
  light: int


def _theme(walls: str, floor: str, ceiling: str, light: int) -> Theme:
  return Theme(tuple(walls.split()), floor, ceiling, light)


THEMES = (
  _theme(
    "ZZWOLF11 ZZWOLF12 REDWALL PANRED BRICK7 BIGBRIK1", "FLOOR5_4", "FLAT5_5", 208
  ),
  _theme(
    "ZZWOLF9 COMPBLUE AQPANL01 PANBLUE COMPTALL BIGBRIK2", "FLAT4", "CEIL3_5", 224
  ),
  _theme("A-CAMO1 A-CAMO3 A-VINES ZIMMER1 SMSTONE6 BROWNGRN", "GRASS1", _SKY, 208),
  _theme("BIGWALL BIGMURAL MURAL1 MURAL2 LONGWALL DOKODO1B", "FLAT5", "FLOOR3_3", 208),
  _theme("WOOD1 WOOD8 WOOD10 PANBOOK PANEL4 A-MYWOOD", "FLAT5_1", "CEIL1_1", 224),
  _theme("GRAYBIG ICKWALL1 CEMENT1 CEMENT4 GRAYVINE MODWALL3", "FLAT20", "FLAT2", 208),
  _theme("ZZWOLF1 ZZWOLF2 ROCK3 STONE2 PLAT1 METAL1", "MFLR8_3", _SKY, 192),
  _theme("STARG3 STARGR2 ESPIG2 ESPIGR2 CRSMB TEKGREN1", "FLAT3", "COMP01", 208),
  _theme("SP_HOT1 CRACKLE2 SKIN2 DISASTER DORED A-REDROK", "FLOOR6_1", "CEIL5_1", 224),
  _theme("A-TILE MARBLE1 SP_DUDE1 A-MOSBRI GSTVINE1 MTNT1", "FLOOR7_2", "FLAT5_4", 208),
  _theme("STARTAN3 ESPIBR2 BROWN1 SPACEW2 CRATWIDE BRONZE1", "FLAT8", _SKY, 192),
  _theme("SHAWN2 SHAWN1 ZZWOLF10 AQSECT01 AQBRIK01 AQMETL03", "FLAT14", "FLAT23", 208),
)
