"""The U-Net of OpenAI's improved-diffusion, from which FDM and RaMViD descend.

Blocks of a state dict are numbered through all levels, down and then up; a number
holds a residual block, its attention if any, and a resampling if any.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence

from vdm_jax.interop.mapping import CONV, LINEAR, Entry, Layout, pointwise

# Maps the key and path of an attention site, and whether it is on the way up.
Site = Callable[[str, str, bool], Iterable[Entry]]


def entries(
  *,
  channels: int,
  widths: Sequence[int],
  blocks: int,
  attends: Sequence[bool],
  site: Site,
  rank: int,
) -> list[Entry]:
  """Lists the arrays of a U-Net that `models.unet.wire` wires.

  Args:
    channels: channels of the stem.
    widths: channels of each level, finest first.
    blocks: residual blocks per level on the way down.
    attends: whether attention follows the blocks of each level; the middle always has
      it.
    site: lists the arrays of an attention site.
    rank: number of axes of the convolutions.
  """
  found = [
    *layer("time_embed.0", "embed_0", LINEAR),
    *layer("time_embed.2", "embed_1", LINEAR),
    *layer("input_blocks.0.0", "stem", CONV),
  ]
  last, place, inputs = len(widths) - 1, 1, channels
  for level, width in enumerate(widths):
    for i in range(blocks):
      key, path = f"input_blocks.{place}", f"down_{level}_{i}"
      found += _block(f"{key}.0", path, inputs != width, rank)
      if attends[level]:
        found += site(f"{key}.1", f"{path}_attention", False)
      place, inputs = place + 1, width
    if level < last:
      key = f"input_blocks.{place}.0.op"
      found += layer(key, f"down_{level}_resample", CONV)
      place += 1
  found += _block("middle_block.0", "middle_0", False, rank)
  found += site("middle_block.1", "middle_0_attention", False)
  found += _block("middle_block.2", "middle_1", False, rank)
  place = 0
  for level in reversed(range(last + 1)):
    for i in range(blocks + 1):
      key, path = f"output_blocks.{place}", f"up_{level}_{i}"
      # A skip is concatenated, so the input is wider than the output.
      found += _block(f"{key}.0", path, True, rank)
      if attends[level]:
        found += site(f"{key}.1", f"{path}_attention", True)
      place += 1
    if level:
      key = f"{key}.{2 if attends[level] else 1}.conv"
      found += layer(key, f"up_{level}_resample/conv", CONV)
  found += norm("out.0", "head_norm")
  found += layer("out.2", "head", CONV)
  return found


def layer(key: str, path: str, layout: Layout) -> Iterator[Entry]:
  """Lists kernel and bias of a layer."""
  yield Entry(f"{key}.weight", f"{path}/kernel", layout)
  yield Entry(f"{key}.bias", f"{path}/bias")


def norm(key: str, path: str) -> Iterator[Entry]:
  """Lists scale and bias of a group norm."""
  yield Entry(f"{key}.weight", f"{path}/GroupNorm_0/scale")
  yield Entry(f"{key}.bias", f"{path}/GroupNorm_0/bias")


def _block(key: str, path: str, skip: bool, rank: int) -> Iterator[Entry]:
  yield from norm(f"{key}.in_layers.0", f"{path}/norm_0")
  yield from layer(f"{key}.in_layers.2", f"{path}/conv_0", CONV)
  yield from layer(f"{key}.emb_layers.1", f"{path}/embedding", LINEAR)
  yield from norm(f"{key}.out_layers.0", f"{path}/norm_1")
  yield from layer(f"{key}.out_layers.3", f"{path}/conv_1", CONV)
  if skip:
    yield from layer(f"{key}.skip_connection", f"{path}/skip", pointwise(rank))
