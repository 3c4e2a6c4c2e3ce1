"""The table of RVD's state dicts, from keys to parameters.

`rvd` reads the file and infers its settings.
"""

from collections.abc import Iterator

from vdm_jax.interop.mapping import CONV, KEEP, LINEAR, Entry, Layout, pointwise
from vdm_jax.models.rvd import RvdSettings

_POINT = pointwise(2)
# Scale and bias of a layer norm, [1, C, 1, 1].
_CHANNELS = Layout(lambda a: a.reshape(-1), lambda a: a.reshape(1, -1, 1, 1))
# Transposed convolution: [in, out, kh, kw] to [kh, kw, in, out].
_TRANSPOSED = Layout(
  lambda a: a.transpose(2, 3, 0, 1), lambda a: a.transpose(2, 3, 0, 1)
)


def entries(settings: RvdSettings) -> list[Entry]:
  """Lists the arrays of a state dict of these settings, without `rvd.TABLES`."""
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


def _denoiser(s: RvdSettings) -> Iterator[Entry]:
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


def _recurrent(key: str, path: str, widths, s: RvdSettings) -> Iterator[Entry]:
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


def _predictor(s: RvdSettings) -> Iterator[Entry]:
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
