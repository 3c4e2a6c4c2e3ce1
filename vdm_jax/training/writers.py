"""Writers of a run's metrics and videos: JSON lines, TensorBoard, Weights & Biases."""

import importlib.util
import io
import json
import uuid
from collections.abc import Mapping
from typing import Any, Protocol

from etils import epath

from vdm_jax import atomic
from vdm_jax.errors import UserError
from vdm_jax.storage import workdirs


class Writer(Protocol):
  """A receiver of what a run reports; only the first process has writers."""

  def scalars(self, step: int, values: Mapping[str, float | None]) -> None:
    """Takes the metrics of a step, by name; None for those without a value.

    One of them is `time`, in seconds since 1970.
    """
    ...

  def gif(self, step: int, tag: str, encoded: bytes, shape: tuple[int, ...]) -> None:
    """Takes an encoded GIF of frames of shape [T, H, W, C]."""
    ...

  def close(self) -> None: ...


class Jsonl:
  """A writer of `metrics.jsonl`, with a JSON object per logged step.

  What is found of held-out videos follows in an object of its own, of the same step.
  When a run resumes, the lines that it had logged beyond its last checkpoint are
  removed, since those steps happen again.
  """

  def __init__(self, workdir: str, first_step: int):
    """Keeps the lines of steps up to `first_step`, at which the run resumes."""
    self._path = epath.Path(workdir) / "metrics.jsonl"
    self._lines = [
      line for line in workdirs.read_metrics(workdir) if line["step"] <= first_step
    ]
    self._local = "://" not in str(workdir)
    self._rewrite()

  def scalars(self, step, values):
    line = {"step": step, **values}
    self._lines.append(line)
    if self._local:
      with self._path.open("a") as file:
        file.write(json.dumps(line) + "\n")
    else:  # Object stores cannot append.
      self._rewrite()

  def gif(self, step, tag, encoded, shape):
    """Does nothing, as videos are in `samples/`."""

  def close(self):
    if not self._local:
      self._rewrite()

  def _rewrite(self):
    text = "".join(json.dumps(line) + "\n" for line in self._lines)
    atomic.write(self._path, text)


class TensorBoard:
  """A writer of event files in `tensorboard/`."""

  def __init__(self, workdir: str):
    from tensorboardX import SummaryWriter

    self._board = SummaryWriter(str(epath.Path(workdir) / "tensorboard"))

  def scalars(self, step, values):
    for name, value in values.items():
      if name != "time" and value is not None:
        self._board.add_scalar(name, value, step)

  def gif(self, step, tag, encoded, shape):
    from tensorboardX.proto.summary_pb2 import Summary

    image = Summary.Image(
      height=shape[1], width=shape[2], colorspace=shape[3], encoded_image_string=encoded
    )
    summary = Summary(value=[Summary.Value(tag=tag, image=image)])
    self._board.file_writer.add_summary(summary, step)

  def close(self):
    self._board.close()


class WeightsAndBiases:
  """A writer to a run of Weights & Biases; `WANDB_MODE=offline` needs no network.

  A workdir is one run, whose id is in `wandb_id.txt`. Points cannot be removed, so
  steps that happen again after a crash appear twice.
  """

  def __init__(self, project: str, workdir: str, config: Mapping[str, Any]):
    """Starts the run, or resumes it.

    Raises:
      UserError: the package is missing or refuses, for example without a login.
    """
    check_installed(project)
    import wandb

    root = epath.Path(workdir)
    file = root / "wandb_id.txt"
    if file.exists():
      number = file.read_text().strip()
    else:
      number = uuid.uuid4().hex[:12]
      root.mkdir(parents=True, exist_ok=True)
      file.write_text(number)
    try:
      self._run = wandb.init(
        project=project,
        id=number,
        name=root.name,
        resume="allow",
        config=dict(config),
        dir=None if "://" in str(workdir) else str(root),
      )
    except wandb.Error as error:
      raise UserError(
        f"`wandb={project}`: {' '.join(str(error).split())[:300]}; expected a login "
        "(wandb login), or WANDB_MODE=offline, which needs no network"
      ) from error
    # Its own step count only grows, so that a resumed run would lose points.
    self._run.define_metric("*", step_metric="step")
    self._wandb = wandb

  def scalars(self, step, values):
    found = {k: v for k, v in values.items() if k != "time" and v is not None}
    self._run.log({"step": step, **found})

  def gif(self, step, tag, encoded, shape):
    film = self._wandb.Video(io.BytesIO(encoded), format="gif")
    self._run.log({"step": step, tag: film})

  def close(self):
    self._run.finish()


def check_installed(project: str) -> None:
  """Raises UserError if Weights & Biases is not installed."""
  if importlib.util.find_spec("wandb") is None:
    raise UserError(
      f"`wandb={project}`: Weights & Biases is not installed: "
      "pip install 'vdm_jax[wandb]'"
    )
