"""The compiled programs of a training run: init, step, evaluate.

Only this module jits, donates and shards. `vdm-jax preflight` lowers the very same
programs for devices that the machine lacks.
"""

import functools
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import flax
import jax
import jax.numpy as jnp
import optax

from vdm_jax import sharding
from vdm_jax.errors import UserError
from vdm_jax.training import gather, optimizer, sums

# A metric is [total, count], so that means merge over micro-batches, steps and hosts.
Metrics = dict[str, jax.Array]


class Trainable(Protocol):
  """The interface of a system that training needs."""

  def init(self, key: jax.Array) -> Any:
    """Makes float32 parameters."""
    ...

  def loss(
    self, params: Any, batch: Any, key: jax.Array, train: bool
  ) -> tuple[jax.Array, Metrics]:
    """Computes the scalar loss of a batch and its metrics, each [total, count].

    Every leaf of the batch is [B, ...]; `example` int32 [B] is the position in the
    global batch and `stratum` float32 [B] that position divided by the global batch
    size, so that no draw depends on how the batch is split.
    """
    ...

  def batch_spec(self, batch_size: int) -> Any:
    """Returns shapes and dtypes of a batch, as `jax.ShapeDtypeStruct`s."""
    ...


@flax.struct.dataclass
class State:
  """Everything that a run carries from step to step.

  Attributes:
    step: int32 scalar, number of batches consumed.
    params: float32 master parameters.
    ema: averages of the parameters, by rate as written in the config.
    opt_state: state of the optax optimizer.
    bad_in_row: int32 scalar, number of steps skipped since the last good one.
    bad_total: int32 scalar, number of steps skipped in all.
  """

  step: jax.Array
  params: Any
  ema: dict[str, Any]
  opt_state: Any
  bad_in_row: jax.Array
  bad_total: jax.Array


class Program:
  """The compiled programs of a trainable, an optimizer and a mesh.

  Attributes:
    mesh: the device mesh.
    state_shapes: `jax.ShapeDtypeStruct`s of the state.
    state_sharding: shardings of the state.
    init: key -> State.
    step: (State, batch, key) -> (State, metrics); the state is donated. If `by_time`, a
      fourth argument is the elapsed fraction of the run.
    add: (metrics so far, metrics) -> metrics of all these steps, see `sums.add`.
    by_time: whether the learning rate decays with time.
    evaluate: (params, batch, key) -> metrics, without dropout.
  """

  def __init__(
    self,
    trainable: Trainable,
    config: Mapping[str, Any],
    devices: Sequence[jax.Device] | None = None,
  ):
    """Builds the programs; compiles nothing yet.

    Args:
      trainable: the system.
      config: config with sections `mesh`, `train` and `optimizer`.
      devices: devices to run on; default all of this run.

    Raises:
      UserError: the mesh does not fit the devices, the batch does not fit the mesh, or
        one of them is empty.
    """
    self.trainable = trainable
    self.config = config
    self.mesh = sharding.of_config(config["mesh"], devices)
    self._gathers = sharding.gathers_once(config["mesh"], self.mesh)
    train = config["train"]
    for field in ("batch_size", "accumulate"):
      if train[field] < 1:
        raise UserError(f"`train.{field}={train[field]}`: expected >= 1")
    self._tx = optimizer.build(config["optimizer"], train["num_steps"])
    self._rate = optimizer.rate_of_update(config["optimizer"], train["num_steps"])
    self.by_time = optimizer.by_time(config["optimizer"])
    if self.by_time and train["max_seconds"] <= 0:
      raise UserError(
        "config.optimizer.decay_by: 'time' needs the run's seconds, "
        "config.train.max_seconds"
      )
    parts = self.mesh.size * train["accumulate"]
    if train["batch_size"] % parts:
      raise UserError(
        f"config.train.batch_size: {train['batch_size']} is not divisible by "
        f"{self.mesh.size} devices x {train['accumulate']} accumulated micro-batches"
      )
    # Converted once, as a rate is also the name under which its average is stored.
    self._ema_rates = {str(rate): float(rate) for rate in train["ema"]}
    self.state_shapes = jax.eval_shape(self._init, jax.random.key(0))
    rules = sharding.rules_of(config)
    sharding.check_rules(rules, self.state_shapes)
    self.state_sharding = sharding.state(self.mesh, self.state_shapes, rules)
    rows, whole = sharding.batch(self.mesh), sharding.replicated(self.mesh)
    self.init = jax.jit(self._init, out_shardings=self.state_sharding)
    self.step = sharding.jit(
      self._step,
      self.mesh,
      in_shardings=(self.state_sharding, rows, whole, *[whole] * self.by_time),
      out_shardings=(self.state_sharding, whole),
      donate_argnums=0,
    )
    self.add = jax.jit(sums.add, out_shardings=whole)
    self.evaluate = sharding.jit(
      self._evaluate,
      self.mesh,
      in_shardings=(self.state_sharding.params, rows, whole),
      out_shardings=whole,
    )

  def step_arguments(self) -> tuple[Any, ...]:
    """Returns shapes and shardings of the arguments of `step`.

    With the shardings, JAX finds the step in its cache once it has run.
    """

    def placed(leaf, place):
      return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=place)

    rows, whole = sharding.batch(self.mesh), sharding.replicated(self.mesh)
    batch = self.trainable.batch_spec(self.config["train"]["batch_size"])
    key = jax.eval_shape(lambda: jax.random.key(0))
    progress = [jax.ShapeDtypeStruct((), jnp.float32, sharding=whole)] * self.by_time
    return (
      jax.tree.map(placed, self.state_shapes, self.state_sharding),
      jax.tree.map(lambda leaf: placed(leaf, rows), batch),
      placed(key, whole),
      *progress,
    )

  def lower_step(self, **kwargs):
    """Lowers the training step for the mesh's devices, without data."""
    return self.step.lower(*self.step_arguments(), **kwargs)

  def _init(self, key):
    params = self.trainable.init(key)
    zero = jnp.zeros((), jnp.int32)
    return State(
      step=zero,
      params=params,
      # Copied, as a donated state must not hold one buffer twice.
      ema={name: jax.tree.map(jnp.copy, params) for name in self._ema_rates},
      opt_state=self._tx.init(params),
      bad_in_row=zero,
      bad_total=zero,
    )

  def _step(self, state, batch, key, *progress):
    key = jax.random.fold_in(key, state.step)
    grads, metrics = self._gradient(state.params, _numbered(batch), key)
    norm = optax.tree.norm(grads)
    good = jnp.isfinite(norm) & jnp.isfinite(metrics["loss"][0])
    # Skipped steps do not advance the optimizer's own count.
    rate = self._rate(state.step - state.bad_total, *(progress or (None,)))

    def apply(state):
      extra = {"progress": progress[0]} if self.by_time else {}
      updates, opt_state = self._tx.update(
        grads, state.opt_state, state.params, **extra
      )
      params = optax.apply_updates(state.params, updates)
      ema = {
        name: _averaged(state.ema[name], params, ema_rate, state.step - 1)
        for name, ema_rate in self._ema_rates.items()
      }
      new = state.replace(
        params=params,
        ema=ema,
        opt_state=opt_state,
        bad_in_row=jnp.zeros_like(state.bad_in_row),
      )
      return new, jnp.stack([optax.tree.norm(updates), jnp.ones(())])

    def skip(state):
      new = state.replace(
        bad_in_row=state.bad_in_row + 1, bad_total=state.bad_total + 1
      )
      return new, jnp.zeros(2)

    new, update_norm = jax.lax.cond(
      good, apply, skip, state.replace(step=state.step + 1)
    )
    one = jnp.ones(())
    metrics = {
      # A bad step counts only in `bad`, as one NaN would hide all other values.
      **{k: jnp.where(good, v, jnp.zeros(2)) for k, v in metrics.items()},
      "grad_norm": jnp.where(good, jnp.stack([norm, one]), jnp.zeros(2)),
      "update_norm": update_norm,
      "learning_rate": jnp.stack([rate, one]),
      "param_norm": jnp.stack([optax.tree.norm(new.params), one]),
      "bad_in_row": jnp.stack([new.bad_in_row.astype(jnp.float32), one]),
      "bad_total": jnp.stack([new.bad_total.astype(jnp.float32), one]),
    }
    return new, metrics

  def _gradient(self, params, batch, key):
    """Computes the gradient of the mean loss and summed metrics over micro-batches."""
    count = self.config["train"]["accumulate"]
    if count == 1:
      weights, gradient = self._gradient_of(params, batch, key)
      return gradient(weights, batch, key)

    # Row i goes to micro-batch i % count, so that each is spread over the mesh.
    parts = jax.tree.map(
      lambda rows: rows.reshape(-1, count, *rows.shape[1:]).swapaxes(0, 1), batch
    )
    first = jax.tree.map(lambda rows: rows[0], parts)
    weights, gradient = self._gradient_of(params, first, key)

    def add(total, part):
      return jax.tree.map(jnp.add, total, gradient(weights, part, key)), None

    zero = jax.tree.map(
      lambda leaf: jnp.zeros(leaf.shape, leaf.dtype),
      jax.eval_shape(gradient, weights, first, key),
    )
    (grads, metrics), _ = jax.lax.scan(add, zero, parts)
    return jax.tree.map(lambda g: g / count, grads), metrics

  def _gradient_of(self, params, batch, key):
    """Returns the weights and the function that computes a micro-batch's gradient.

    If the state is split, these are gathered weights, see `gather`; the gradient is
    split like the state in any case.
    """
    loss = functools.partial(self.trainable.loss, train=True)
    gradient = jax.grad(loss, has_aux=True)
    if not self._gathers:
      return params, gradient
    held = self.state_sharding.params
    dtypes = gather.dtypes(loss, params, batch, key)
    weights = gather.whole(params, dtypes, held, sharding.replicated(self.mesh))

    def split(weights, batch, key):
      grads, metrics = gradient(weights, batch, key)
      return gather.parts(grads, params, held), metrics

    return weights, split

  def _evaluate(self, params, batch, key):
    return self.trainable.loss(params, _numbered(batch), key, train=False)[1]


def _numbered(batch):
  """Adds the position of each example to a batch."""
  size = jax.tree.leaves(batch)[0].shape[0]
  example = jnp.arange(size, dtype=jnp.int32)
  return {**batch, "example": example, "stratum": example / size}


def _averaged(ema, params, rate, step):
  """Updates an exponential average, with a shorter memory than `rate` at first."""
  warm = (1.0 + step) / (10.0 + step)
  rate = jnp.minimum(rate, warm)
  return jax.tree.map(lambda e, p: e * rate + p * (1 - rate), ema, params)
