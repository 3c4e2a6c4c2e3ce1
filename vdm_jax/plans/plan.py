"""What a plan is, how a name picks one, and how it is checked before use."""

import dataclasses
import inspect
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

import numpy as np

from vdm_jax import errors, names
from vdm_jax.errors import UserError
from vdm_jax.frames import Frames

State = dict[str, Any]


class Plan(Protocol):
  """The stages in which a video is sampled.

  Attributes:
    length: frames of the finished video.
    given: indices of the frames that exist before the first stage.

  A plan may have `max_frames`, the most frames that a stage may hold: it is checked.
  """

  length: int
  given: tuple[int, ...]

  def start(self) -> State:
    """Returns the state before the first stage; JSON can hold any state."""
    ...

  def next(self, state: State, video: np.ndarray | None) -> tuple[Frames, State] | None:
    """Returns the next stage, or None when every frame exists.

    Args:
      state: from `start` or the stage before.
      video: float32 [B, length, H, W, C] in [-1, 1] with what exists so far in
        place, for plans that look at it. None in the check before sampling, of all
        plans: which frames are latent and how many observed must not depend on it.

    Returns:
      Frames of numpy arrays [B, T] (or [1, T]), and the next state. Slots may be in
      any order; noise belongs to slots.
    """
    ...


_REGISTRY: names.Registry[Callable[..., Plan]] = names.Registry("plan")
_LOOKING: set[str] = set()


def register(name: str, make: Callable[..., Plan], *, looks: bool = False) -> None:
  """Makes a plan nameable.

  Args:
    name: of the plan.
    make: takes length, given, window and its options.
    looks: its stages depend on what was sampled.
  """
  _REGISTRY.register(name, make)
  if looks:
    _LOOKING.add(name)


def looks(name: str) -> bool:
  """Whether the stages of a plan depend on what was sampled."""
  return name in _LOOKING


def known() -> dict[str, Callable[..., Plan]]:
  """Lists the registered plans by name."""
  return dict(sorted(_REGISTRY.items()))


def build(
  name: str, *, length: int, given: tuple[int, ...], window: int, **options: Any
) -> Plan:
  """Builds the plan of a name.

  Args:
    name: as registered; or `package.module:attribute` or `file.py:attribute`, a
      function or class of the user's with the arguments below. A generator function
      yields one pair (observed frames, latent frames) for each stage.
    length: frames of the finished video.
    given: indices of the frames that exist already.
    window: frames that the model takes at a time.
    **options: of the plan; None leaves one at its default.

  Raises:
    UserError: the name or an option is unknown, or the plan cannot work.
  """
  make = _REGISTRY.find_or_import(name)
  for index in given:
    if not 0 <= index < length:
      raise UserError(f"given frame {index}: expected 0 to {length - 1}")
  if len(set(given)) != len(given):
    raise UserError(f"given frames: {sorted(given)} names a frame twice")
  options = {key: value for key, value in options.items() if value is not None}
  accepted = inspect.signature(make).parameters
  if not any(p.kind is p.VAR_KEYWORD for p in accepted.values()):
    own = [key for key in accepted if key not in ("length", "given", "window")]
    for key in options:
      if key not in own:
        raise errors.unknown(f"option of plan {name!r}", key, own)
  arguments = dict(length=length, given=tuple(given), window=window, **options)
  if inspect.isgeneratorfunction(make):
    return Listed(length, tuple(given), tuple(make(**arguments)))
  return make(**arguments)


@dataclasses.dataclass(frozen=True)
class Listed:
  """A plan whose stages are written out.

  Attributes:
    length: frames of the finished video.
    given: frames that exist already.
    pairs: (observed frames, latent frames) of each stage.
    max_frames: the most frames that a stage may hold; None is not checked.
  """

  length: int
  given: tuple[int, ...]
  pairs: tuple[tuple[Sequence[int], Sequence[int]], ...]
  max_frames: int | None = None

  def start(self) -> State:
    return {"stage": 0}

  def next(self, state, video=None):
    """See `Plan`; the state is the number of the next stage."""
    del video
    number = state["stage"]
    if number == len(self.pairs):
      return None
    observed, latent = self.pairs[number]
    return stage([observed], latent), {"stage": number + 1}


def stage(observed: Sequence[Sequence[int]], latent: Sequence[int]) -> Frames:
  """Makes the frames of a stage: observed ones as listed, then the latent ones.

  Args:
    observed: of every video (or of all, if one row), the same number for each.
    latent: of all videos.
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
    plan: whose stage it is.
    frames: the stage.
    exists: the frames that exist before it.

  Raises:
    UserError: it samples nothing, a frame twice, one outside the video, or not the
      same ones in all videos; looks at one that does not exist yet or holds one
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
  """Runs a plan without a video; yields its stages, checked one by one.

  Of a plan that looks at the video, which frames are observed is not what it will
  choose; how many and all else is.

  Raises:
    UserError: see `check_stage`; or the plan ends before the video is complete.
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
