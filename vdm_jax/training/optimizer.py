"""The optimizer that `config.optimizer` describes."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax

from vdm_jax import errors
from vdm_jax.errors import UserError
from vdm_jax.training import muon

# Decays as functions of the elapsed fraction of a run, for `decay_by = 'time'`.
_BY_TIME = {
  "linear": lambda progress: 1.0 - progress,
  "cosine": lambda progress: 0.5 * (1.0 + jnp.cos(jnp.pi * progress)),
}


def by_time(config: Mapping[str, Any]) -> bool:
  """Returns whether the learning rate decays with time instead of steps.

  Raises:
    UserError: `config.decay_by` is unknown, or the decay does not support time.
  """
  how = config.get("decay_by", "steps")
  if how not in ("steps", "time"):
    raise errors.unknown("config.optimizer.decay_by", how, ("steps", "time"))
  if how == "time" and config["decay"] not in _BY_TIME:
    raise errors.unknown(
      "config.optimizer.decay (with decay_by = 'time')", config["decay"], _BY_TIME
    )
  return how == "time"


def learning_rate(config: Mapping[str, Any], num_steps: int) -> optax.Schedule:
  """Makes the schedule: linear warm-up over `warmup_steps`, then constant or a decay.

  'linear' and 'cosine' reach 0 at num_steps. 'exponential' is constant for
  `decay_begin` more steps, then is multiplied by `decay_rate` in every step, down to
  the fraction `decay_floor`.

  Raises:
    UserError: `config.decay` is unknown.
  """
  peak, warmup = config["learning_rate"], config["warmup_steps"]
  rest = max(num_steps - warmup, 1)
  decays = {
    "constant": optax.constant_schedule(peak),
    "linear": optax.linear_schedule(peak, 0.0, rest),
    "cosine": optax.cosine_decay_schedule(peak, rest),
  }
  if config["decay"] == "exponential":
    decays["exponential"] = optax.exponential_decay(
      peak,
      transition_steps=1,
      decay_rate=config["decay_rate"],
      transition_begin=config["decay_begin"],
      end_value=config["decay_floor"] * peak,
    )
  if config["decay"] not in decays:
    known = [*decays, "exponential"]
    raise errors.unknown("config.optimizer.decay", config["decay"], known)
  after = decays[config["decay"]]
  if not warmup:
    return after
  # The first step has a positive rate, peak / warmup.
  ramp = optax.linear_schedule(peak / warmup, peak, max(warmup - 1, 1))
  return optax.join_schedules([ramp, after], [warmup])


def rate_of_update(
  config: Mapping[str, Any], num_steps: int
) -> Callable[[Any, Any], jax.Array]:
  """Makes the function of the learning rate that `build`'s optimizer applies.

  Returns:
    A function of the number of updates so far, without skipped steps, and of the
    elapsed fraction of the run, which only `decay_by = 'time'` uses.
  """
  if not by_time(config):
    schedule = learning_rate(config, num_steps)
    return lambda count, progress: jnp.asarray(schedule(count), jnp.float32)
  schedule = learning_rate({**config, "decay": "constant"}, num_steps)
  decay = _BY_TIME[config["decay"]]
  return lambda count, progress: jnp.asarray(
    schedule(count) * decay(progress), jnp.float32
  )


def jump(
  old: Mapping[str, Any], new: Mapping[str, Any], step: int, seconds: float
) -> str:
  """Describes the jump of the learning rate if a resumed run has another length.

  Args:
    old: config of the run so far.
    new: config with which it resumes.
    step: step at which it resumes.
    seconds: seconds that it has trained so far.

  Returns:
    A sentence; '' if the rate does not jump.
  """

  def at(config):
    longest = config["train"].get("max_seconds", 0.0)  # Older runs lack it.
    progress = min(seconds / longest, 1.0) if longest > 0 else 0.0
    rate = rate_of_update(config["optimizer"], config["train"]["num_steps"])
    return float(rate(step, progress))

  before, after = at(old), at(new)
  if abs(after - before) <= 1e-3 * before:
    return ""
  field = "max_seconds" if by_time(new["optimizer"]) else "num_steps"
  return (
    f"config.train.{field} changed from {old['train'].get(field, 0.0)} to "
    f"{new['train'][field]}: the learning rate of step {step} is {after:.3g} instead "
    f"of {before:.3g}"
  )


def build(config: Mapping[str, Any], num_steps: int) -> optax.GradientTransformation:
  """Builds the optimizer: global-norm clipping, then Adam, AdamW or Muon.

  Weight decay (AdamW) acts on arrays of more than one axis, such as kernels and tables
  of embeddings, not on biases and norms. Muon acts on kernels and Adam on everything
  else; Muon's updates are scaled to the size of Adam's, so that learning rates are
  comparable. With `config.decay_by = 'time'` the decay does not depend on the step:
  `update` then takes `progress`, the elapsed fraction of the run, in [0, 1].

  Raises:
    UserError: `config.name`, `config.decay` or `config.decay_by` is unknown, or the
      optimizer has no weight decay and `config.weight_decay` is not 0.
  """
  timed = by_time(config)
  rate = learning_rate({**config, "decay": "constant"} if timed else config, num_steps)
  adam = {"b1": config["b1"], "b2": config["b2"], "eps": config["eps"]}
  optimizers = {
    "adam": lambda: optax.adam(rate, **adam),
    "adamw": lambda: optax.adamw(
      rate,
      **adam,
      weight_decay=config["weight_decay"],
      mask=lambda params: jax.tree.map(lambda p: p.ndim > 1, params),
    ),
    "muon": lambda: optax.partition(
      {
        "muon": muon.muon(rate, momentum=config["b1"], eps=config["eps"]),
        "adam": optax.adam(rate, **adam),
      },
      _labels,
    ),
  }
  if config["name"] not in optimizers:
    raise errors.unknown("config.optimizer.name", config["name"], optimizers)
  if config.get("weight_decay") and config["name"] != "adamw":
    raise UserError(
      f"`optimizer.weight_decay={config['weight_decay']}`: expected 0, as "
      f"{config['name']!r} has no weight decay; 'adamw' has"
    )
  chain = [optimizers[config["name"]]()]
  if config["clip_norm"]:
    chain.insert(0, optax.clip_by_global_norm(config["clip_norm"]))
  if timed:
    chain.append(_scale_by_time(_BY_TIME[config["decay"]]))
  return optax.chain(*chain)


def _labels(params: Any) -> Any:
  """Labels each array with its optimizer, Muon or Adam."""
  return jax.tree_util.tree_map_with_path(
    lambda path, leaf: "muon" if muon.is_kernel(path, leaf) else "adam", params
  )


def _scale_by_time(decay) -> optax.GradientTransformationExtraArgs:
  """Scales updates by decay(progress)."""

  def update(updates, state, params=None, *, progress, **extra):
    del params, extra
    return jax.tree.map(lambda u: u * decay(progress), updates), state

  return optax.GradientTransformationExtraArgs(
    lambda params: optax.EmptyState(), update
  )
