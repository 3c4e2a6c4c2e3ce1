"""Data: chunked video records, readers, the input pipeline, video files."""

from typing import TYPE_CHECKING

import lazy_loader

if TYPE_CHECKING:
  from vdm_jax.data import captions, pipeline, source, video
  from vdm_jax.data.builders import build
  from vdm_jax.data.source import VideoSource, load

__getattr__, __dir__, _ = lazy_loader.attach(
  __name__,
  submodules=["captions", "pipeline", "source", "video"],
  submod_attrs={"builders": ["build"], "source": ["VideoSource", "load"]},
)

__all__ = [
  "VideoSource",
  "build",
  "captions",
  "load",
  "pipeline",
  "source",
  "video",
]
