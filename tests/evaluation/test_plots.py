"""The loss curve."""

import json

import numpy as np
import PIL.Image
import pytest

from vdm_jax.errors import UserError
from vdm_jax.evaluation import plots


def test_series_and_picture(tmp_path):
  lines = [{"step": 10 * i, "loss": 1 / (i + 1), "time": 0.0} for i in range(40)]
  lines[20]["validation_loss"] = 0.5
  text = "".join(json.dumps(line) + "\n" for line in lines)
  (tmp_path / "metrics.jsonl").write_text(text + '{"step": 4')  # Half a line.
  np.testing.assert_array_equal(plots.series(lines, "validation_loss"), [[200, 0.5]])
  assert plots.series(lines, "nothing").shape == (0, 2)
  out = tmp_path / "plots" / "loss.png"
  plots.loss_curve(str(tmp_path), out)
  picture = np.asarray(PIL.Image.open(out).convert("RGB"))
  assert picture.shape[1] > 800
  assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 20


def test_a_run_without_a_loss_is_refused(tmp_path):
  with pytest.raises(UserError, match="no loss"):
    plots.loss_curve(str(tmp_path), tmp_path / "loss.png")
