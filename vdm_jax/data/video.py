"""Reading and writing of clips: GIF, MP4 and whatever FFmpeg reads.

GIF and PNG need only Pillow; other files need the extra `video`. Metrics are never
computed from files written here, as GIF and H.264 are lossy.
"""

import io
import math
import tempfile
from fractions import Fraction

import numpy as np
import PIL.Image
from etils import epath

from vdm_jax.data import container, decode
from vdm_jax.errors import UserError


def read_video(
  path: epath.PathLike,
  *,
  size: tuple[int, int] | int | None = None,
  fps: float = 0.0,
  channels: int = 3,
  max_frames: int | None = None,
) -> np.ndarray:
  """Reads a video file, a GIF or a folder of pictures.

  Args:
    path: file or folder to read.
    size: (H, W), or the side of a square; see `decode.decode`. None keeps the size.
    fps: frames per second to sample at; 0 keeps the coded frames. (A GIF merges equal
      frames into one long frame; set its rate to get all frames back.)
    channels: 3 for RGB, 1 for grey.
    max_frames: number of frames after which to stop.

  Returns:
    uint8 [T, H, W, channels].

  Raises:
    UserError: there is no such file, it is damaged, or pictures differ in size.
  """
  if isinstance(size, int):
    size = (size, size)
  frames = []
  for _, frame in decode.decode(path, size=size, fps=fps, channels=channels):
    if frames and frame.shape != frames[0].shape:
      raise UserError(
        f"{path}: expected frames of one size, found {frames[0].shape[:2]} and"
        f" {frame.shape[:2]}; give a size"
      )
    frames.append(frame)
    if len(frames) == max_frames:
      break
  return np.stack(frames)


def write_video(
  path: epath.PathLike, video: np.ndarray, *, fps: float = 8, scale: int = 1
) -> None:
  """Writes a clip in the format of the path's suffix, .gif or .mp4.

  Args:
    path: path of the file.
    video: uint8 [T, H, W, C] with C = 1 or 3.
    fps: frames per second.
    scale: edge of the square that every pixel becomes.
  """
  suffix = epath.Path(path).suffix.lower()
  if suffix not in (".gif", ".mp4"):
    raise UserError(f"{path}: expected a name that ends in .gif or .mp4")
  (write_gif if suffix == ".gif" else write_mp4)(path, video, fps=fps, scale=scale)


def check_rate(fps: float) -> None:
  """Raises UserError unless clips can be written at a rate, in frames per second."""
  if not 0 < fps < math.inf:
    raise UserError(f"`fps={fps:g}`: expected more than 0 frames per second")


def write_gif(
  path: epath.PathLike, video: np.ndarray, *, fps: float = 8, scale: int = 1
) -> None:
  """Writes an endless GIF, lossless for grey clips; see `write_video` for arguments.

  Every frame has its own palette, which measured 8 dB better than one palette for the
  whole clip.
  """
  check_rate(fps)
  video = enlarge(_checked(video), scale)
  # GIF counts in 1/100 s; rounding *times*, not durations, keeps the average speed.
  ticks = np.rint(np.arange(len(video) + 1) * 100 / fps).astype(int)
  durations = (10 * np.maximum(np.diff(ticks), 1)).tolist()
  images = [_paletted(frame) for frame in video]
  buffer = io.BytesIO()
  images[0].save(
    buffer,
    format="GIF",
    save_all=True,
    append_images=images[1:],
    duration=durations,
    loop=0,
    disposal=1,
  )
  _write(path, buffer.getvalue())


def write_mp4(
  path: epath.PathLike,
  video: np.ndarray,
  *,
  fps: float = 8,
  scale: int = 1,
  quality: int = 16,
) -> None:
  """Writes H.264 that every player can open.

  Args:
    path: path of the file.
    video: uint8 [T, H, W, C]. Odd heights or widths, which the format does not allow,
      are padded by repeating the last row or column.
    fps: frames per second.
    scale: edge of the square that every pixel becomes.
    quality: x264's constant rate factor, 0 (best) to 51.

  Raises:
    UserError: the `video` extra is missing, or the rate is not positive.
  """
  check_rate(fps)
  av = container.import_av()
  video = enlarge(_checked(video), scale)
  _, height, width, channels = video.shape
  padding = ((0, 0), (0, height % 2), (0, width % 2), (0, 0))
  video = np.repeat(np.pad(video, padding, mode="edge"), 3 // channels, axis=-1)
  rate = Fraction(fps).limit_denominator(1001)
  # Written by way of a local file, because moving the index to the front (so that
  # browsers can start to play at once) reads it back.
  with tempfile.TemporaryDirectory() as scratch:
    local = epath.Path(scratch) / "clip.mp4"
    with av.open(str(local), "w", options={"movflags": "faststart"}) as file:
      stream = file.add_stream("libx264", rate=rate, options={"crf": str(quality)})
      stream.height, stream.width = video.shape[1:3]
      stream.pix_fmt = "yuv420p"
      for array in video:
        file.mux(stream.encode(av.VideoFrame.from_ndarray(array, format="rgb24")))
      file.mux(stream.encode())
    _write(path, local.read_bytes())


def enlarge(video: np.ndarray, scale: int) -> np.ndarray:
  """Enlarges every pixel of [..., H, W, C] to a square of `scale` x `scale` pixels."""
  return video.repeat(scale, axis=-3).repeat(scale, axis=-2)


def visible_scale(height: int, width: int, target: int = 128) -> int:
  """Computes the factor by which a frame's longer side comes near `target` pixels."""
  return max(1, round(target / max(height, width)))


def _checked(video: np.ndarray) -> np.ndarray:
  video = np.asarray(video)
  if video.ndim != 4 or video.dtype != np.uint8 or video.shape[-1] not in (1, 3):
    raise ValueError(
      f"expected a clip uint8 [T, H, W, 1 or 3], found {video.dtype} {video.shape}"
    )
  return video


def _paletted(frame: np.ndarray) -> PIL.Image.Image:
  if frame.shape[-1] == 1:
    return PIL.Image.fromarray(frame[..., 0])
  image = PIL.Image.fromarray(frame)
  return image.convert("P", palette=PIL.Image.Palette.ADAPTIVE, colors=256)


def _write(path: epath.PathLike, content: bytes) -> None:
  path = epath.Path(path)
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_bytes(content)
