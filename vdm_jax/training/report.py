"""What a run leaves for people: progress bar, metrics.jsonl, TensorBoard."""

import contextlib
import json
import sys
import time
from collections.abc import Mapping

import tqdm
from etils import epath

from vdm_jax.storage import workdirs


class Report:
  """Writes one run's progress; does nothing where `active` is false.

  `metrics.jsonl` holds one JSON object per logged step. After a resume it has
  exactly the lines of steps up to the resumed one: what a killed run logged
  beyond its last checkpoint is forgotten, since those steps happen again.
  """

  def __init__(
    self, workdir: str, *, first_step: int, num_steps: int, batch_size: int, active=True
  ):
    self._active = active
    self._paused = 0.0
    if not active:
      return
    from tensorboardX import SummaryWriter

    self._path = epath.Path(workdir) / "metrics.jsonl"
    self._lines = [
      line for line in workdirs.read_metrics(workdir) if line["step"] <= first_step
    ]
    self._local = "://" not in str(workdir)
    self._rewrite()
    self._board = SummaryWriter(str(epath.Path(workdir) / "tensorboard"))
    self._batch_size = batch_size
    self._bar = tqdm.tqdm(
      total=num_steps,
      initial=first_step,
      desc="train",
      unit="step",
      smoothing=0.05,
      dynamic_ncols=True,
      # A log file wants a line now and then, a terminal a live bar.
      mininterval=0.5 if sys.stderr.isatty() else 15.0,
    )
    self._mark = (first_step, time.perf_counter())

  def step(self, step: int, loss: float | None = None) -> None:
    """Moves the bar; `loss` where it is known."""
    if not self._active:
      return
    if loss is not None:
      rate = self._rate(step)[1]
      self._bar.set_postfix_str(f"loss {loss:.4f}, {rate:.1f} videos/s", refresh=False)
    self._bar.update(step - self._bar.n)

  @contextlib.contextmanager
  def paused(self):
    """Time within (validation, samples) does not count as training time."""
    start = time.perf_counter()
    yield
    self._paused += time.perf_counter() - start

  def log(self, step: int, values: Mapping[str, float]) -> None:
    """Logs the means since the last log, one line a step."""
    if not self._active:
      return
    steps_per_s, videos_per_s = self._rate(step)
    self._mark, self._paused = (step, time.perf_counter()), 0.0
    # JSON knows no NaN: a window of nothing but skipped steps has the loss null.
    line = {
      "step": step,
      "loss": None,
      **values,
      "steps_per_second": steps_per_s,
      "videos_per_second": videos_per_s,
      "time": time.time(),
    }
    self._write(line)

  def gif(self, step: int, tag: str, encoded: bytes, shape: tuple[int, ...]) -> None:
    """Puts an encoded GIF of [T, H, W, C] frames into TensorBoard."""
    if not self._active:
      return
    from tensorboardX.proto.summary_pb2 import Summary

    image = Summary.Image(
      height=shape[1], width=shape[2], colorspace=shape[3], encoded_image_string=encoded
    )
    summary = Summary(value=[Summary.Value(tag=tag, image=image)])
    self._board.file_writer.add_summary(summary, step)

  def say(self, text: str) -> None:
    """Prints a line above the bar."""
    if self._active:
      self._bar.write(text, file=sys.stderr)

  def close(self) -> None:
    if self._active:
      self._bar.close()
      self._board.close()
      if not self._local:
        self._rewrite()

  def _rate(self, step):
    first, start = self._mark
    seconds = max(time.perf_counter() - start - self._paused, 1e-9)
    rate = (step - first) / seconds
    return rate, rate * self._batch_size

  def _write(self, line):
    self._lines.append(line)
    if self._local:
      with self._path.open("a") as file:
        file.write(json.dumps(line) + "\n")
    else:  # Object stores cannot append.
      self._rewrite()
    for name, value in line.items():
      if name not in ("step", "time") and value is not None:
        self._board.add_scalar(name, value, line["step"])

  def _rewrite(self):
    text = "".join(json.dumps(line) + "\n" for line in self._lines)
    part = self._path.with_name(self._path.name + ".part")
    part.write_text(text)
    part.replace(self._path)
