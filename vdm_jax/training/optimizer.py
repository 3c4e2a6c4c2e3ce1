"""The optimizer that `config.optimizer` describes."""

from collections.abc import Mapping
from typing import Any

import jax
import optax

from vdm_jax import errors


def learning_rate(config: Mapping[str, Any], num_steps: int) -> optax.Schedule:
  """Linear warm-up over `warmup_steps`, then constant or a decay.

  'linear' and 'cosine' reach 0 at num_steps. 'exponential' is constant until
  `decay_begin` more steps are done, then loses the factor `decay_rate` in every step
  down to the fraction `decay_floor`.

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
  # The first step already moves: it runs at peak / warmup.
  ramp = optax.linear_schedule(peak / warmup, peak, max(warmup - 1, 1))
  return optax.join_schedules([ramp, after], [warmup])


def build(config: Mapping[str, Any], num_steps: int) -> optax.GradientTransformation:
  """Global-norm clipping, then Adam or AdamW.

  Weight decay (AdamW) acts on matrices and kernels alone, not on biases and
  norms.

  Raises:
    UserError: `config.name` or `config.decay` is unknown.
  """
  rate = learning_rate(config, num_steps)
  adam = {"b1": config["b1"], "b2": config["b2"], "eps": config["eps"]}
  optimizers = {
    "adam": lambda: optax.adam(rate, **adam),
    "adamw": lambda: optax.adamw(
      rate,
      **adam,
      weight_decay=config["weight_decay"],
      mask=lambda params: jax.tree.map(lambda p: p.ndim > 1, params),
    ),
  }
  if config["name"] not in optimizers:
    raise errors.unknown("config.optimizer.name", config["name"], optimizers)
  chain = [optimizers[config["name"]]()]
  if config["clip_norm"]:
    chain.insert(0, optax.clip_by_global_norm(config["clip_norm"]))
  return optax.chain(*chain)
