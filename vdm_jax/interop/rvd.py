"""The layout of RVD's published checkpoints (github.com/buggyyang/RVD).

A file holds {"step", "model", "ema"}; both are state dicts of the three networks and
of the twelve tables of the noise schedule, which are made again from its length. No
hyperparameters are stored: widths follow from shapes, and what does not (what the
network predicts, the loss) from the file's name, if it still has the authors'.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from vdm_jax.errors import UserError
from vdm_jax.interop.mapping import CONV, KEEP, LINEAR, Entry, Layout, Shape, pointwise
from vdm_jax.models.rvd import Settings

# Of the noise schedule; every one has the length of the schedule.
TABLES = (
  "betas",
  "alphas_cumprod",
  "alphas_cumprod_prev",
  "sqrt_alphas_cumprod",
  "sqrt_one_minus_alphas_cumprod",
  "log_one_minus_alphas_cumprod",
  "sqrt_recip_alphas_cumprod",
  "sqrt_recipm1_alphas_cumprod",
  "posterior_variance",
  "posterior_log_variance_clipped",
  "posterior_mean_coef1",
  "posterior_mean_coef2",
)
# Fields of the settings by the heights of the frames that they were published for.
PRESETS = {
  (64,): {
    "channels": 48,
    "channel_mults": (1, 2, 4, 8),
    "predictor_mults": (1, 2, 2, 4),
  },
  (128, 256): {
    "channels": 64,
    "channel_mults": (1, 1, 2, 2, 4, 4),
    "predictor_mults": (1, 2, 3, 4),
  },
}

_POINT = pointwise(2)
# Gain and offset of a layer norm, [1, C, 1, 1].
_CHANNELS = Layout(lambda a: a.reshape(-1), lambda a: a.reshape(1, -1, 1, 1))
# A transposed convolution: [in, out, kh, kw] to [kh, kw, in, out].
_TRANSPOSED = Layout(
  lambda a: a.transpose(2, 3, 0, 1), lambda a: a.transpose(2, 3, 0, 1)
)


def entries(settings: Settings) -> list[Entry]:
  """The arrays of a state dict of these settings; `TABLES` come on top."""
  found = [
    *_layer("denoise_fn.time_mlp.1", "denoiser/embed_0", LINEAR),
    *_layer("denoise_fn.time_mlp.3", "denoiser/embed_1", LINEAR),
    *_denoiser(settings),
    *_recurrent("history_fn", "context", settings.context_widths, settings),
  ]
  if settings.residual:
    found += _predictor(settings)
  return found


def _layer(key: str, path: str, layout: Layout) -> Iterator[Entry]:
  yield Entry(f"{key}.weight", f"{path}/kernel", layout)
  yield Entry(f"{key}.bias", f"{path}/bias")


def _norm(key: str, path: str) -> Iterator[Entry]:
  yield Entry(f"{key}.g", f"{path}/scale", _CHANNELS)
  yield Entry(f"{key}.b", f"{path}/bias", _CHANNELS)


def _half(key: str, path: str) -> Iterator[Entry]:
  yield from _layer(f"{key}.block.0", f"{path}/conv", CONV)
  yield Entry(f"{key}.block.1.weight", f"{path}/norm/GroupNorm_0/scale")
  yield Entry(f"{key}.block.1.bias", f"{path}/norm/GroupNorm_0/bias")


def _block(
  key: str, path: str, kind: str, timed: bool, inputs: int, outputs: int
) -> Iterator[Entry]:
  if timed:
    yield from _layer(f"{key}.mlp.1", f"{path}/embedding", LINEAR)
  if kind == "resnet":
    for i in range(2):
      yield from _half(f"{key}.block{i + 1}", f"{path}/half_{i}")
  else:
    yield from _layer(f"{key}.ds_conv", f"{path}/depthwise/conv", CONV)
    for i, (norm, mlp) in enumerate(((0, 1), (3, 4))):
      yield from _norm(f"{key}.net.{norm}", f"{path}/norm_{i}")
      yield from _layer(f"{key}.net.{mlp}", f"{path}/mlp_{i}", _POINT)
  if inputs != outputs:
    yield from _layer(f"{key}.res_conv", f"{path}/skip", _POINT)


def _attention(key: str, path: str) -> Iterator[Entry]:
  yield Entry(f"{key}.fn.fn.to_qkv.weight", f"{path}/qkv/kernel", _POINT)
  yield from _layer(f"{key}.fn.fn.to_out", f"{path}/out", _POINT)
  yield from _norm(f"{key}.fn.norm", f"{path}/norm")


def _denoiser(s: Settings) -> Iterator[Entry]:
  key, path = "denoise_fn", "denoiser"
  levels = len(s.widths)

  def block(key_end, path_end, inputs, outputs):
    yield from _block(
      f"{key}.{key_end}", f"{path}/{path_end}", s.denoiser_block, True, inputs, outputs
    )

  inputs = s.out_channels
  for i, (width, context) in enumerate(zip(s.widths, s.context_widths, strict=True)):
    yield from block(f"downs.{i}.0", f"down_{i}_0", inputs, width)
    yield from block(f"downs.{i}.1", f"down_{i}_1", width + context, width)
    yield from _attention(f"{key}.downs.{i}.2", f"{path}/down_{i}_attention")
    if i < levels - 1:
      yield from _layer(f"{key}.downs.{i}.3.conv", f"{path}/down_{i}_resample", CONV)
    inputs = width
  for j in range(levels - 1):
    deep, width = s.widths[levels - 1 - j], s.widths[levels - 2 - j]
    yield from block(f"ups.{j}.0", f"up_{j}_0", 2 * deep, width)
    yield from block(f"ups.{j}.1", f"up_{j}_1", width, width)
    yield from _attention(f"{key}.ups.{j}.2", f"{path}/up_{j}_attention")
    yield from _upsample(f"{key}.ups.{j}.3", f"{path}/up_{j}_resample")
  yield from block("mid_block1", "middle_0", inputs, inputs)
  yield from _attention(f"{key}.mid_attn", f"{path}/middle_attention")
  yield from block("mid_block2", "middle_1", inputs, inputs)
  yield from _half(f"{key}.final_conv.0", f"{path}/head_0")
  yield from _layer(f"{key}.final_conv.1", f"{path}/head_1", _POINT)


def _upsample(key: str, path: str) -> Iterator[Entry]:
  yield from _layer(f"{key}.conv", path, _TRANSPOSED)


def _recurrent(key: str, path: str, widths, s: Settings) -> Iterator[Entry]:
  inputs = s.out_channels
  for i, width in enumerate(widths):
    yield from _block(
      f"{key}.downs.{i}.0", f"{path}/block_{i}", s.recurrent_block, False, inputs, width
    )
    for theirs, ours in (("conv_gates", "gates"), ("conv_cans", "candidate")):
      gate, gru = f"{key}.downs.{i}.1.{theirs}.0", f"{path}/gru_{i}/{ours}"
      yield Entry(f"{gate}.weight", f"{gru}_kernel", CONV)
      yield Entry(f"{gate}.bias", f"{gru}_bias", KEEP)
    if i < len(widths) - 1:
      yield from _layer(f"{key}.downs.{i}.2.conv", f"{path}/down_{i}", CONV)
    inputs = width


def _predictor(s: Settings) -> Iterator[Entry]:
  key, path, widths = "transform_fn", "predictor", s.predictor_widths
  yield from _layer(f"{key}.mu", f"{path}/mu", CONV)
  yield from _recurrent(key, f"{path}/down", widths, s)
  for j in range(len(widths) - 1):
    deep, width = widths[len(widths) - 1 - j], widths[len(widths) - 2 - j]
    yield from _block(
      f"{key}.ups.{j}.0",
      f"{path}/up_{j}",
      s.recurrent_block,
      False,
      2 * deep if j else deep,
      width,
    )
    yield from _upsample(f"{key}.ups.{j}.1", f"{path}/up_{j}_resample")


def infer(shapes: Mapping[str, Shape]) -> Settings:
  """The settings that a state dict of these shapes belongs to.

  Factors are told from multipliers by the finest level's multiplier, which is taken
  to be 1 as in both presets.

  Raises:
    UserError: it is not one of RVD.
  """

  def shape(key):
    if key not in shapes:
      raise UserError(f"not a checkpoint of RVD: it has no {key}")
    return shapes[key]

  def levels(prefix):
    count = 0
    while any(key.startswith(f"{prefix}.downs.{count}.") for key in shapes):
      count += 1
    if not count:
      raise UserError(f"not a checkpoint of RVD: it has no {prefix}.downs.0")
    return range(count)

  def states(prefix):
    return [
      shape(f"{prefix}.downs.{i}.1.conv_cans.0.weight")[0] for i in levels(prefix)
    ]

  def kind(prefix):
    convnext = f"{prefix}.downs.0.0.ds_conv.weight" in shapes
    return "convnext" if convnext else "resnet"

  channels = shape("denoise_fn.time_mlp.1.weight")[1]
  denoiser_block = kind("denoise_fn")
  out = "net.4.weight" if denoiser_block == "convnext" else "block2.block.0.weight"
  widths = [shape(f"denoise_fn.downs.{i}.0.{out}")[0] for i in levels("denoise_fn")]
  context = states("history_fn")
  fields: dict[str, Any] = {
    "channels": channels,
    "channel_mults": tuple(width // channels for width in widths),
    "context_factor": context[0] / channels,
    "recurrent_block": kind("history_fn"),
    "denoiser_block": denoiser_block,
    "residual": any(key.startswith("transform_fn.") for key in shapes),
    "out_channels": shape("denoise_fn.final_conv.1.weight")[0],
  }
  if fields["residual"]:
    predictor = states("transform_fn")
    fields["predictor_factor"] = predictor[0] / channels
    fields["predictor_mults"] = tuple(width // predictor[0] for width in predictor)
  return Settings(**fields)


def num_steps(shapes: Mapping[str, Shape]) -> int:
  """Steps of the diffusion; UserError if the tables of its schedule are missing."""
  lengths = {tuple(shapes[name]) for name in TABLES if name in shapes}
  if len(lengths) != 1 or len(next(iter(lengths))) != 1:
    raise UserError(
      f"not a checkpoint of RVD: expected schedule tables ({TABLES[0]}, ...) of one "
      f"length, found {sorted(lengths) or 'none'}"
    )
  return next(iter(lengths))[0]


def preset(settings: Settings) -> tuple[int, ...]:
  """The heights of frames that such settings were published for; () for none."""
  for heights, fields in PRESETS.items():
    # A file without a predictor has the other fields alone.
    found = {
      name: getattr(settings, name)
      for name in fields
      if settings.residual or name != "predictor_mults"
    }
    if all(_plain(value) == fields[name] for name, value in found.items()):
      return heights
  return ()


def _plain(value: Any) -> Any:
  return value if isinstance(value, int) else tuple(value)


def check_height(settings: Settings, height: int) -> None:
  """Checks that frames of a height are not those of another preset.

  Raises:
    UserError: the checkpoint looks like the preset of another height.
  """
  found = preset(settings)
  if found and height not in found:
    sizes = " and ".join(map(str, found))
    raise UserError(
      f"frames of {height} px: the checkpoint looks like the authors' preset for "
      f"{sizes} px (channels {settings.channels}, levels {settings.channel_mults})"
    )


def from_name(name: str) -> dict[str, Any]:
  """What the authors' file names tell: 'predict', 'norm', 'dataset'; or nothing."""
  pattern = (
    r"(?:resnet|convnext)-(?:adamw?)-(?P<predict>noise|pred_true)-(?P<norm>l1|l2)-"
    r"(?P<dataset>.+)-d\d+-t\d+-"
  )
  match = re.match(pattern, name)
  if match is None:
    return {}
  predict = {"noise": "eps", "pred_true": "x"}[match["predict"]]
  return {"predict": predict, "norm": match["norm"], "dataset": match["dataset"]}
