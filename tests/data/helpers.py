"""Tiny data sets and video files that the tests of data make for themselves."""

import pathlib
from fractions import Fraction

import av
import numpy as np
import tensorflow_datasets as tfds

from vdm_jax.data import records

LENGTHS = (3, 8, 9, 20, 41)


class Coded(records.ChunkBuilder):
  """Videos whose pixels say which video and frame they are."""

  VERSION = tfds.core.Version("2.1.0")

  def frame_shape(self):
    return (4, 6, 3)

  def extras(self):
    return {
      "pose": records.Extra((2,), mirror=([-1.0, 1.0], [10.0, 0.0])),
      "depth": records.Extra(),
    }

  def label_names(self):
    return ["even", "odd"]

  def videos(self):
    return {"train": map(coded_video, range(len(LENGTHS))), "test": iter(())}


def coded_frames(video: int, frames) -> np.ndarray:
  """uint8 [T, 4, 6, 3]: channels are video, frame and column."""
  result = np.empty((len(frames), 4, 6, 3), np.uint8)
  result[..., 0] = video
  result[..., 1] = np.asarray(frames)[:, None, None]
  result[..., 2] = np.arange(6)
  return result


def coded_video(video: int) -> records.Video:
  length = LENGTHS[video]
  times = np.arange(length)
  return records.Video(
    frames=iter(coded_frames(video, times)),
    label=video % 2,
    caption=f"video {video}",
    name=f"v{video}",
    fps=10.0,
    extra={"pose": np.stack([times, times + 100.0], 1), "depth": times * 0.5},
  )


def quadrants(length: int = 12, height: int = 32, width: int = 48) -> np.ndarray:
  """A clip whose corners tell its orientation: red, green / blue, and a ramp."""
  video = np.zeros((length, height, width, 3), np.uint8)
  middle, centre = height // 2, width // 2
  video[:, :middle, :centre] = (230, 20, 20)
  video[:, :middle, centre:] = (20, 230, 20)
  video[:, middle:, :centre] = (20, 20, 230)
  video[:, middle:, centre:] = np.linspace(20, 235, length)[:, None, None, None]
  return video


def corner_colours(frame: np.ndarray) -> str:
  """Which colour is at top left, top right, bottom left, bottom right; "w" grey."""
  height, width = frame.shape[:2]
  centres = [(y, x) for y in (1, 3) for x in (1, 3)]
  letters = ""
  for y, x in centres:
    colour = frame[height * y // 4, width * x // 4].astype(int)
    spread = colour.max() - colour.min()
    letters += "w" if spread < 60 else "rgb"[colour.argmax()]
  return letters


def ramp(frames: np.ndarray) -> np.ndarray:
  """Brightness of the bottom right quarter of each frame."""
  height, width = frames.shape[1:3]
  return frames[:, height * 3 // 4, width * 3 // 4].mean(-1)


def write(
  path: pathlib.Path,
  video: np.ndarray,
  *,
  fps: int = 10,
  codec: str = "libx264",
  times_ms: list[int] | None = None,
  rotation: float | None = None,
  mirrored: bool = False,
  aspect: Fraction | None = None,
  options: dict[str, str] | None = None,
  title: str = "",
  pix_fmt: str = "yuv420p",
  codec_options: dict[str, str] | None = None,
) -> pathlib.Path:
  """Writes a real video file."""
  path.parent.mkdir(parents=True, exist_ok=True)
  with av.open(str(path), "w", options=options or {}) as file:
    file.metadata.update({"title": title} if title else {})
    stream = file.add_stream(codec, rate=1000 if times_ms else fps)
    stream.height, stream.width = video.shape[1:3]
    stream.pix_fmt = pix_fmt
    stream.options = codec_options or {}
    if aspect:
      stream.codec_context.sample_aspect_ratio = aspect
    if rotation is not None:
      stream.set_display_rotation(rotation, hflip=mirrored)
    for number, array in enumerate(video):
      frame = av.VideoFrame.from_ndarray(array, format="rgb24")
      if times_ms:
        frame.pts, frame.time_base = times_ms[number], Fraction(1, 1000)
      file.mux(stream.encode(frame))
    file.mux(stream.encode())
  return path


def truncate(path: pathlib.Path, keep: float = 0.6) -> pathlib.Path:
  content = path.read_bytes()
  path.write_bytes(content[: int(len(content) * keep)])
  return path
