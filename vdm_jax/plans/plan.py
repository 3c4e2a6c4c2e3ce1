"""The interface of plans, their registry, and the checks before one is used."""

import dataclasses
import inspect
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

import numpy as np

from vdm_jax import names
from vdm_jax.errors import UserError
from vdm_jax.frames import Frames

State = dict[str, Any]


class Plan(Protocol):
  """The stages in which a video is sampled.

  Attributes:
    length: frames of the finished video.
    given: indices of the frames that exist before the first stage.

  A plan may also have `max_frames`, the largest number of frames in a stage, which is
  then checked; and one whose observed frames depend on the video must have
  `looks_at_video = True`, so that no dry run is taken for its stages.
  """

  length: int
  given: tuple[int, ...]

  def start(self) -> State:
    """Returns the state before the first stage; states are JSON-serialisable."""
    ...

  def next(self, state: State, video: np.ndarray | None) -> tuple[Frames, State] | None:
    """Returns the next stage, or None when every frame exists.

    Args:
      state: state from `start` or from the stage before.
      video: float32 [B, length, H, W, C] in [-1, 1] with the frames that exist so far,
        for plans that depend on it. It is None in the check before sampling: which
        frames are latent, and how many are observed, must not depend on it.

    Returns:
      Frames of numpy arrays [B, T] (or [1, T]), and the next state. Slots may be in
      any order; noise belongs to slots.
    """
    ...


_REGISTRY: names.Registry[Callable[..., Plan]] = names.Registry("plan")


def register(name: str, make: Callable[..., Plan]) -> None:
  """Registers a plan under a name.

  Args:
    name: name of the plan.
    make: function of length, given, window (by name) and the plan's options that makes
      it.
  """
  _REGISTRY.register(name, make)


def known() -> dict[str, Callable[..., Plan]]:
  """Lists the registered plans by name."""
  return dict(sorted(_REGISTRY.items()))


def build(
  name: str, *, length: int, given: tuple[int, ...], window: int, **options: Any
) -> Plan:
  """Builds a plan by its name.

  Args:
    name: a registered name; or `package.module:attribute` or `file.py:attribute`, a
      function or class of the user's with the arguments below. A generator function
      yields one pair (observed frames, latent frames) for each stage.
    length: frames of the finished video.
    given: indices of the frames that exist already.
    window: frames that the model takes at a time.
    **options: options of the plan; None stands for an option's default.

  Raises:
    UserError: the name or an option is unknown, an option is missing, what is named
      makes no plan, or the plan cannot work.
  """
  make = _find(name)
  for index in given:
    if not 0 <= index < length:
      raise UserError(f"given frame {index}: expected 0 to {length - 1}")
  if len(set(given)) != len(given):
    raise UserError(f"given frames: {sorted(given)} names a frame twice")
  options = {key: value for key, value in options.items() if value is not None}
  arguments = dict(length=length, given=tuple(given), window=window)
  names.check_arguments(
    make,
    options,
    kind=f"option of plan {name!r}",
    prefix=f"plan {name!r}: option ",
    always=arguments,
  )
  for argument in arguments:
    if not _takes(make, argument):
      raise UserError(
        f"plan {name!r}: expected a function of {', '.join(arguments)} and the plan's "
        f"options, found one that takes no {argument}"
      )
  plan = make(**arguments, **options)
  if inspect.isgenerator(plan):
    return Listed(length, tuple(given), tuple(plan))
  if missing := names.missing(Plan, plan):
    raise UserError(
      f"plan {name!r}: expected a generator of (observed, latent) or a plan, found a "
      f"{type(plan).__name__} without {', '.join(missing)}"
    )
  return plan


def takes(name: str, option: str) -> bool:
  """Tells whether a plan has an option; the name is as for `build`.

  Raises:
    UserError: the name is unknown.
  """
  return _takes(_find(name), option)


def _find(name: str) -> Callable[..., Any]:
  make = _REGISTRY.find_or_import(name)
  if not callable(make):
    raise UserError(
      f"plan {name!r}: expected a function or class, found a {type(make).__name__}"
    )
  return make


def _takes(make: Callable[..., Any], argument: str) -> bool:
  parameters = inspect.signature(make).parameters
  if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
    return True
  found = parameters.get(argument)
  return found is not None and found.kind in (
    found.POSITIONAL_OR_KEYWORD,
    found.KEYWORD_ONLY,
  )


@dataclasses.dataclass(frozen=True)
class Listed:
  """A plan whose stages are listed one by one.

  Attributes:
    length: frames of the finished video.
    given: frames that exist already.
    pairs: (observed frames, latent frames) of each stage.
    max_frames: largest number of frames in a stage; None skips the check.
  """

  length: int
  given: tuple[int, ...]
  pairs: tuple[tuple[Sequence[int], Sequence[int]], ...]
  max_frames: int | None = None

  def start(self) -> State:
    return {"stage": 0}

  def next(self, state, video=None):
    """Returns the next stage, see `Plan`; the state is its number."""
    del video
    number = state["stage"]
    if number == len(self.pairs):
      return None
    observed, latent = self.pairs[number]
    return stage([observed], latent), {"stage": number + 1}


def stage(observed: Sequence[Sequence[int]], latent: Sequence[int]) -> Frames:
  """Makes the frames of a stage: the observed ones as listed, then the latent ones.

  Args:
    observed: observed frames of each video, the same number for each; or one row for
      all videos.
    latent: latent frames, the same for all videos.
  """
  rows = [[*row, *latent] for row in observed]
  index = np.asarray(rows, np.int32).reshape(len(rows), -1)
  is_latent = np.zeros(index.shape, bool)
  is_latent[:, index.shape[1] - len(latent) :] = True
  return Frames(
    index=index, observed=~is_latent, latent=is_latent, group=np.zeros_like(index)
  )


def check_stage(plan: Plan, frames: Frames, exists: set[int]) -> set[int]:
  """Checks one stage and returns the frames that exist after it.

  Args:
    plan: plan that the stage belongs to.
    frames: the stage.
    exists: the frames that exist before it.

  Raises:
    UserError: the stage samples nothing, a frame twice, one outside the video, or not
      the same ones in all videos; observes a frame that does not exist yet; holds one
      twice; or is longer than the plan's max_frames.
  """
  limit, sampled = getattr(plan, "max_frames", None), None
  for row in range(np.shape(frames.index)[0]):
    index, is_observed, is_latent = (
      np.asarray(getattr(frames, name))[row] for name in ("index", "observed", "latent")
    )
    held = index[is_observed | is_latent].tolist()
    latent = index[is_latent].tolist()
    early = set(index[is_observed & ~is_latent].tolist()) - exists
    if early:
      raise UserError(f"plan: observes frames {sorted(early)} before they exist")
    if again := set(latent) & exists:
      raise UserError(f"plan: samples frames {sorted(again)} twice")
    if not latent:
      raise UserError("plan: a stage samples no frame")
    if any(not 0 <= i < plan.length for i in latent):
      raise UserError(f"plan: samples frames outside 0 to {plan.length - 1}")
    if len(set(held)) != len(held):
      raise UserError(f"plan: a stage holds a frame twice: {held}")
    if limit is not None and len(held) > limit:
      raise UserError(f"plan: a stage of {len(held)} frames, max_frames is {limit}")
    if sampled is not None and set(latent) != sampled:
      raise UserError(
        "plan: a stage samples other frames in some videos than in others"
      )
    sampled = set(latent)
  return exists | sampled


def stages(plan: Plan) -> Iterator[Frames]:
  """Runs a plan without a video and yields its stages, checked one by one.

  A plan that depends on the video will observe other frames when it samples; everything
  else, and their number, is the same.

  Raises:
    UserError: a stage is invalid, see `check_stage`, or the plan ends before the video
      is complete.
  """
  exists = set(plan.given)
  state = plan.start()
  while (following := plan.next(state, None)) is not None:
    frames, state = following
    exists = check_stage(plan, frames, exists)
    yield frames
  missing = sorted(set(range(plan.length)) - exists)
  if missing:
    raise UserError(f"plan: never samples frames {missing[:10]}")
