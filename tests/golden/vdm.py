"""Golden cases of VDM (Ho et al. 2022): exact laws on Gaussian data.

With the exact denoiser of Gaussian data every sampler is an affine function of its
noise. Its Jacobian, from one vector-Jacobian product per output, gives the law of
what it returns exactly: nothing is drawn. All of it in float32.
"""

import functools
import re
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from tests.golden import case as case_lib
from vdm_jax.diffusion import guidance, loss, process, sampler, step_rule
from vdm_jax.diffusion.process import Denoiser, Estimate
from vdm_jax.diffusion.schedule import CosineSchedule, Level

Affine = Callable[[dict[str, jax.Array]], dict[str, jax.Array]]


def _sampler(name: str) -> sampler.Sampler:
  """The sampler of a name such as "ancestral_gamma_0.1_langevin_0.1"."""
  numbers = [float(number) for number in re.findall(r"_(\d+\.?\d*)", name)]
  if name.startswith("ancestral"):
    if "langevin" in name:
      return sampler.LangevinCorrector(gamma=numbers[0], delta=numbers[1])
    return sampler.Ancestral(gamma=numbers[0])
  if name.startswith("ddim"):
    return sampler.Ddim(eta=numbers[0] if numbers else 0.0)
  return {
    "dpmpp_2m": sampler.DpmSolverPP2M(),
    "dpmpp_2m_second_order_last": sampler.DpmSolverPP2M(second_order_last=True),
  }[name]


def gaussian_denoiser(mean: jax.Array, std: jax.Array) -> Denoiser:
  """The exact denoiser of independent Gaussian elements."""

  def denoise(z, level):
    alpha, sigma = process.alpha(level.logsnr), process.sigma(level.logsnr)
    gain = alpha * std**2 / (alpha**2 * std**2 + sigma**2)
    return Estimate(mean + gain * (z - alpha * mean))

  return denoise


def correlated_denoiser(rho: float, size: int) -> Denoiser:
  """The exact denoiser of vectors with covariance rho^|i-j| (last axis)."""
  index = np.arange(size)
  variances, basis = np.linalg.eigh(rho ** np.abs(index[:, None] - index))
  variances, basis = jnp.asarray(variances), jnp.asarray(basis)

  def denoise(z, level):
    alpha, sigma = process.alpha(level.logsnr), process.sigma(level.logsnr)
    gain = alpha * variances / (alpha**2 * variances + sigma**2)
    return Estimate(((z @ basis) * gain) @ basis.T)

  return denoise


@functools.partial(jax.jit, static_argnums=(0, 1))
def _law(run: Affine, shapes: tuple[tuple[str, tuple[int, ...]], ...]):
  """The law of an affine function of independent standard normal inputs.

  Args:
    run: from {name: [..., B, D]} to {name: [B, D']}; examples are independent.
    shapes: names and shapes of the inputs.

  Returns:
    The value at zero, and by name of the output the Jacobians [B, D', ..., D] by name
    of the input.
  """
  offset, pull = jax.vjp(run, {name: jnp.zeros(shape) for name, shape in shapes})

  def rows(name):
    batch, size = offset[name].shape

    def row(unit):
      cotangent = {k: jnp.zeros_like(v) for k, v in offset.items()}
      cotangent[name] = jnp.broadcast_to(unit, (batch, size))
      return jax.tree.map(lambda a: jnp.moveaxis(a, -2, 0), pull(cotangent)[0])

    jacobian = jax.vmap(row)(jnp.eye(size))
    return jax.tree.map(lambda a: jnp.swapaxes(a, 0, 1), jacobian)

  return offset, {name: rows(name) for name in offset}


def _std(jacobians: dict[str, jax.Array]) -> np.ndarray:
  """[B, D'] from Jacobians by independent standard normal inputs."""
  variance = sum(
    (np.asarray(a, np.float64) ** 2).sum(tuple(range(2, a.ndim)))
    for a in jacobians.values()
  )
  return np.sqrt(variance)


def _sample(
  denoiser, rule, schedule, num_steps, inputs, **kwargs
) -> dict[str, jax.Array]:
  """Last estimate and final state."""
  grid = schedule.grid(num_steps)
  record = sampler.sample(
    denoiser,
    rule,
    grid,
    inputs["z"],
    noise=inputs["noise"],
    constrain_noise=inputs.get("constrain_noise"),
    trajectory_every=2 * num_steps,
    **kwargs,
  ).trajectory
  return {"estimate": record.estimates[-1], "state": record.states[-1]}


def _shapes(rule, num_steps, shape, *names) -> tuple:
  """Of z, and of noises with one entry for each network call."""
  plan = jax.eval_shape(lambda: rule.plan(CosineSchedule().grid(num_steps)))
  calls = plan.last.shape
  return (("z", shape), *((name, (*calls, *shape)) for name in names))


class _Worst(dict):
  """The largest error of each group of comparisons."""

  def add(self, group: str, actual, expected, scale=None) -> None:
    error = case_lib.relative(actual, expected)
    if scale is not None:
      error = case_lib.elementwise(
        (np.asarray(actual) - np.asarray(expected)) / scale, np.zeros_like(expected)
      )
    self[group] = max(self.get(group, 0.0), error)


def _scalar_laws(worst: _Worst, settings: list[dict]) -> None:
  """`samplers`: independent elements. Settings of one schedule run together."""
  schedules = {}
  for setting in settings:
    ends = tuple(setting[f"logsnr_{name}"] for name in ("min", "max", "shift"))
    schedules.setdefault(ends, []).append(setting)
  for ends, group in schedules.items():
    mean, std = (
      jnp.array([[setting[f"data_{name}"]] for setting in group])
      for name in ("mean", "std")
    )
    denoiser = gaussian_denoiser(mean, std)
    for name, by_steps in group[0]["results"].items():
      rule = _sampler(name)
      for num_steps in by_steps:
        run = functools.partial(
          _sample, denoiser, rule, CosineSchedule(*ends), int(num_steps)
        )
        law = _law(run, _shapes(rule, int(num_steps), std.shape, "noise"))
        for i, setting in enumerate(group):
          _check_scalar(worst, name, law, i, setting, num_steps)


def _check_scalar(worst, name, law, i, setting, num_steps):
  offset, jacobian = law
  expected = setting["results"][name][num_steps]
  for output, suffix in (("estimate", ""), ("state", "_final_state")):
    std = _std(jacobian[output])[i, 0]
    worst.add(f"samplers/{name}/std{suffix}", std, expected[f"std{suffix}"])
    mean = offset[output][i, 0]
    worst.add(f"samplers/{name}/mean{suffix}", mean, expected[f"mean{suffix}"])
  relative = _std(jacobian["estimate"])[i, 0] / setting["data_std"] - 1.0
  worst.add(
    f"samplers/{name}/relative_std_error", relative, expected["relative_std_error"], 1
  )


def _schedules(worst: _Worst, settings: list[dict]) -> None:
  for setting in settings:
    schedule = CosineSchedule(
      setting["logsnr_min"], setting["logsnr_max"], setting["shift"]
    )
    logsnr = schedule.logsnr(jnp.array(setting["t"]))
    worst.add("schedules/logsnr", logsnr, setting["logsnr"])
    for function in (process.alpha, process.sigma):
      name = function.__name__
      error = case_lib.elementwise(function(logsnr), setting[name])
      worst[f"schedules/{name}"] = max(worst.get(f"schedules/{name}", 0.0), error)


def _single_steps(worst: _Worst, settings: list[dict]) -> None:
  for setting in settings:
    previous, t, s = (
      Level(jnp.array(setting[f"logsnr_{name}"]), jnp.zeros(()))
      for name in ("previous", "t", "s")
    )
    z, x, x_previous, noise = (
      jnp.array(setting[name])[None]
      for name in ("z_t", "x_hat", "x_hat_previous", "noise")
    )
    move = step_rule.Step(t, s, jnp.array(False), jnp.array(False))
    stay = step_rule.Step(t, t, jnp.array(False), jnp.array(True))
    multistep = sampler.DpmSolverPP2M()
    langevin = sampler.LangevinCorrector(delta=setting["langevin_delta"])

    def step(rule, step=move, memory=None, z=z, x=x, noise=noise):
      return rule.step(z, Estimate(x), step, noise, memory)[0][0]

    lower, upper = process.log_variance_bounds(t, s)
    one_step = jax.tree.map(lambda a: a[None], move)
    computed = {
      "log_variance_lower": lower,
      "log_variance_upper": upper,
      "dpmpp_2m": step(multistep, memory=(x_previous, previous.logsnr)),
      "dpmpp_1": step(multistep, memory=multistep.init(z, one_step)),
      "langevin_at_t": step(langevin, stay),
      "eps": process.from_x("eps", x, z, t)[0],
      "v": process.from_x("v", x, z, t)[0],
      "score": -process.from_x("eps", x, z, t)[0] / process.sigma(t.logsnr),
    }
    for name, expected in setting["out"].items():
      if name.startswith("ancestral"):
        rule = _sampler(name)
        mean, log_variance = process.posterior(z, x, t, s, rule.gamma)
        found = {"mean": mean[0], "log_variance": log_variance[0, 0]}
        found["sample"] = step(rule)
      else:
        found = {"": computed[name] if name in computed else step(_sampler(name))}
        expected = {"": expected}
      for part, value in expected.items():
        worst.add(f"single_steps/{name}/{part}".strip("/"), found[part], value)


def _classifier_free(worst: _Worst, settings: list[dict]) -> None:
  mean, std, other_mean, other_std, weight = (
    jnp.array([[setting[name]] for setting in settings])
    for name in (
      "conditional_mean",
      "conditional_std",
      "unconditional_mean",
      "unconditional_std",
      "guidance_w",
    )
  )
  denoiser = guidance.classifier_free(
    gaussian_denoiser(mean, std), gaussian_denoiser(other_mean, other_std), weight
  )
  for name, by_steps in settings[0]["results"].items():
    rule = _sampler(name)
    for num_steps in by_steps:
      run = functools.partial(_sample, denoiser, rule, CosineSchedule(), int(num_steps))
      shapes = _shapes(rule, int(num_steps), mean.shape, "noise")
      offset, jacobian = _law(run, shapes)
      for i, setting in enumerate(settings):
        expected = setting["results"][name][num_steps]
        group = f"classifier_free_guidance/{name}"
        worst.add(f"{group}/mean", offset["estimate"][i, 0], expected["mean"])
        worst.add(f"{group}/std", _std(jacobian["estimate"])[i, 0], expected["std"])


def _reconstruction_run(setting: dict, row: dict, weights, inputs: dict) -> dict:
  """Guided frames given x^a; `redraw` says how z^a comes about."""
  frames, num_given = setting["frames"], setting["conditioned_frames"]
  given = jnp.arange(frames)[None] < num_given
  x_given = jnp.pad(inputs["x_given"], ((0, 0), (0, frames - num_given)))
  rule = _reconstruction_sampler(row)
  denoiser = guidance.reconstruction(
    correlated_denoiser(setting["rho"], frames),
    x_given,
    given,
    weights,
    row["weight_rule"],
  )
  schedule, num_steps = CosineSchedule(), row["steps"]
  z, constrain = inputs["z"], None
  if row["redraw"] == "marginal":
    constrain = guidance.replacement(x_given, given)
  elif row["redraw"] == "posterior":
    denoiser = guidance.pinned(denoiser, x_given, given, gamma=rule.gamma)
    start = schedule.level(jnp.ones(()))
    z = jnp.where(given, process.forward(x_given, z, start), z)
  inputs = inputs | {"z": z}
  result = _sample(denoiser, rule, schedule, num_steps, inputs, constrain=constrain)
  return {"x": result["estimate"][:, num_given:]}


def _reconstruction_sampler(row: dict) -> sampler.Sampler:
  rule = _sampler(row["sampler"])
  if row["langevin_delta"]:
    return sampler.LangevinCorrector(gamma=rule.gamma, delta=row["langevin_delta"])
  return rule


def _reconstruction(worst: _Worst, settings: list[dict]) -> None:
  """Rows that differ by w_r alone run together."""
  keys = ("sampler", "steps", "redraw", "langevin_delta", "weight_rule")
  for setting in settings:
    groups = {}
    for row in setting["results"]:
      groups.setdefault(tuple(row[key] for key in keys), []).append(row)
    for (name, _, redraw, delta, rule_name), rows in groups.items():
      weights = jnp.array([[row["w_r"]] for row in rows], jnp.float32)
      shape = (len(rows), setting["frames"])
      rule = _reconstruction_sampler(rows[0])
      shapes = _shapes(rule, rows[0]["steps"], shape, "noise", "constrain_noise")
      shapes += (("x_given", (len(rows), setting["conditioned_frames"])),)
      run = functools.partial(_reconstruction_run, setting, rows[0], weights)
      _, jacobian = _law(run, shapes)
      maps = np.asarray(jacobian["x"].pop("x_given"))
      std = _std(jacobian["x"])
      truth = np.array(setting["true_mean_map"])
      group = f"reconstruction_guidance/{name}/{redraw}/langevin_{delta}/{rule_name}"
      for i, row in enumerate(rows):
        worst.add(f"{group}/mean_map", maps[i], row["mean_map"])
        worst.add(f"{group}/std", std[i], row["std"])
        rms = np.sqrt(np.mean((maps[i] - truth) ** 2))
        worst.add(f"{group}/rms_error", rms, row["rms_error_of_mean_map"], 1)


def _super_resolution_run(setting: dict, num_steps: int, weights, inputs) -> dict:
  def downsample(x):
    return x.reshape(x.shape[0], -1, setting["pool"]).mean(-1)

  denoiser = guidance.toward(
    correlated_denoiser(setting["rho"], setting["pixels"]),
    [guidance.Observation(downsample, inputs["low_res"], weights)],
  )
  rule = _sampler(setting["results"][0]["sampler"])
  x = _sample(denoiser, rule, CosineSchedule(), num_steps, inputs)["estimate"]
  return {"x": x, "low_resolution": downsample(x)}


def _super_resolution(worst: _Worst, settings: list[dict]) -> None:
  for setting in settings:
    pixels, pool = setting["pixels"], setting["pool"]
    groups = {}
    for row in setting["results"]:
      groups.setdefault((row["sampler"], row["steps"]), []).append(row)
    for (name, num_steps), rows in groups.items():
      weights = jnp.array([[row["w_r"]] for row in rows])
      setting = setting | {"results": rows}
      run = functools.partial(_super_resolution_run, setting, num_steps, weights)
      shapes = _shapes(_sampler(name), num_steps, (len(rows), pixels), "noise")
      _, jacobian = _law(run, (*shapes, ("low_res", (len(rows), pixels // pool))))
      for output, prefix in (("x", ""), ("low_resolution", "low_resolution_")):
        maps = np.asarray(jacobian[output].pop("low_res"))
        std = _std(jacobian[output])
        # Where the low resolution is met exactly its spread is zero up to rounding:
        # compare with the scale of the data, which is one.
        scale = 1.0 if prefix else None
        for i, row in enumerate(rows):
          expected = row[f"{prefix}map" if prefix else "mean_map"]
          worst.add(f"super_resolution_guidance/{prefix}map", maps[i], expected)
          group = f"super_resolution_guidance/{prefix}std"
          worst.add(group, std[i], row[f"{prefix}std"], scale)


def _thresholding(worst: _Worst, setting: dict) -> None:
  x = jnp.array(setting["x_hat"])
  level = Level(jnp.zeros(()), jnp.zeros(()))

  def constant(z, level):
    return Estimate(x)

  static = guidance.threshold_static(constant)(x, level).x
  worst.add("thresholding/static", static, setting["static"])
  for percentile, expected in setting["dynamic"].items():
    out = guidance.threshold_dynamic(constant, float(percentile))(x, level).x
    worst.add("thresholding/dynamic", out, expected["out"])
    # Of the elements that are not clipped, in over out is the scale.
    inside = np.abs(out) < 1.0
    largest = np.abs(np.where(inside, x, 0.0)).argmax(1)
    rows = np.arange(len(x))
    scale = np.asarray(x)[rows, largest] / np.asarray(out)[rows, largest]
    worst.add("thresholding/scale", scale, expected["scale"])


def _loss_weights(worst: _Worst, table: dict) -> None:
  logsnr = jnp.array(table["logsnr"])
  zero, one = jnp.zeros((len(logsnr), 1)), jnp.ones((len(logsnr), 1))

  def factor(kind, space, weighting):
    """The loss in `space` of an error of one in what a network of `kind` predicts."""
    level = Level(logsnr, jnp.zeros_like(logsnr))
    return loss.denoising_loss(
      kind,
      one,
      zero,
      zero,
      level,
      where=None,
      normalise="all",
      space=space,
      weighting=weighting,
    ).per_example

  min_snr = loss.min_snr(table["min_snr"]["gamma"])
  p2 = loss.p2(table["p2"]["k"], table["p2"]["gamma"])
  computed = {
    "x": (factor("x", "x", None), table["x"]),
    "eps": (factor("x", "eps", None), table["eps"]),
    "v": (factor("x", "v", None), table["v"]),
    "truncated_snr": (factor("x", "x", loss.truncated_snr()), table["truncated_snr"]),
  }
  for name, weighting in (("min_snr", min_snr), ("p2", p2)):
    places = {
      "in_x_space": ("x", "x"),
      "factor_on_eps_loss": ("eps", "eps"),
      "factor_on_v_loss": ("v", "v"),
    }
    for place, spaces in places.items():
      if place in table[name]:
        computed[f"{name}/{place}"] = factor(*spaces, weighting), table[name][place]
  for name, (actual, expected) in computed.items():
    worst[f"loss_weights/{name}"] = case_lib.elementwise(actual, expected)


def vdm_gaussian_samplers(case: case_lib.Case) -> case_lib.Errors:
  """Everything in the file; one error for each group of settings."""
  worst = _Worst()
  _schedules(worst, case.meta["schedules"])
  _single_steps(worst, case.meta["single_steps"])
  _thresholding(worst, case.meta["thresholding"])
  _loss_weights(worst, case.meta["loss_weights"])
  _super_resolution(worst, case.meta["super_resolution_guidance"])
  _classifier_free(worst, case.meta["classifier_free_guidance"])
  _reconstruction(worst, case.meta["reconstruction_guidance"])
  _scalar_laws(worst, case.meta["samplers"])
  return dict(worst)


KINDS = {"vdm_gaussian_samplers": vdm_gaussian_samplers}
