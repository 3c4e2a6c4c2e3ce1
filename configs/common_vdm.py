"""Common parts of VDM's small configs; `common.base` is that of the paper's."""

from ml_collections import ConfigDict


def small_vdm(config: ConfigDict, channels: int) -> None:
  """Sets network and sampling of VDM for a CPU (docs/vdm.md), in place.

  The network works on patches of 2x2 pixels, has attention at its coarser level, and
  mixes neighbouring frames in its convolutions.
  """
  config.model.update(
    dict(
      patch=2,
      conv_time=True,
      channels=channels,
      channel_mults=(1, 2),
      blocks=1,
      attention_resolutions=(config.data.frame_shape[0] // 4,),
      head_dim=32,
      embedding_dim=128,
      mlp_layers=2,
    )
  )
  config.diffusion.update(dict(predict="v", loss_space="v"))
  config.sampling.update(dict(sampler="ancestral", steps=64))
