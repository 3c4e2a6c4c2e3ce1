"""Networks: Flax Linen modules, pure functions of their parameters."""

from typing import TYPE_CHECKING

import lazy_loader

if TYPE_CHECKING:
  from vdm_jax.models import fdm, position, ramvid, rvd, vdm

__getattr__, __dir__, _ = lazy_loader.attach(
  __name__,
  submodules=["fdm", "position", "ramvid", "rvd", "vdm"],
)

__all__ = [
  "fdm",
  "position",
  "ramvid",
  "rvd",
  "vdm",
]
