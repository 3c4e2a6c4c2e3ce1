"""The demo of a cascade: its judge on real and on broken clips, and once for real."""

import json

import numpy as np
import pytest

from vdm_jax import configs
from vdm_jax.data.builders import moving_digits
from vdm_jax.demo import captioned, cascade, timed
from vdm_jax.errors import UserError

NAME = "32px_1digit_9frames_deterministic_captions"


def clips(count=60):
  config = moving_digits.MovingDigits.parse(NAME)
  return [moving_digits.generate(config, "test", number) for number in range(count)]


def test_combinations_are_half_held_out():
  asked = captioned.combinations(2)
  assert len(asked) == len(set(asked)) == 40
  assert sum(one.held_out for one in asked) == 20
  assert captioned.Asked(8, 7).caption == "an eight moving up and left"
  assert captioned.Asked(3, 6).caption == "a three moving left"
  assert len(captioned.combinations(1)) == 20


def test_directions_of_real_clips_are_what_their_captions_say():
  real = clips()
  films = np.stack([clip.frames for clip in real])
  wanted = [cascade._way_of(clip.caption) for clip in real]
  signs = [tuple(np.sign(clip.velocities[0, 0])) for clip in real]
  assert wanted == [moving_digits.DIRECTIONS.index(sign) for sign in signs]
  assert (captioned.directions(films, 0, 4) == wanted).mean() > 0.95
  opposite = (captioned.directions(films[:, ::-1], 4, 8) - wanted) % 8
  assert (opposite == 4).mean() > 0.95


def test_what_stands_still_or_is_dark_goes_no_way():
  films = np.stack([clip.frames for clip in clips(4)])
  films[:2] = films[:2, :1]
  films[2:] = 0
  assert captioned.directions(films, 0, 4).tolist() == [-1] * 4


def test_disagreement_is_a_share_of_the_range():
  large = np.zeros((1, 2, 4, 4, 1), np.uint8)
  large[:, :, ::2, ::2] = 255
  small = np.full((1, 2, 2, 2, 1), 64, np.uint8)
  assert cascade._disagreement(small, large) == pytest.approx(0.25 / 255)
  assert cascade.enlarged(small, np.zeros((1, 8, 4, 4, 1))).shape == (1, 8, 4, 4, 1)


def test_other_data_are_refused(tmp_path):
  config = {"data": {"name": "moving_digits/16px_1digit_9frames"}}
  with pytest.raises(UserError, match="with 'captions' in its name"):
    cascade.run(config, config, tmp_path, seconds=1)


@pytest.fixture
def stages(tmp_path):
  """Both stages, of networks that train in a moment."""
  found = []
  for stage, size in (("base", 8), ("upper", 16)):
    config = configs.get(f"vdm_digits_cascade:stage={stage}")
    config = json.loads(config.to_json_best_effort())
    config["data"].update(
      name="moving_digits/16px_1digit_15frames_8digitpx_600videos_deterministic_captions",
      data_dir=str(tmp_path / "data"),
      frame_shape=[size, size, 1],
      text_encoder="bytes:8",
    )
    config["task"].update(num_frames=4)
    config["model"].update(
      channels=8, channel_mults=[1], attention_resolutions=[], head_dim=8,
      embedding_dim=16, token_dim=8, patch=2,
    )  # fmt: skip
    config["train"].update(batch_size=8, num_steps=3, eval_batches=0)
    config["sampling"].update(steps=2)
    found.append(config)
  return found


@pytest.mark.integration
def test_runs_and_keeps_what_is_there(stages, tmp_path, monkeypatch):
  monkeypatch.setattr(timed, "_ANNEALED", {})
  out = tmp_path / "out"
  results = cascade.run(*stages, out, seconds=600, per_digit=1, classifier_steps=20)
  assert results["run"]["steps"] == [3, 3] and results["note"]
  assert len(results["goals"]) == 3
  assert 0 <= results["disagreement"] < 0.5
  assert "NOT met" in (out / "table.txt").read_text()
  page = (out / "report.html").read_text()
  assert page.count("<img") == 3 * 20 and "a three moving" in page
  with np.load(out / "samples" / "videos.npz") as file:
    assert file["videos"].shape == (20, 16, 16, 16, 1)
  with np.load(out / "samples" / "stage_0" / "videos.npz") as file:
    assert file["videos"].shape == (20, 4, 8, 8, 1)
  monkeypatch.setattr(cascade.cascade, "enlarge", None)  # Would raise if called.
  again = cascade.run(*stages, out, seconds=600, per_digit=1, classifier_steps=20)
  assert again["digit"] == results["digit"]
