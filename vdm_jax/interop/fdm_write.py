"""Writing of FDM's checkpoints, which hold every option of the training.

Options without a field here have the value of the command in the authors' README.
"""

from typing import Any

from vdm_jax.interop import fdm, improved_write, writing

# Values that the authors' code has for our own fields; learned variance fails there.
_MODEL = {
  "padding_in_norm": (True,),
  "show_given": (False,),
  "pool_given": (False,),
  "patch": (1,),
  "learn_variance": (False,),
}
_DATASETS = {ours: theirs for theirs, ours in fdm.DATASETS.items()}


def refusals(trained: writing.Trained) -> list[str]:
  """Lists what the authors' code cannot run, see `writing`."""
  return improved_write.refusals(trained, fdm.CHANNEL_MULTS, (3,), _MODEL)


def write(trained: writing.Trained) -> writing.Written:
  """Makes the file, see `writing`."""
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
  """Converts the fields of data and training to options."""
  config = trained.config
  task, optimizer, train = (config[key] for key in ("task", "optimizer", "train"))
  name = config["data"]["name"]
  # If the task has neither, the authors' value for the data set is taken.
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
