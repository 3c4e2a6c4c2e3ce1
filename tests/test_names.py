"""What is registered by name."""

import functools
import json
import sys
from typing import Protocol

import pytest

from vdm_jax import names
from vdm_jax.errors import UserError
from vdm_jax.names import Registry


def test_things_are_found_by_name():
  known = Registry("colour", {"red": 1})
  known.register("green", 2)
  known.register("red", 3)
  assert known.find("red") == 3 and dict(known) == {"red": 3, "green": 2}
  assert "green" in known and "blue" not in known


def test_what_is_not_there_is_named_with_all_that_is():
  known = Registry("colour", {"red": 1, "green": 2})
  message = "^unknown colour 'gren'. Did you mean 'green'\\? Known: green, red.$"
  for find in (known.find, known.find_or_import):
    with pytest.raises(UserError, match=message):
      find("gren")


def test_arguments_are_checked_by_name():
  def check(make, *given):
    names.check_arguments(
      make, given, kind="option", prefix="options.", always=["size"]
    )

  check(lambda size, colour, width=1: None, "colour")
  check(lambda size, *rest, **more: None, "colour")
  check(functools.partial(lambda colour, size: None, "red"))
  with pytest.raises(UserError, match="unknown option 'color'. Did you mean 'colour'"):
    check(lambda size, colour=0: None, "color")
  with pytest.raises(UserError, match="unknown option 'size'"):
    check(lambda size: None, "size")
  with pytest.raises(UserError, match="^options.colour: missing$"):
    check(lambda size, colour, **more: None, "width")


def test_what_a_thing_lacks_of_a_protocol_is_listed():
  class Base(Protocol):
    size: int

    def grow(self): ...

  class Wide(Base, Protocol):
    width: int = 1

  class Small:
    size = 1

  assert names.missing(Base, Small()) == ["grow"]
  assert names.missing(Wide, Small()) == ["grow", "width"]
  assert names.missing(Wide, type("Full", (Wide,), {"size": 2})()) == []


def test_code_of_the_users_own_only_where_it_is_asked_for():
  known = Registry("function", {"ours": len, "with:colon": max})
  assert known.find_or_import("math:sqrt")(4) == 2
  assert known.find_or_import("with:colon") is max
  with pytest.raises(UserError, match="unknown function 'math:sqrt'"):
    known.find("math:sqrt")
  with pytest.raises(UserError, match="attribute of 'math' .*Did you mean 'sqrt'"):
    known.find_or_import("math:sqrtt")


OWN = """
from __future__ import annotations

import dataclasses
import typing


@dataclasses.dataclass
class Size:
  width: int
  kind: typing.ClassVar[str] = "size"


hints = typing.get_type_hints(Size)
"""


def test_a_file_may_define_what_looks_its_module_up(tmp_path):
  known, path = Registry("thing"), tmp_path / "json.py"  # Also a module's name.
  path.write_text(OWN)
  size = known.find_or_import(f"{path}:Size")(3)
  assert size.width == 3 and sys.modules[type(size).__module__].__file__ == str(path)
  assert known.find_or_import(f"{path}:hints")["width"] is int
  assert sys.modules["json"] is json

  path.write_text(OWN + "raise RuntimeError('half')")
  with pytest.raises(UserError, match=r"cannot import .*\(RuntimeError: half\)"):
    known.find_or_import(f"{path}:Size")
  assert type(size).__module__ not in sys.modules
