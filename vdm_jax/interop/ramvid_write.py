"""A model of ours as a checkpoint of RaMViD's: a plain state dict.

What leaves no trace in it their scripts take as flags: `Written.options`.
"""

from vdm_jax.interop import improved_write, ramvid, writing

# By the size of a frame, as their script_util.py builds the network.
_CHANNEL_MULTS = {
  256: (1, 1, 2, 2, 4, 4),
  128: (1, 2, 3, 4),
  64: (1, 2, 3, 4),
  32: (1, 2, 2, 2),
}
# Fields that are ours; and their classes, none or a thousand.
_MODEL = {"show_given": (False,), "patch": (1,), "num_labels": (0, 1000)}


def refusals(trained: writing.Trained) -> list[str]:
  """See `writing`."""
  return improved_write.refusals(trained, _CHANNEL_MULTS, (3, 1), _MODEL)


def write(trained: writing.Trained) -> writing.Written:
  """See `writing`."""
  network, shape = trained.network, trained.system.frame_shape
  options = improved_write.options(trained) | {
    "scale_time_dim": network.scale_time_dim,
    "rgb": shape[2] == 3,
  }
  entries = ramvid.entries(network, shape[0])
  state = writing.state_dict(entries, trained.params)
  return writing.Written(improved_write.file_name(trained), state, options)
