"""Golden cases of metrics on frames, features and networks."""

import functools

import jax
import numpy as np

from tests.golden import case as case_lib
from tests.golden import recipes
from vdm_jax.metrics import (
  frechet,
  frechet_variants,
  image,
  inception,
  kernel,
  layouts,
  resize,
  weights,
)
from vdm_jax.metrics.crps import crps
from vdm_jax.metrics.networks import c3d, i3d, lpips


def _channels_last(x: np.ndarray) -> np.ndarray:
  return np.moveaxis(x, -3, -1)


def metrics_image(case: case_lib.Case) -> case_lib.Errors:
  """Frames, resizing rules, ensembles and the Inception score."""
  given = case.group("in")
  truth, found = _channels_last(given["gt"])[:, None], _channels_last(given["pred"])
  mse = np.square(found.astype(np.float64) - truth).mean((-3, -2, -1))
  pooled = image.pooled_psnr(mse.mean(-1))
  gray, truth_gray = image.gray(found), image.gray(truth)
  cut = [image.gray_8bit(image.truncated(x)).astype(np.float64) for x in (found, truth)]
  gaussian = image.ssim(found, truth)
  rounded = [np.rint(255 * x.astype(np.float64)) / 255 for x in (found, truth)]
  mcvd = image.ssim(*cut, data_range=255.0)
  per_clip = mcvd.mean(-1)
  computed = {
    "mse_frame": mse,
    "mse_video": mse.mean(-1),
    "psnr_frame": image.psnr(found, truth),
    "psnr_frame_uint8_round": image.psnr(*rounded),
    "psnr_fdm_per_channel_mean": image.psnr_of_channels(found, truth),
    "psnr_video_mcvd": pooled,
    "psnr_video_mean_of_frames": image.psnr(found, truth).mean(-1),
    "ssim_uniform7_color": image.ssim(found, truth, window="uniform"),
    "ssim_uniform7_per_channel_range2": image.ssim(
      found, truth, window="uniform", data_range=2.0
    ),
    "ssim_gauss_color": gaussian,
    "ssim_pytorch_msssim": gaussian,
    "ssim_gauss_gray_bt709": image.ssim(gray, truth_gray),
    "ssim_mcvd_gray_uint8": mcvd,
    "best_of_n/mse": image.best_of(mse.mean(-1), least=True),
    "best_of_n/psnr": image.best_of(pooled),
    "best_of_n/ssim": image.best_of(per_clip),
    "best_of_n/argbest_mse": mse.mean(-1).argmin(1),
    "best_of_n/argbest_ssim": per_clip.argmax(1),
    "frame0_uint8_truncated": image.truncated(truth[0, 0, 0]),
  }
  computed["frame0_gray_pil_L"] = image.gray_8bit(computed["frame0_uint8_truncated"])[
    ..., 0
  ]
  for name, sizes in case.meta["resize_sizes"].items():
    frames = given[f"resize/{name}/frames_uint8"]
    for rule in resize.RULES:
      title = "short_side_center_crop" if rule == "short_side_crop" else rule
      made = resize.to_unit(frames, sizes["output"], rule)
      computed[f"resize/{name}/{title}"] = np.asarray(made)
  members = np.moveaxis(given["crps/ensemble"], -1, 0)
  truth = given["crps/obs"]
  fair = crps(members, truth, fair=True)
  computed |= {
    "crps/map": crps(members, truth),
    "crps/mean": crps(members, truth).mean(),
    "crps/fair_map": fair,
    "crps/fair_mean": fair.mean(),
    "crps/first_member_abs_error_mean": crps(members[:1], truth).mean(),
    "crps/by_first_m_members": [
      crps(members[:m], truth).mean() for m in range(1, len(members) + 1)
    ],
  }
  logits, splits = given["is/logits"], case.meta["is_splits"]
  order = np.arange(len(logits))
  np.random.RandomState(42).shuffle(order)  # As StyleGAN-V does before it splits.
  parts = {
    "is/splits1": inception.scores(logits),
    f"is/splits{splits}": inception.scores(logits, splits),
    f"is/splits{splits}_shuffled_seed42": inception.scores(logits[order], splits),
  }
  computed |= {name: [x.mean(), x.std()] for name, x in parts.items()}
  computed["is/shuffle_permutation"] = order
  return case_lib.compare(case, {f"out/{k}": v for k, v in computed.items()})


def metrics_frechet(case: case_lib.Case) -> case_lib.Errors:
  """Distances of features; of Fréchet's, errors are relative to its terms."""
  given, computed, errors = case.group("in"), {}, {}
  for name in case.meta["cases"]:
    x, y = given[f"{name}/x"], given[f"{name}/y"]
    terms = frechet.terms(x, y)
    chunks = [frechet.Moments.stream(np.array_split(a, 7)) for a in (x, y)]
    of_case = {
      "fd": frechet.distance_of_features(x, y),
      "fd_mean_term": terms.means,
      "fd_trace_term": terms.traces,
      "fd_cross_term": terms.cross,
      "fd_eigh": frechet.distance(*chunks),
      "fd_scipy_sqrtm": frechet_variants.sqrtm(x, y),
      "fd_scipy_sqrtm_fidelity": frechet_variants.fidelity(x, y),
      "fd_trace_sqrt_float64": frechet_variants.tfgan(x, y),
      "fd_trace_sqrt_float32": frechet_variants.tfgan(x, y, dtype=np.float32),
      "fd_biased_cov": frechet.distance_of_features(x, y, ddof=0),
      "fd_biased_cov_cdfvd": frechet_variants.sqrtm(x, y, ddof=0),
      "kvd_poly3_unbiased": kernel.distance(x, y),
      "kvd_poly3_biased": kernel.distance(x, y, biased=True),
      "kvd_poly3_gamma1_unbiased": kernel.distance(
        x, y, kernel=kernel.Kernel(scaled=False)
      ),
      "jedi_poly2_biased_x100": kernel.jedi(x, y),
    }
    if len(x) == len(y):
      of_case["kvd_torch_fidelity"] = kernel.distance(x, y)
      of_case["kvd_torch_fidelity_mmd_ustat"] = kernel.distance(x, y, paired=True)
    # The distance is a small difference of its terms: so are its errors.
    size = terms.means + terms.traces
    for key, value in of_case.items():
      expected = case.arrays.get(f"out/{name}/{key}")
      if expected is None:
        continue
      if key.startswith("fd"):
        errors[f"out/{name}/{key}"] = abs(float(value) - float(expected)) / size
      else:
        computed[f"out/{name}/{key}"] = value
  x = given["d64_n256_offset/x"]
  sizes = case.arrays["out/streaming/chunk_sizes"]
  moments = frechet.Moments.stream(np.split(x, np.cumsum(sizes)[:-1]))
  at_infinity = frechet.infinity(
    given["d64_n256/x"], given["d64_n256/y"], case.arrays["out/fd_infinity/sizes"]
  )
  computed |= {
    "out/streaming/chunk_sizes": sizes,
    "out/streaming/mean": moments.mean,
    "out/streaming/cov_unbiased": moments.covariance,
    "out/fd_infinity/sizes": at_infinity.sizes,
    "out/fd_infinity/fd_at_size": at_infinity.distances,
    "out/fd_infinity/slope": at_infinity.slope,
    "out/fd_infinity/intercept": at_infinity.value,
  }
  return {**case_lib.compare(case, computed), **errors}


def fdm_frechet(case: case_lib.Case) -> case_lib.Errors:
  """FDM's two distances."""
  given, computed = case.group("in"), {}
  for name in case.arrays:
    title, _, number = name.rpartition("_")
    if not name.startswith("out/"):
      continue
    x, y = given[f"features1_{number}"], given[f"features2_{number}"]
    if title == "out/frechet":
      computed[name] = frechet.distance_of_features(x, y)
    elif title == "out/kernel_distance_all_samples":
      computed[name] = kernel.distance(x, y)
  return case_lib.compare(case, computed)


_I3D_PARTS = {
  "scale": "bn.weight",
  "bias": "bn.bias",
  "mean": "bn.running_mean",
  "var": "bn.running_var",
}


def _torch_shapes(network: str) -> dict[str, tuple[int, ...]]:
  """PyTorch's names and shapes of a network's parameters."""
  found = {}
  for key, shape in layouts.shapes(network).items():
    turned = (*shape[-2:][::-1], *shape[:-2]) if len(shape) > 1 else shape
    if network == "i3d":
      unit, _, part = key.rpartition("/")
      if key.startswith("logits_"):
        name = "weight" if key.endswith("kernel") else "bias"
        turned = (*turned, 1, 1, 1) if name == "weight" else turned
        found[f"logits.conv3d.{name}"] = turned
      else:
        name = "conv3d.weight" if part == "kernel" else _I3D_PARTS[part]
        found[f"{unit.replace('/', '.')}.{name}"] = turned
    elif key == "mean_offset":
      found[key] = (shape[-1], *shape[:-1])
    else:
      unit, _, part = key.rpartition("_")
      found[f"{unit}.{'weight' if part == 'kernel' else part}"] = turned
  return found


@functools.lru_cache(maxsize=2)
def _by_recipe(network: str, stream: int):
  recipe = {"i3d": recipes.i3d, "c3d": recipes.c3d}[network]
  flat = recipe(_torch_shapes(network), stream)
  return layouts.convert(network, flat, f"recipe of {network}")


def _clips(case: case_lib.Case) -> np.ndarray:
  made = recipes.clips(case.meta["clip_stream"], case.meta["input_shape"])
  return np.moveaxis(made, 1, -1)


def _statistics(x: np.ndarray) -> np.ndarray:
  x = np.asarray(x, np.float64)
  return np.array([x.mean(), x.std(), x.min(), x.max()])


def _recipe(case: case_lib.Case) -> case_lib.Errors:
  """Whether our making of a recipe's parameters and clips is what it says."""
  meta, errors = case.meta, {}
  hashes = (
    meta["hash"].get("test_vectors", []) if isinstance(meta["hash"], dict) else []
  )
  for v in hashes:
    made = recipes.hashed(v["s"], v["k"], v["i"] + 1)[-1]
    wrong = abs(made - (2 * ((v["x"] + 0.5) / 4294967296) - 1))
    errors["hash"] = max(wrong, errors.get("hash", 0.0))
  tables = [value for key, value in meta.items() if key.endswith("table_for_stream_0")]
  if isinstance(meta["parameters"], dict):
    tables += [meta["parameters"].get("table_for_stream_0", [])]
  make = {"metrics_i3d": recipes.i3d, "metrics_c3d": recipes.c3d}
  for number, table in enumerate(tables):
    shapes = {row["key"]: tuple(row["shape"]) for row in table}
    made = make.get(case.kind, recipes.lpips)(shapes, 0)
    for row in table:
      first = made[row["key"]].reshape(-1)[: len(row["first"])]
      name = f"parameters{number}"
      errors[name] = max(case_lib.relative(first, row["first"]), errors.get(name, 0.0))
  clips = meta.get("clips")
  for check in clips.get("checks", []) if isinstance(clips, dict) else []:
    first = recipes.clips(check["clip_stream"], check["shape"]).reshape(-1)
    error = case_lib.relative(first[: len(check["first"])], check["first"])
    errors["clips"] = max(error, errors.get("clips", 0.0))
  return errors


def metrics_i3d(case: case_lib.Case) -> case_lib.Errors:
  """End points, logits and pooled features, under both epsilons."""
  if case.path.suffix == ".json":
    return _recipe(case)
  params = _by_recipe("i3d", case.meta["param_stream"])
  clips = _clips(case)
  small = min(clips.shape[2:4]) < i3d.MIN_SIZE
  computed = {}
  for eps, suffix in ((1e-3, ""), (1e-5, "_eps1e-5")):
    net = i3d.InceptionI3D(bn_eps=eps)

    @functools.partial(jax.jit, static_argnames="endpoints")
    def apply(clips, endpoints, net=net):
      return net.apply({"params": params}, clips, endpoints=endpoints)

    if not suffix or small:
      ends = apply(clips, endpoints=True)
      last = np.moveaxis(np.asarray(ends["Mixed_5c"]), -1, 1)
      computed[f"out/mixed_5c{suffix}"] = last
    if not suffix:
      for name, about in case.meta["endpoints"].items():
        if name in ends:
          x = np.moveaxis(np.asarray(ends[name]), -1, 1)
          sample = x.reshape(-1)[:: about["sample_stride"]][:256]
          computed[f"out/endpoint/{name}/sample"] = sample
          computed[f"out/endpoint/{name}/mean_std_min_max"] = _statistics(x)
    if not small:
      found = {k: np.asarray(v) for k, v in apply(clips, endpoints=False).items()}
      computed |= {
        f"out/logits{suffix}": found["logits"],
        f"out/logits_per_step{suffix}": found["logits_per_step"].swapaxes(1, 2),
        f"out/features{suffix}": found["pool_per_step"].swapaxes(1, 2),
        f"out/features_mean{suffix}": found["pool"],
      }
  return case_lib.compare(case, computed)


def metrics_c3d(case: case_lib.Case) -> case_lib.Errors:
  """Logits, probabilities and features."""
  if case.path.suffix == ".json":
    return _recipe(case)
  params = _by_recipe("c3d", case.meta["param_stream"])
  x = ((_clips(case).astype(np.float64) + 1) / 2).astype(np.float32)
  found = jax.jit(c3d.C3D().apply)({"params": params}, x)
  computed = {
    "out/logits": found["logits"],
    "out/softmax": jax.nn.softmax(found["logits"]),
    "out/features_fc7": found["features"],
  }
  return case_lib.compare(case, computed)


_PLACES = {
  "alexnet": (0, 3, 6, 8, 10),
  "vgg16": (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28),
}


def metrics_lpips(case: case_lib.Case) -> case_lib.Errors:
  """Distances of pictures, by layer and by place, and without the heads."""
  if case.path.suffix == ".json":
    return _recipe(case)
  net = {"alex": "alexnet", "vgg": "vgg16"}[case.meta["constructor"]["net"]]
  network = f"lpips_{net}"
  trunk, slice_number = {}, 1
  ours = layouts.shapes(network)
  for i, place in enumerate(_PLACES[net]):
    # A slice ends where an activation is compared.
    shape = ours[f"conv_{i}_kernel"]
    key = f"net.slice{slice_number}.{place}"
    trunk[f"{key}.weight"] = (*shape[-2:][::-1], *shape[:-2])
    trunk[f"{key}.bias"] = shape[-1:]
    slice_number += lpips.LAYERS[net][i][-1]
  flat = recipes.lpips(trunk, case.meta["param_stream"]) | case.group("param")
  params = layouts.convert(network, flat, "recipe of LPIPS")
  model, given = lpips.Lpips(net), case.group("in")

  @functools.partial(jax.jit, static_argnames="method")
  def apply(params, *pictures, method="__call__"):
    return model.apply({"params": params}, *pictures, method=method)

  first, second = (_channels_last(given[f"img{i}"]) for i in (0, 1))
  bytes_ = [
    _channels_last(given[f"img{i}_uint8"]) / np.float32(127.5) - 1 for i in (0, 1)
  ]
  plain = {k: np.ones_like(v) if "lin" in k else v for k, v in params.items()}
  layers = apply(params, first, second, method="per_place")
  computed = {
    "out/distance": apply(params, first, second),
    "out/per_layer": np.stack([np.mean(d, axis=(1, 2)) for d in layers]),
    "out/spatial": np.asarray(apply(params, first, second, method="spatial"))[:, None],
    "out/distance_uint8_normalize": apply(params, *bytes_),
    "out/baseline_no_lin": apply(plain, first, second),
  }
  for i, x in enumerate(apply(params, first, method="features")):
    x = np.moveaxis(np.asarray(x), -1, 1)
    stride = max(1, x.size // 200)
    computed[f"out/feature{i}/sample"] = x.reshape(-1)[::stride][:200]
    computed[f"out/feature{i}/mean_std"] = _statistics(x)[:2]
  return case_lib.compare(case, computed)


def metrics_real(case: case_lib.Case) -> case_lib.Errors:
  """Real weights on real videos.

  Raises:
    case_lib.Skipped: the weights are not installed.
  """
  there = {about["name"]: about["sha256"] for about in weights.installed()}
  for name in ("i3d", "lpips_alexnet", "lpips_vgg16"):
    if there.get(name) != case.meta[f"{name}_sha256"]:
      raise case_lib.Skipped(f"weights {name} are not installed: {weights.INSTALL}")
  given, computed = case.group("in"), {}
  net, params = i3d.InceptionI3D(), weights.load("i3d").params
  for rule in ("half_pixel", "tf1_legacy"):

    @jax.jit
    def logits(clips, rule=rule):
      x = resize.to_unit(clips, i3d.SIZE, rule)
      return net.apply({"params": params}, x)["logits"]

    found = {
      name: np.concatenate([logits(x) for x in np.array_split(given[name], 6)])
      for name in ("a", "b")
    }
    computed |= {f"out/{rule}/logits_{name}": x for name, x in found.items()}
    distance = frechet.distance_of_features(found["a"], found["b"])
    computed[f"out/{rule}/frechet"] = distance
  errors = {}
  for net in lpips.NETS:
    name = f"out/lpips_{net}"
    first, second = (given[k][:4, 0] / np.float32(127.5) - 1 for k in ("a", "b"))
    params = weights.load(f"lpips_{net}").params
    found = lpips.Lpips(net).apply({"params": params}, first, second)
    errors[name] = float(np.abs(found - case.arrays[name]).max())
  return {**case_lib.compare(case, computed), **errors}


KINDS = {
  "metrics_image": metrics_image,
  "metrics_frechet": metrics_frechet,
  "fdm_frechet": fdm_frechet,
  "metrics_i3d": metrics_i3d,
  "metrics_c3d": metrics_c3d,
  "metrics_lpips": metrics_lpips,
  "metrics_real": metrics_real,
}
