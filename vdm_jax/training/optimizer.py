"""The optimizer that `config.optimizer` describes."""

from collections.abc import Mapping
from typing import Any

import jax
import optax

from vdm_jax import errors


def learning_rate(config: Mapping[str, Any], num_steps: int) -> optax.Schedule:
  """Linear warm-up over `warmup_steps`, then constant or decay to 0 at num_steps.

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
  if config["decay"] not in decays:
    raise errors.unknown("config.optimizer.decay", config["decay"], decays)
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
