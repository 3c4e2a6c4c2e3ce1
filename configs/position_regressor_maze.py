"""A regressor of where in the maze a frame was seen, for FDM's WD and PO; fits a CPU.

    vdm-jax train --config=configs/position_regressor_maze.py --workdir=runs/position
    vdm-jax eval --protocol=position --workdir=runs/position --out=runs/position_eval
    vdm-jax eval --protocol=walk --samples=DIR --regressor=runs/position --out=DIR2

Arguments: name, the data set to train on; size, height and width of its frames. The
maze must be one and the same in all videos; `model.bounds` are those of its map, which
`vdm-jax eval` checks.
All settings are our choice: the authors train two ResNet-152.
"""

from ml_collections import ConfigDict

from vdm_jax.configs import common


def get_config(arg: str | None = None) -> ConfigDict:
  values = common.arguments(arg, name="maze/64px_300frames_100videos", size=64)
  config = common.base()
  config.system = "position_regressor"
  config.dtype = "float32"
  for section in ("diffusion", "plan", "sampling"):
    del config[section]  # There is no diffusion.
  config.data.update(
    dict(
      name=values["name"],
      frame_shape=(values["size"], values["size"], 3),
      num_threads=2,
      prefetch_mb=64,
    )
  )
  # Four frames per video, far apart, so that a batch of 16 has 64 places.
  config.task = common.unconditional(num_frames=4, stride=25)
  config.model = ConfigDict(
    dict(
      extra="pose",  # Per-frame extra of the data set that starts with (x, y).
      extra_width=3,  # Its values.
      bounds=(0.0, 0.0, 992.0, 992.0),  # x_min, y_min, x_max, y_max of the map.
      # The map has cells x cells, each with its own head. They are as many as the
      # maze's, so that their borders are in walls, not in the middle of corridors.
      cells=6,
      regression_weight=10.0,  # Weight of squared errors beside the cross-entropy.
      channels=24,  # Base width; stage l has channels * channel_mults[l].
      channel_mults=(1, 2, 3, 4),  # One per halving of the frame.
      features=256,  # Width before the heads.
      dropout=0.1,
      brightness=0.1,  # Training scales and shifts pixels by up to this.
      blur=0.5,  # And blurs by up to this, as samples are soft.
    )
  )
  config.optimizer.update(
    dict(learning_rate=1e-3, warmup_steps=100, decay="cosine", clip_norm=1.0)
  )
  config.train.update(
    dict(
      batch_size=16,
      num_steps=3000,
      ema=(0.99,),
      log_every=50,
      eval_every=500,
      eval_batches=16,
      num_samples=0,
      checkpoint_every=500,
    )
  )
  return config
