"""Sampling of one batch of videos by a plan, stage by stage."""

import jax
import jax.numpy as jnp
import numpy as np

from vdm_jax import plans
from vdm_jax.sampling import stages
from vdm_jax.sampling.stages import Stage


class SampledBatch:
  """A batch of videos that is sampled by a plan."""

  def __init__(self, model, settings, plan, seed, numbers, cond, low_res=None):
    self.model = model
    self.settings = settings
    self.plan = plan
    # Seeds have 32 bits, of which JAX's default integer would leave no room for a sign.
    self.seed = np.asarray(seed, np.uint32)
    self.numbers = jnp.asarray(numbers, jnp.int32)
    self.cond = cond
    self.low_res = low_res

  def run(self, video, batch, store, bar) -> np.ndarray:
    """Samples every stage that is not in the store; video [B, L, H, W, C]."""
    state, carried, number = self.plan.start(), None, 0
    exists = set(self.plan.given)
    for stage in store.finished(batch) if store is not None else ():
      video[stage.rows, stage.index] = stage.values
      exists.update(np.ravel(stage.index).tolist())
      state, carried, number = stage.plan_state, stage.carried, number + 1
      bar.update()
    while (following := self.plan.next(state, video)) is not None:
      frames, state = following
      # Checked again, as a plan that depends on the video may choose other frames than
      # in the dry run.
      exists = plans.check_stage(self.plan, frames, exists)
      new, slots, carried = self._stage(video, frames, carried, number)
      rows, index = slots
      video[rows, index] = new
      if store is not None:
        leaves = stages.leaves(carried)
        store.save(batch, number, Stage(rows, index, new, state, leaves))
      number += 1
      bar.update()
    return video

  def run_whole(self, video, batch, store, bar) -> np.ndarray:
    """Samples all stages of a roll-out as one; otherwise like `run`."""
    rows, state, windows = np.arange(len(video))[:, None], self.plan.start(), []
    while (following := self.plan.next(state, None)) is not None:
      frames, state = following
      windows.append(frames)
    for stage in store.finished(batch) if store is not None else ():
      video[stage.rows, stage.index] = stage.values
      bar.update(len(windows))
      return video  # The only stage holds all frames.
    if not windows:
      return video
    index = np.stack([frames.index[0, -1] for frames in windows])
    given = video[:, : index[0]]
    keys = [_keys(self.seed, self.numbers, number) for number in range(len(windows))]
    new = self.model.rollout(self.settings, given, self.cond, jnp.stack(keys, axis=1))
    new = np.asarray(new)
    video[:, index] = new
    if store is not None:
      rows, index = np.broadcast_arrays(rows, index[None])
      values = new.reshape(-1, *new.shape[2:])
      store.save(batch, 0, Stage(rows.ravel(), index.ravel(), values, state, []))
    bar.update(len(windows))
    return video

  def _stage(self, video, frames, carried, number):
    """Samples new frames [K, ...] of a stage; returns (rows, index) and state, too."""
    size = len(video)
    frames = jax.tree.map(
      lambda row: np.broadcast_to(np.asarray(row), (size, *row.shape[1:])), frames
    )
    rows = np.arange(size)[:, None]
    window = video[rows, frames.index]
    system = self.model.system
    if isinstance(carried, list):  # Read from disk, as leaves without their tree.
      carried = self._with_structure(window, frames, carried)
    wide = frames.replace(index=frames.index * system.stride)
    keys = _keys(self.seed, self.numbers, number)
    low_res = jax.tree.map(lambda leaf: leaf[rows, frames.index], self.low_res)
    sampled, carried = self.model.window(
      self.settings, window, wide, self.cond, keys, carried, low_res
    )
    sampled = np.asarray(sampled)
    written = frames.latent
    if not self.settings.restore_given:
      written = written | frames.observed
    rows, slots = np.nonzero(written)
    return sampled[rows, slots], (rows, frames.index[rows, slots]), carried

  def _with_structure(self, window, frames, leaves):
    if not leaves:
      return None
    encoded = jax.eval_shape(
      self.model.system.encode, self.model.params, window, frames, self.cond
    )
    return jax.tree.unflatten(jax.tree.structure(encoded.state), leaves)


@jax.jit
def _keys(seed, numbers, stage):
  """Makes one key per video and stage, from one seed for all videos or one each."""

  def one(seed, number):
    return jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), number), stage)

  return jax.vmap(one)(jnp.broadcast_to(seed, numbers.shape), numbers)
