"""Samples of a run while it trains."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from vdm_jax.pixels import to_uint8
from vdm_jax.sampling.model import Model
from vdm_jax.systems import SamplingSystem


def sampler(
  config: Mapping[str, Any],
  system: SamplingSystem,
  count: int,
  length: int,
  given: np.ndarray | None,
) -> tuple[Callable[[Any], np.ndarray], np.ndarray | None]:
  """Makes a sampler for a run in training, with the same noise and labels at each call.

  Args:
    config: the run's config.
    system: the system built from it.
    count: number of videos N.
    length: frames per video T.
    given: float [N, T0, H, W, C] in [-1, 1], the first frames of each; None for none.

  Returns:
    A function that maps parameters to videos, uint8 [N, T, H, W, C], and their labels
    [N] (None for a model without labels).

  Raises:
    UserError: the config's sampling or plan cannot make such videos.
  """
  model = Model(system, None, {"config": config})
  labels = None
  if system.cond.num_labels:
    labels = np.arange(count) % system.cond.num_labels
  # Now, not at the first sample after hours of training.
  model.settings(labels is not None, guidance=0.0)
  model.check_plan(length, range(0 if given is None else given.shape[1]))

  def sample(params):
    # With one process nothing is copied, as the state is on the same mesh.
    model.set_params(params)
    try:
      videos = model.sample(
        count, length=length, label=labels, guidance=0.0, given=given
      )
    finally:
      model.set_params(None)  # Frees memory for training.
    return to_uint8(videos)

  return sample, labels
