"""FDM's adaptive schemes, which observe frames that differ from each other.

A stage samples the frames that autoreg or a hierarchy would. Of the existing frames it
observes some that are prescribed and then, one after another, the frame whose nearest
chosen neighbour is farthest away, by embeddings of the video itself: every video of a
batch has its own choice.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from vdm_jax.errors import UserError
from vdm_jax.plans import embedding as embedding_lib
from vdm_jax.plans.hierarchy import Hierarchy
from vdm_jax.plans.scheme import Scheme


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Adaptive(Scheme):
  """Base class of the adaptive schemes.

  Attributes:
    embedding: name of an embedding in `plans.embedding`, `module:function` or
      `file.py:function`, or a function.
  """

  embedding: str | embedding_lib.Embedding = "pixels"
  # Cache of embeddings [B, D] by frame, as a frame never changes once it exists. Like a
  # plan, it serves one batch of videos.
  _known: dict[int, np.ndarray] = dataclasses.field(
    default_factory=dict, init=False, repr=False, compare=False
  )
  looks_at_video = True

  def __post_init__(self):
    super().__post_init__()
    embedding_lib.get(self.embedding)

  def choose_observed(
    self,
    video: np.ndarray | None,
    candidates: Sequence[int],
    always: Sequence[int],
    room: int,
  ) -> list[list[int]]:
    """Chooses the observed frames of every video, in the order of choice.

    Args:
      video: [B, L, H, W, C]; None for a dry run in which all frames are alike.
      candidates: existing frames; ties go to the first of them.
      always: the candidates that are observed first, in this order.
      room: number of frames to observe; all candidates if there are fewer.
    """
    places = [candidates.index(frame) for frame in always[:room]]
    vectors = np.zeros((1, len(candidates), 1))
    if video is not None:
      vectors = self._embed(video, candidates)
    return [
      [candidates[place] for place in farthest(points, places, room)]
      for points in vectors
    ]

  def _embed(self, video: np.ndarray, frames: Sequence[int]) -> np.ndarray:
    """Computes embeddings of some frames, float64 [B, frames, D]."""
    new = [frame for frame in frames if frame not in self._known]
    if new:
      size = len(video)
      pictures = np.asarray(video[:, new], np.float32)
      found = np.asarray(
        embedding_lib.get(self.embedding)(pictures.reshape(-1, *pictures.shape[2:])),
        np.float64,
      )
      if found.ndim != 2 or len(found) != size * len(new):
        raise UserError(
          f"embedding {self.embedding!r}: expected [{size * len(new)}, D], found "
          f"{found.shape}"
        )
      found = found.reshape(size, len(new), -1)
      self._known.update({frame: found[:, k] for k, frame in enumerate(new)})
    return np.stack([self._known[frame] for frame in frames], axis=1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class AdaptiveAutoreg(_Adaptive):
  """Samples the next S frames, given the last one and the K - S - 1 most different."""

  name = "adaptive-autoreg"

  def stage(self, state, video):
    exists = state["exists"]
    newest_first = exists[::-1]
    room = self.max_frames - self.step_size
    observed = self.choose_observed(video, newest_first, newest_first[:1], room)
    return observed, self.following(exists), {}


@dataclasses.dataclass(frozen=True)
class AdaptiveHierarchy(Hierarchy, _Adaptive):
  """Samples the frames of hierarchy-N, given neighbours and the most different frames.

  A stage observes the existing frames between the latent ones, the two before them and
  the one after them, then those that differ the most.
  """

  @property
  def name(self) -> str:
    return f"adaptive-hierarchy-{self.levels}"

  def stage(self, state, video):
    choice = self.choose(state)
    exists, latent = state["exists"], choice.latent
    before = [frame for frame in exists if frame < latent[0]]
    behind = [frame for frame in exists if frame > latent[-1]]
    always = [*choice.between, *before[::-1][:2], *behind[:1]]
    observed = self.choose_observed(video, exists, always, choice.room)
    return observed, latent, {"level": choice.level, "last": latent[-1]}


def farthest(points: np.ndarray, chosen: Sequence[int], count: int) -> list[int]:
  """Chooses points that are far from each other, greedily.

  Args:
    points: [n, D].
    chosen: points to start with, in order.
    count: number of points to choose in all, at most n.

  Returns:
    `chosen`, then one after another the point whose nearest chosen point is farthest;
    ties go to the first.
  """
  chosen = list(chosen)
  nearest = np.full(len(points), np.inf)
  done = 0
  while True:
    for place in chosen[done:]:
      nearest = np.minimum(nearest, ((points - points[place]) ** 2).sum(-1))
    done = len(chosen)
    if done >= min(count, len(points)):
      return chosen
    chosen.append(
      int(np.where(np.isin(range(len(points)), chosen), -1, nearest).argmax())
    )
