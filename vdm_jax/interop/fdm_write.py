"""A model of ours as a checkpoint of FDM's, which holds every option of its training.

What an option has no field for here has the value of the authors' README command.
"""

from typing import Any

from vdm_jax.interop import fdm, improved_write, writing

# Fields that are ours, and a learned variance, with which their code fails.
_MODEL = {
  "padding_in_norm": (True,),
  "show_given": (False,),
  "pool_given": (False,),
  "patch": (1,),
  "learn_variance": (False,),
}
_DATASETS = {ours: theirs for theirs, ours in fdm.DATASETS.items()}


def refusals(trained: writing.Trained) -> list[str]:
  """See `writing`."""
  return improved_write.refusals(trained, fdm.CHANNEL_MULTS, (3,), _MODEL)


def write(trained: writing.Trained) -> writing.Written:
  """See `writing`."""
  size = trained.system.frame_shape[0]
  options = {
    **_run_options(trained),
    **improved_write.options(trained),
    "use_rpe_net": True,
  }
  entries = fdm.entries(trained.network, size)
  contents = {
    "state_dict": writing.state_dict(entries, trained.params),
    "config": options,
    "step": trained.step,
  }
  return writing.Written(improved_write.file_name(trained), contents, {})


def _run_options(trained: writing.Trained) -> dict[str, Any]:
  """The options of data and training."""
  config = trained.config
  task, optimizer, train = (config[key] for key in ("task", "optimizer", "train"))
  name = config["data"]["name"]
  # A task of ours may have neither; then their data set tells.
  length = task.get("clip_length") or task.get("length") or -1
  return {
    "dataset": _DATASETS.get(name.partition("/")[0], name),
    "schedule_sampler": "uniform",
    "lr": float(optimizer["learning_rate"]),
    "weight_decay": float(optimizer["weight_decay"]),
    "lr_anneal_steps": 0,
    "batch_size": train["batch_size"],
    "microbatch": -1,
    "ema_rate": ",".join(map(str, train["ema"])) or "0.9999",
    "log_interval": 10,
    "save_interval": 50_000,
    "resume_checkpoint": "",
    "use_fp16": False,
    "fp16_scale_growth": 1e-3,
    "resume_id": "",
    "num_workers": 1,
    "pad_with_random_frames": task.get("padding", "random") == "random",
    "max_frames": trained.system.window,
    "T": length,
    "sample_interval": 50_000,
  }
