"""What a plan is, how a name picks one, and how it is checked before use."""

import inspect
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import numpy as np

from vdm_jax import errors
from vdm_jax.errors import UserError
from vdm_jax.frames import Frames

State = dict[str, Any]


class Plan(Protocol):
  """The stages in which a video is sampled.

  Attributes:
    length: frames of the finished video.
    given: indices of the frames that exist before the first stage.
  """

  length: int
  given: tuple[int, ...]

  def start(self) -> State:
    """The state before the first stage; JSON can hold any state."""
    ...

  def next(self, state: State, video: np.ndarray | None) -> tuple[Frames, State] | None:
    """The next stage, or None when every frame exists.

    Args:
      state: from `start` or the stage before.
      video: float32 [B, length, H, W, C] with what exists so far in place, for
        plans that look at it; others take None for one row of Frames.

    Returns:
      Frames of numpy arrays [B, T] (or [1, T]), and the next state.
    """
    ...


_REGISTRY: dict[str, Callable[..., Plan]] = {}


def register(name: str, make: Callable[..., Plan]) -> None:
  """Makes a plan nameable; `make` takes length, given, window and its options."""
  _REGISTRY[name] = make


def build(
  name: str, *, length: int, given: tuple[int, ...], window: int, **options: Any
) -> Plan:
  """The plan of a name.

  Args:
    name: as registered.
    length: frames of the finished video.
    given: indices of the frames that exist already.
    window: frames that the model takes at a time.
    **options: of the plan; None leaves one at its default.

  Raises:
    UserError: the name or an option is unknown, or the plan cannot work.
  """
  if name not in _REGISTRY:
    raise errors.unknown("plan", name, _REGISTRY)
  for index in given:
    if not 0 <= index < length:
      raise UserError(f"given frame {index}: expected 0 to {length - 1}")
  if len(set(given)) != len(given):
    raise UserError(f"given frames: {sorted(given)} names a frame twice")
  accepted = inspect.signature(_REGISTRY[name]).parameters
  options = {key: value for key, value in options.items() if value is not None}
  for key in options:
    if key not in accepted:
      raise errors.unknown(f"option of plan {name!r}", key, accepted)
  plan = _REGISTRY[name](length=length, given=tuple(given), window=window, **options)
  return plan


def stages(plan: Plan) -> Iterator[Frames]:
  """The stages of a plan that needs no video, checked one by one.

  Raises:
    UserError: a stage samples a frame twice, looks at one that does not exist
      yet, or the plan ends before the video is complete.
  """
  exists = set(plan.given)
  state = plan.start()
  while (following := plan.next(state, None)) is not None:
    frames, state = following
    index = np.asarray(frames.index)[0]
    observed = {int(i) for i in index[np.asarray(frames.observed)[0]]}
    latent = {int(i) for i in index[np.asarray(frames.latent)[0]]}
    if observed - exists:
      raise UserError(f"plan: looks at frames {sorted(observed - exists)} too early")
    if latent & exists:
      raise UserError(f"plan: samples frames {sorted(latent & exists)} twice")
    if any(not 0 <= i < plan.length for i in latent):
      raise UserError(f"plan: samples frames outside 0 to {plan.length - 1}")
    exists |= latent
    yield frames
  missing = sorted(set(range(plan.length)) - exists)
  if missing:
    raise UserError(f"plan: never samples frames {missing[:10]}")
