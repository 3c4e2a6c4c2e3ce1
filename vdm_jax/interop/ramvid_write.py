"""Writing of RaMViD's checkpoints, which are plain state dicts.

Options that a state dict does not determine are flags of the authors' scripts, see
`Written.options`.
"""

from vdm_jax.interop import improved_write, ramvid, writing

# Channel multipliers by frame size, as in the authors' script_util.py.
_CHANNEL_MULTS = {
  256: (1, 1, 2, 2, 4, 4),
  128: (1, 2, 3, 4),
  64: (1, 2, 3, 4),
  32: (1, 2, 2, 2),
}
# Values that the authors' code supports: our own fields, and 0 or 1000 classes.
_MODEL = {"show_given": (False,), "patch": (1,), "num_labels": (0, 1000)}


def refusals(trained: writing.Trained) -> list[str]:
  """Lists what the authors' code cannot run, see `writing`."""
  return improved_write.refusals(trained, _CHANNEL_MULTS, (3, 1), _MODEL)


def write(trained: writing.Trained) -> writing.Written:
  """Makes the file, see `writing`."""
  network, shape = trained.network, trained.system.frame_shape
  options = improved_write.options(trained) | {
    "scale_time_dim": network.scale_time_dim,
    "rgb": shape[2] == 3,
  }
  entries = ramvid.entries(network, shape[0])
  state = writing.state_dict(entries, trained.params)
  return writing.Written(improved_write.file_name(trained), state, options)
