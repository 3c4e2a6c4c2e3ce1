"""The training loop, which only sequences what other modules do."""

import collections
import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils

from vdm_jax import errors, processes, sharding
from vdm_jax.errors import UserError
from vdm_jax.storage import checkpoint, workdirs
from vdm_jax.training import optimizer, program, progress, signals, sums, tracing
from vdm_jax.training import writers as writing


class Batches(Protocol):
  """An iterator of training batches, on the mesh, whose position can be saved."""

  def __next__(self) -> Any: ...

  def get_state(self) -> Any:
    """Returns the JSON-serialisable position after the last batch."""
    ...

  def set_state(self, state: Any) -> None: ...


class Hooks(NamedTuple):
  """Functions of the caller that the loop calls at certain times.

  Attributes:
    validation: starts a pass over the validation batches, on the mesh.
    sample: (step, averaged params, report) -> None, makes sample videos.
    measure: (averaged params) -> values to log by name, every `eval_fvd_every` steps.
    work: work of a step, for logging the utilisation of the devices.
    writers: () -> further writers beside metrics.jsonl and TensorBoard; called by the
      first process.
  """

  validation: Callable[[], Iterable[Any]] | None = None
  sample: Callable[[int, Any, progress.Report], None] | None = None
  measure: Callable[[Any], dict[str, float]] | None = None
  work: progress.Work | None = None
  writers: Callable[[], Sequence[writing.Writer]] | None = None


# Steps that the host queues beyond the last finished one, so that the device need not
# wait for the host, and the host can still stop soon.
_AHEAD = 2
# Metrics stay on the device until they are logged, or for this many steps. Then the
# host checks whether steps are being skipped, and takes the loss for the bar.
_LOOK_EVERY = 100

# Values of `config.train.best_by`, and the logged value of each.
BEST_BY = {"loss": "validation_loss", "fvd": "fvd"}


class Result(NamedTuple):
  """The end of a run.

  Attributes:
    state: the last state.
    reason: 'steps' (all are done), 'time' or 'signal'.
  """

  state: program.State
  reason: str


def train(
  programs: program.Program,
  batches: Batches,
  workdir: str,
  meta: Mapping[str, Any],
  *,
  hooks: Hooks | None = None,
  init_from: str | None = None,
  profile: tracing.Range | None = None,
) -> Result:
  """Trains, or resumes training, to the configured number of steps.

  Args:
    programs: the compiled programs, whose config has the schedule of the loop.
    batches: training batches, which a resumed run moves to the checkpoint's position.
    workdir: folder of the run; an existing run in it is resumed.
    meta: config and data fingerprint from `workdirs.describe`, which are stored beside
      checkpoints and compared with existing ones.
    hooks: validation and samples.
    init_from: workdir whose averaged weights a *new* run starts from.
    profile: steps to trace into `profile/` of the workdir, by the first process; those
      that an existing run has done are left out.

  Raises:
    UserError: another run trains in the workdir, the workdir belongs to another config,
      a checkpoint is damaged or cannot be written, too many steps in a row were not
      finite, or the run ends before `profile` does.
  """
  main = processes.is_first()
  with workdirs.locked(workdir) if main else contextlib.nullcontext():
    return _train(
      programs, batches, workdir, meta, hooks or Hooks(), init_from, profile
    )


def _train(programs, batches, workdir, meta, hooks, init_from, profile) -> Result:
  train_config = programs.config["train"]
  num_steps = train_config["num_steps"]
  main = processes.is_first()
  checkpoints = checkpoint.Checkpoints(
    workdir,
    keep_last=train_config["keep_last"],
    keep_every=train_config["keep_every"],
  )
  seed = programs.config["seed"]
  spent = 0.0
  # A run that was killed before its first checkpoint may have a best one.
  best = not checkpoints.steps
  if checkpoints.steps or checkpoints.best_step is not None:
    found = checkpoints.meta(best=best)
    workdirs.check_same_run(found, meta, workdir)
    spent = found.get("seconds", 0.0)
    changed = found["config"], meta["config"]
    state, position = checkpoints.restore(
      programs.state_shapes, programs.state_sharding, best=best
    )
    batches.set_state(position)
  else:
    state, changed = programs.init(jax.random.fold_in(jax.random.key(seed), 0)), None
    if init_from:
      state = workdirs.warm_start(state, init_from)
  first_step, behind = int(state.step), ""
  if profile:
    tracing.check(profile, num_steps)
    profile, behind = tracing.remaining(profile, first_step)
  if main:
    workdirs.write_description(workdir, meta)
  log = progress.Report(
    workdir,
    first_step=first_step,
    num_steps=num_steps,
    batch_size=train_config["batch_size"],
    timed=train_config["max_seconds"] > 0,
    work=hooks.work,
    writers=hooks.writers,
    active=main,
  )
  log.parameters(programs.state_shapes.params)
  if first_step:
    log.say(f"resuming {workdir} from step {first_step}")
    if jump := optimizer.jump(*changed, first_step, spent):
      log.say(jump)
  if behind:
    log.say(behind)

  # Replicated from the start, so that it is not moved to all devices at every step.
  whole = sharding.replicated(programs.mesh)
  key = jax.jit(
    lambda: jax.random.fold_in(jax.random.key(seed), 1), out_shardings=whole
  )()
  tracer = tracing.Profile(profile if main else None, workdir, log)
  loop = _Loop(
    programs=programs,
    batches=batches,
    checkpoints=checkpoints,
    meta=meta,
    hooks=hooks,
    log=log,
    tracer=tracer,
    key=key,
    spent=spent,
  )
  # Even if a run fails, the checkpoint that it is writing is finished.
  with contextlib.closing(log), contextlib.closing(checkpoints):
    return loop.run(state, first_step)


@dataclasses.dataclass
class _Loop:
  """One run of the loop, with everything that is constant from step to step."""

  programs: program.Program
  batches: Batches
  checkpoints: checkpoint.Checkpoints
  meta: Mapping[str, Any]
  hooks: Hooks
  log: progress.Report
  tracer: tracing.Profile
  key: jax.Array
  spent: float  # Seconds of earlier calls.

  def __post_init__(self):
    self.config = self.programs.config["train"]
    self.best_by = self.config.get("best_by", "loss")
    if self.best_by not in BEST_BY:
      raise errors.unknown("config.train.best_by", self.best_by, BEST_BY)
    if self.best_by == "fvd" and self.hooks.measure is None:
      raise UserError(
        "config.train.best_by: 'fvd' wants config.train.eval_fvd_every > 0"
      )
    self.queued = collections.deque()  # (step, its loss) of possibly unfinished steps.
    self.sums = None  # Sums of metrics on the devices, since the host last read them.
    self.means = sums.Means()
    # The time of earlier calls counts, as if the run had never stopped.
    self.start = time.monotonic() - self.spent
    self.progress = np.float32(0.0)
    self.placed = None  # The progress and its copy on the devices.

  def run(self, state, first_step):
    step = self.first_step = first_step
    with signals.Terminate() as terminate, self.tracer:
      while True:
        reason = self.stop_reason(step, terminate)
        last = reason is not None
        if step > first_step:
          if last or self.due(step):
            self.account(step)
          self.milestones(state, step, reason)
        if last:
          break
        step += 1
        state = self.tracer.around(self.advance, state, step)
      self.save(state, step)
      self.checkpoints.wait()
    return Result(state, reason)

  def advance(self, state, step):
    """Queues a step and the sums of its metrics, without waiting for results."""
    while len(self.queued) >= _AHEAD:
      done, loss = self.queued.popleft()
      jax.block_until_ready(loss)
      self.log.step(done, share=float(self.progress))
    with self.log.waiting():
      batch = next(self.batches)
    state, metrics = self.programs.step(state, batch, self.key, *self.extra())
    self.queued.append((step, metrics["loss"]))
    # Not donated, as the queue holds a part of the first one, and they are small.
    self.sums = metrics if self.sums is None else self.programs.add(self.sums, metrics)
    return state

  def extra(self):
    """Returns the arguments of a step beside state, batch and key."""
    if not self.programs.by_time:
      return ()
    if self.placed is None or self.placed[0] != self.progress:
      whole = sharding.replicated(self.programs.mesh)
      array = jax.make_array_from_process_local_data(whole, self.progress)
      self.placed = self.progress, array
    return (self.placed[1],)

  def milestones(self, state, step, reason):
    """Does everything that is due after a step; a finished run does all of it again."""
    if reason == "signal":
      # A preempted machine has seconds, not minutes, so it only logs, and then saves.
      self.log.log(step, self.means.take())
      return
    finished = reason is not None
    validate = self.hooks.validation and (self.at("eval_every", step) or finished)
    measure = self.hooks.measure and (self.at("eval_fvd_every", step) or finished)
    if self.at("log_every", step) or validate or measure or finished:
      # Before the step is saved: a resumed run does not log it again.
      self.log.log(step, self.means.take())
    if finished or self.at("checkpoint_every", step):
      # Before what takes long or may fail, which must not cost these steps.
      self.save(state, step)
    values = self.validate(state, step) if validate else {}
    if measure:
      values |= self.measure(state, step)
    best = values.get(BEST_BY[self.best_by])
    if best is not None:
      position = self.batches.get_state()
      self.checkpoints.save_best(step, best, state, position, self.described())
    if values:
      self.log.held_out(step, values)
    if self.at("sample_every", step) or finished:
      self.sample(state, step)

  def due(self, step):
    """Returns whether the host reads the metrics after this step."""
    return step % _LOOK_EVERY == 0 or any(
      self.at(name, step)
      for name in (
        "log_every",
        "eval_every",
        "eval_fvd_every",
        "checkpoint_every",
        "sample_every",
      )
    )

  def at(self, name, step):
    every = self.config.get(name, 0)  # Configs of older runs lack fields.
    return every > 0 and step % every == 0

  def account(self, step):
    """Fetches the sums up to a step, and raises after too many bad steps in a row."""
    found, self.sums = jax.device_get(self.sums), None
    self.queued.clear()
    self.means.add(found)
    recent = sums.Means()
    recent.add(found)
    self.log.step(step, recent.take(), float(self.progress))
    bad, most = int(found["bad_in_row"][0]), self.config["max_bad_steps"]
    if most and bad >= most:
      raise UserError(
        f"step {step}: loss or gradient was not finite {bad} steps in a row; those "
        f"steps were skipped. The last good checkpoint is of step "
        f"{self.checkpoints.steps[-1] if self.checkpoints.steps else None}. Look at "
        "grad_norm and the loss by log-SNR band in metrics.jsonl; a lower "
        "config.optimizer.learning_rate, a longer warmup_steps or dtype float32 help."
      )

  def stop_reason(self, step, terminate):
    """Returns why the run should end, equal in all processes; None to continue."""
    if step >= self.config["num_steps"]:
      return "steps"
    if jax.process_count() > 1:
      if multihost_utils.reached_preemption_sync_point(step):
        return "signal"
      # Agreement needs a round trip, so it is sought only now and then, and at the
      # start: earlier calls have spent some of the time.
      if step == self.first_step or self.due(step):
        shared = multihost_utils.broadcast_one_to_all(jnp.asarray(self.elapsed()))
        self.progress = np.float32(shared)
    else:
      if terminate.asked:
        return "signal"
      self.progress = self.elapsed()
    return "time" if self.progress >= 1.0 else None

  def elapsed(self) -> np.float32:
    """Returns the elapsed fraction of the run's time, at most 1; 0 without a limit."""
    seconds = self.config["max_seconds"]
    if seconds <= 0:
      return np.float32(0.0)
    return np.float32(min((time.monotonic() - self.start) / seconds, 1.0))

  def averaged(self, state):
    """Returns the first EMA, or the parameters if there is none."""
    return next(iter(state.ema.values())) if state.ema else state.params

  def validate(self, state, step):
    """Computes means over the validation set, named `validation_...`."""
    means = sums.Means()
    with self.log.paused():
      for i, batch in enumerate(self.hooks.validation()):
        # Every validation has the same noise, so that differences come from the model.
        key = jax.random.fold_in(jax.random.key(0), i)
        means.add(
          jax.device_get(self.programs.evaluate(self.averaged(state), batch, key))
        )
    values = means.take()
    loss = values.get("loss", float("nan"))
    self.log.say(f"step {step}: validation loss {loss:.4f}")
    return {f"validation_{name}": value for name, value in values.items()}

  def measure(self, state, step):
    """Calls the hook that measures samples."""
    with self.log.paused():
      values = self.hooks.measure(self.averaged(state))
    self.log.say(
      f"step {step}: " + ", ".join(f"{k} {v:.4g}" for k, v in values.items())
    )
    return values

  def sample(self, state, step):
    if self.hooks.sample is not None:
      with self.log.paused():
        self.hooks.sample(step, self.averaged(state), self.log)

  def save(self, state, step):
    self.checkpoints.save(step, state, self.batches.get_state(), self.described())

  def described(self):
    """Returns a checkpoint's metadata: the run, and its time so far."""
    return {**self.meta, "seconds": round(time.monotonic() - self.start, 3)}
