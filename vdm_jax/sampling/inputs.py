"""Checks and reshapes what a caller gives `Model.sample` to start from."""

from collections.abc import Sequence

import jax
import numpy as np

from vdm_jax import pixels
from vdm_jax.errors import UserError
from vdm_jax.sampling.window import LowRes
from vdm_jax.systems import SamplingSystem


def given_frames(
  system: SamplingSystem,
  given: np.ndarray | None,
  frames: Sequence[int],
  num_videos: int,
) -> tuple[np.ndarray | None, Sequence[int]]:
  """Checks given frames [T0, H, W, C], or [N, T0, H, W, C], and their places.

  Returns:
    The frames, float32 [N, T0, H, W, C] or None, and their places in the video.

  Raises:
    UserError: the frames do not fit the model, or the places do not fit the frames.
  """
  if given is None:
    if len(frames):
      raise UserError("`given_frames`: there is no given clip to take them from")
    return None, ()
  given = _of_each("given", given, num_videos)
  if given.shape[2:] != system.frame_shape:
    raise UserError(
      f"`given`: expected [T, {', '.join(map(str, system.frame_shape))}] or "
      f"{num_videos} of them, found {given.shape}"
    )
  return given, _places("given_frames", frames, given)


def low_res(
  system: SamplingSystem,
  video: np.ndarray | None,
  frames: Sequence[int],
  num_videos: int,
  length: int,
) -> LowRes | None:
  """Spreads low-resolution video, [T1, h, w, C] or one per video, over all L frames.

  Returns:
    [N, L, h, w, C], and which of the L frames it holds; None if there is no such video.

  Raises:
    UserError: the frames do not fit the model, or the places do not fit the frames.
  """
  if video is None:
    if len(frames):
      raise UserError(
        "`low_res_frames`: there is no low-resolution video to take them from"
      )
    return None
  if system.windows.recurrent:
    raise UserError("`low_res`: a roll-out is of residuals, not of frames")
  video = _of_each("low_res", video, num_videos)
  if not pixels.times(system.frame_shape, video.shape[2:]):
    large, small = (
      "x".join(map(str, s)) for s in (system.frame_shape, video.shape[2:])
    )
    raise UserError(
      f"`low_res`: expected frames of {large} divided by a whole number, found {small}"
    )
  places = np.asarray(_places("low_res_frames", frames, video))
  if not 0 <= places.min() <= places.max() < length:
    raise UserError(
      f"`low_res_frames`: {places.min()} to {places.max()}, the video has {length} "
      "frames"
    )
  whole = np.zeros((num_videos, length, *video.shape[2:]), np.float32)
  known = np.zeros((num_videos, length), bool)
  whole[:, places], known[:, places] = video, True
  return LowRes(whole, known)


def cond(
  system: SamplingSystem,
  num_videos: int,
  label: int | Sequence[int] | None,
  tokens: tuple[np.ndarray, np.ndarray] | None,
  guidance: float,
  negative_tokens: tuple[np.ndarray, np.ndarray] | None = None,
) -> dict[str, np.ndarray]:
  """Makes the conditioning signals of the network from label and caption.

  Args:
    system: system whose network takes them.
    num_videos: number of videos N.
    label: class of all videos, or of each.
    tokens: embedded caption of all videos, or of each.
    guidance: weight w of classifier-free guidance.
    negative_tokens: embedded caption that guidance moves away from.

  Raises:
    UserError: the model does not take them, or there is nothing to guide towards.
  """
  spec = system.cond
  found = jax.tree.map(np.array, spec.hide_all(spec.shapes(num_videos, 1)))
  if label is not None:
    if not spec.num_labels:
      raise UserError("`label`: this model was trained without labels")
    labels = np.asarray(label, np.int32)
    if labels.shape not in ((), (1,), (num_videos,)):
      raise UserError(
        f"`label`: expected one, or one for each of {num_videos} videos, found an "
        f"array of shape {labels.shape}"
      )
    labels = np.broadcast_to(labels, num_videos)
    for value in labels:
      if not -1 <= value < spec.num_labels:
        raise UserError(
          f"`label={value}`: expected 0 to {spec.num_labels - 1}, or -1 for none"
        )
    found["label"][:, 0] = labels
  if tokens is not None:
    if not spec.token_dim:
      raise UserError("`tokens`: this model was trained without text")
    _put_tokens(found, tokens)
  if negative_tokens is not None:
    if tokens is None or not guidance:
      raise UserError(
        "`negative_tokens`: is what guidance moves away from: expected a caption "
        "(`tokens`) and a `guidance` weight above 0"
      )
    found["negative"] = {
      name: np.zeros_like(found[name]) for name in ("tokens", "token_mask")
    }
    _put_tokens(found["negative"], negative_tokens)
  if guidance and label is None and tokens is None:
    raise UserError("`guidance`: needs a label or a caption to guide towards")
  return found


def _put_tokens(
  cond: dict[str, np.ndarray], tokens: tuple[np.ndarray, np.ndarray]
) -> None:
  """Puts embedded captions, [L, D] and [L] or one for each video, into `cond`."""
  for name, value in zip(("tokens", "token_mask"), tokens, strict=True):
    place = cond[name][:, 0]
    if np.shape(value) not in (place.shape, place.shape[1:]):
      raise UserError(
        f"`tokens`: expected {name} of shape {place.shape[1:]}, or {len(place)} of "
        f"them, found {np.shape(value)}"
      )
    place[...] = value


def _of_each(name: str, video: np.ndarray, num_videos: int) -> np.ndarray:
  """Broadcasts [T, H, W, C] to [N, T, H, W, C], and checks one that has N already."""
  video = np.asarray(video, np.float32)
  if video.ndim == 4:
    video = np.broadcast_to(video, (num_videos, *video.shape))
  if video.ndim != 5 or len(video) != num_videos:
    raise UserError(
      f"`{name}`: expected a video [T, H, W, C] or {num_videos} of them, found an "
      f"array of shape {video.shape}"
    )
  return video


def _places(name: str, frames: Sequence[int], video: np.ndarray) -> list[int]:
  """Returns the places of given frames in the video, by default the first ones."""
  places = list(frames) if len(frames) else list(range(video.shape[1]))
  if len(places) != video.shape[1]:
    raise UserError(f"`{name}`: {len(places)} places for {video.shape[1]} frames")
  return places
