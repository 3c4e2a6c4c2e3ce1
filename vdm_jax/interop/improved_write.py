"""Conversion to options of improved-diffusion, which FDM's and RaMViD's code share."""

from collections.abc import Mapping, Sequence
from typing import Any

from vdm_jax.interop.writing import Trained, unlike
from vdm_jax.systems import sections

SCHEDULES = {"linear_steps": "linear", "cosine_steps": "cosine"}


def diffusion(trained: Trained) -> sections.Diffusion:
  """Returns the section `diffusion` with its defaults."""
  return sections.read(
    sections.Diffusion, trained.config["diffusion"], "config.diffusion"
  )


def refusals(
  trained: Trained,
  channel_mults: Mapping[int, Sequence[int]],
  channels: Sequence[int],
  model: Mapping[str, Sequence[Any]],
) -> list[str]:
  """Lists the fields that networks and samplers of the authors' code do not support.

  Args:
    trained: the model.
    channel_mults: their multipliers by frame size.
    channels: their possible numbers of channels of a frame.
    model: their possible values of fields of the network; others are unrestricted.
  """
  shape = trained.system.frame_shape
  known = [(size, size, count) for size in channel_mults for count in channels]
  found = unlike("data", {"frame_shape": shape}, {"frame_shape": known})
  theirs = dict(model)
  if not found:
    theirs["channel_mults"] = [channel_mults[shape[0]]]
  found += unlike("model", vars(trained.network), theirs)
  section = diffusion(trained)
  theirs = {"schedule": tuple(SCHEDULES), "predict": ("eps", "x")}
  if section.schedule == "cosine_steps":
    theirs |= {"cosine_s": (0.008,), "max_beta": (0.999,)}
  if not trained.network.learn_variance:
    theirs["gamma"] = (0.0, 1.0)
  return found + unlike("diffusion", vars(section), theirs)


def options(trained: Trained) -> dict[str, Any]:
  """Returns the options of network and diffusion, in the order of the authors' code."""
  network, section = trained.network, diffusion(trained)
  size = trained.system.frame_shape[0]
  # The authors' code reads a non-empty list of numbers, and ignores one that is not a
  # height.
  heights = network.attention_resolutions or (2 * size,)
  return {
    "image_size": size,
    "num_channels": network.channels,
    "num_res_blocks": network.blocks,
    "num_heads": network.num_heads,
    "num_heads_upsample": network.num_heads_upsample or -1,
    "attention_resolutions": ",".join(map(str, heights)),
    "dropout": float(network.dropout),
    "learn_sigma": network.learn_variance,
    "sigma_small": section.gamma == 0.0,
    "class_cond": bool(getattr(network, "num_labels", 0)),
    "diffusion_steps": section.num_steps,
    "noise_schedule": SCHEDULES[section.schedule],
    "timestep_respacing": "",
    "use_kl": section.kind == "kl",
    "predict_xstart": section.predict == "x",
    "rescale_timesteps": section.rescale_time,
    "rescale_learned_sigmas": True,
    "use_checkpoint": False,
    "use_scale_shift_norm": network.scale_shift,
  }


def file_name(trained: Trained) -> str:
  """Returns a name like 'ema_0.9999_550000.pt', or 'model550000.pt' for raw weights."""
  start = f"ema_{trained.ema}_" if trained.ema else "model"
  return f"{start}{trained.step:06d}.pt"
