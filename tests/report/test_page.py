"""The page of a run: what it holds, and that it stands alone."""

import html.parser
import json
import re

import numpy as np
import PIL.Image
import pytest

from tests.helpers import load_config
from vdm_jax import run_data
from vdm_jax.data import source as sources
from vdm_jax.errors import UserError
from vdm_jax.evaluation import plots
from vdm_jax.report import contents, listings, page, pictures, svg

VOID = {"meta", "img", "input", "br", "link"}
VOID_SVG = {"line", "polyline", "circle"}


class Page(html.parser.HTMLParser):
  """Tags, texts and ids of a page; fails where tags do not match."""

  def __init__(self, text):
    super().__init__()
    self.open, self.tags, self.words = [], [], []
    self.feed(text)
    self.close()
    assert self.open == ["html"] or not self.open

  def handle_starttag(self, tag, attrs):
    self.tags.append((tag, dict(attrs)))
    if tag not in VOID:
      self.open.append(tag)

  def handle_startendtag(self, tag, attrs):
    assert tag in VOID_SVG
    self.tags.append((tag, dict(attrs)))

  def handle_endtag(self, tag):
    assert self.open.pop() == tag

  def handle_data(self, data):
    self.words.append(data)

  def of(self, tag, **wanted):
    return [
      attrs
      for name, attrs in self.tags
      if name == tag and wanted.items() <= attrs.items()
    ]

  @property
  def text(self):
    return " ".join(" ".join(self.words).split())


def write_run(folder, *, learning_rate=1e-3, steps=(10, 20, 30), command=""):
  """A run as training leaves it, without weights."""
  folder.mkdir(parents=True)
  config = {
    "system": "vdm",
    "data": {"name": "video_folder/<mine>", "data_dir": str(folder / "data")},
    "task": {"num_frames": 2, "num_context": 1},
    "model": {"num_labels": 3},
    "diffusion": {"predict": "eps"},
    "optimizer": {"learning_rate": learning_rate, "warmup_steps": 0,
                  "decay": "constant", "decay_by": "steps"},
    "train": {"num_steps": 100, "max_seconds": 0.0},
  }  # fmt: skip
  meta = {"config": config, "vdm_jax": "0.1.0", "jax": "0.9"}
  meta |= {"command": command} if command else {}
  (folder / "config.json").write_text(json.dumps(meta))
  lines = [
    {
      "step": step,
      "loss": 1 / step,
      "loss_logsnr_-inf_-2.5": 0.5,
      "loss_logsnr_-2.5_inf": 1.0,
      "grad_norm": float(step),
      "validation_loss": 2 / step,
      "videos_per_second": 7.0,
      "bad_total": 0.0,
      "param_norm": 3.0,
      "time": 1_700_000_000.0,
    }
    for step in steps
  ]
  (folder / "metrics.jsonl").write_text("".join(json.dumps(x) + "\n" for x in lines))
  for step in steps:
    write_sample(folder / "samples", step)
  return folder


def write_sample(folder, step, size=8):
  folder.mkdir(exist_ok=True)
  rng = np.random.default_rng(step)
  frames = [
    PIL.Image.fromarray(rng.integers(0, 255, (size, size, 3), np.uint8))
    for _ in range(2)
  ]
  name = folder / f"step_{step:07d}"
  frames[0].save(f"{name}.gif", save_all=True, append_images=frames[1:], duration=99)
  frames[0].save(f"{name}.png")


def write(folders, out, **options):
  page.write(out, [contents.read(str(folder)) for folder in folders], **options)
  return Page(out.read_text())


@pytest.fixture
def run(tmp_path):
  command = "vdm-jax train --config=c.py --config.train.num_steps=100 --workdir='a b'"
  return write_run(tmp_path / "run", command=command)


def test_everything_of_a_run_is_there_and_nothing_is_fetched(run, tmp_path):
  found = write([run], tmp_path / "out.html")
  text = (tmp_path / "out.html").read_text()
  assert not re.search(r"https?://|@import|url\(", text)
  for _, attrs in found.tags:
    for name in ("src", "href"):
      assert attrs.get(name, "data:").startswith(("data:", "#"))
  assert "prefers-color-scheme: dark" in text
  ids = [attrs["id"] for _, attrs in found.tags if "id" in attrs]
  assert len(ids) == len(set(ids))
  targets = [a["href"][1:] for a in found.of("a")]
  assert len(targets) > 6 and set(targets) <= set(ids)
  figures = {a["id"] for a in found.of("figure") if "id" in a}
  assert figures == {
    "chart-loss", "chart-bands", "chart-grad-norm", "chart-learning-rate",
    "chart-videos-per-second", "chart-bad-total", "chart-param-norm",
  }  # fmt: skip
  assert "vdm-jax train --config=c.py --config.train.num_steps=100" in found.text
  assert f"--workdir={run} --label=0 --num_obs=1 --num_videos=8" in found.text
  assert "30 of 100 planned" in found.text
  assert "video_folder/<mine>" in found.text and "<mine>" not in text


def test_the_command_that_samples_is_the_one_that_train_prints(tmp_path):
  given = load_config(data={"data_dir": str(tmp_path / "data")})
  given["task"] = {"name": "past_future", "num_past": 2, "num_current": 2}
  sources.ensure_built(given["data"]["name"], tmp_path / "data")
  folder = write_run(tmp_path / "run")
  shown = {}
  for name, config in (("given", given), ("own", {**given, "system": "x.py:build"})):
    meta = {"config": config, "vdm_jax": "0.1.0", "jax": "0.9"}
    (folder / "config.json").write_text(json.dumps(meta))
    shown[name] = write([folder], tmp_path / f"{name}.html").text
  expected = run_data.sampling_command(given, str(folder))
  assert expected in shown["given"] and "--split=validation --num_obs=" in expected
  # Code that a run names is not run for its page.
  assert expected not in shown["own"] and "--num_videos=8" in shown["own"]


def test_pictures_and_controls_have_words(run, tmp_path):
  found = write([run], tmp_path / "out.html")
  assert len(found.of("img")) == 6 and all(a["alt"] for a in found.of("img"))
  assert all(a["width"] == "8" for a in found.of("img"))
  (slider,) = found.of("input", type="range")
  assert json.loads(slider["data-steps"]) == [10, 20, 30]
  assert found.of("label", **{"for": slider["id"]})
  charts = [a for a in found.of("svg") if a.get("role") == "img"]
  ids = {attrs.get("id") for _, attrs in found.tags}
  assert len(charts) == 7
  assert all(set(a["aria-labelledby"].split()) <= ids for a in charts)
  assert "training: 0.1 at step 10, 0.03333 at step 30" in found.text
  assert found.of("html", lang="en") and found.of("main")


def test_two_runs_share_charts_and_tell_what_differs(run, tmp_path):
  other = write_run(tmp_path / "other", learning_rate=0.5, steps=(5, 30))
  found = write([run, other], tmp_path / "out.html")
  assert "What differs between A and B" in found.text
  assert "optimizer.learning_rate 0.001 0.5" in found.text
  assert "A: training" in found.text and "B: training" in found.text
  assert any("dashed" in a.get("class", "") for a in found.of("polyline"))
  (slider,) = found.of("input", type="range")
  assert json.loads(slider["data-steps"]) == [5, 10, 20, 30]
  assert len(found.of("div", **{"class": "panel"})) == 2
  # The other one does not say what command it was started by.
  assert f"vdm-jax train --config=CONFIG --workdir={other}" in found.text


def test_a_config_file_tells_what_was_changed(run, tmp_path):
  base = json.loads((run / "config.json").read_text())["config"]
  base["train"] = {"num_steps": 7, "max_seconds": 0.0}
  found = write([run], tmp_path / "out.html", base=("c.py", base))
  assert "What differs from c.py" in found.text
  assert "train.num_steps 7 100" in found.text
  assert "set on the command line value train.num_steps 100" in found.text


def test_a_run_without_anything_says_so(tmp_path):
  folder = write_run(tmp_path / "run", steps=())
  found = write([folder], tmp_path / "out.html")
  for words in ("Nothing is logged yet", "No checkpoint is stored", "no samples of",
                "Not shown: ", "No results of", "No videos of"):  # fmt: skip
    assert words in found.text
  assert not found.of("img") and not found.of("input")


def test_damage_is_skipped_and_said(run, tmp_path):
  with (run / "metrics.jsonl").open("ab") as file:
    file.write(b'\xff\xfe\n[1, 2]\n{"loss": 3}\n{"step": 40, "loss": null}\n{"step": 4')
  for name in ("step_0000040.gif", "step_0000050.png"):
    (run / "samples" / name).write_bytes(b"")
  whole = (run / "samples" / "step_0000010.gif").read_bytes()
  (run / "samples" / "step_0000060.gif").write_bytes(whole[: len(whole) // 2])
  (run / "bad_eval").mkdir()
  (run / "bad_eval" / "results.json").write_text("{")
  found = write([run], tmp_path / "out.html")
  assert "metrics.jsonl: 4 lines could not be read and were skipped: 4, 5, 6, 8" in (
    found.text
  )
  assert "step_0000040.gif: empty" in found.text
  assert "step_0000060.gif: no whole picture" in found.text
  assert "results.json: damaged, left out" in found.text
  assert "40 of 100 planned" in found.text
  assert json.loads(found.of("input")[0]["data-steps"]) == [10, 20, 30]


def test_no_run_or_no_config_is_refused(tmp_path):
  with pytest.raises(UserError, match="no run here"):
    contents.read(str(tmp_path / "nowhere"))
  (tmp_path / "config.json").write_text("[]")
  with pytest.raises(UserError, match="config.json: expected a JSON object"):
    contents.read(str(tmp_path))
  folder = write_run(tmp_path / "run")
  with pytest.raises(UserError, match="nowhere: expected a folder .*found none"):
    contents.read(str(folder), [str(tmp_path / "nowhere")])


def test_many_samples_are_thinned_out_and_that_is_said(tmp_path):
  folder = write_run(tmp_path / "run", steps=range(1, 101))
  found = write([folder], tmp_path / "out.html")
  steps = json.loads(found.of("input")[0]["data-steps"])
  assert len(steps) == pictures.MOST_STEPS and (steps[0], steps[-1]) == (1, 100)
  assert {*np.diff(steps)} <= {3, 4}
  assert "samples of 30 steps of 100 are shown, 70 are left out" in found.text


def test_the_page_stays_small(tmp_path):
  folder = write_run(tmp_path / "run", steps=())
  for step in range(1, 21):
    write_sample(folder / "samples", step, size=100)  # Noise: some 50 kB each.
  found = write([folder], tmp_path / "out.html", megabytes=0.5)
  steps = json.loads(found.of("input")[0]["data-steps"])
  assert 2 <= len(steps) < 10 and (steps[0], steps[-1]) == (1, 20)
  assert (tmp_path / "out.html").stat().st_size < 0.6e6


def test_results_and_films_in_the_run_are_shown(run, tmp_path):
  made, results = run / "films_1", run / "eval_forecast"
  (made / "films").mkdir(parents=True)
  write_sample(made, 1)
  (made / "films" / "0000.gif").write_bytes((made / "step_0000001.gif").read_bytes())
  (made / "films" / "0000.mp4").write_bytes(b"a film")
  record = {"checkpoint_step": 30, "seed": 3, "settings": {"sampler": "ddim"}}
  (made / "record.json").write_text(json.dumps(record))
  results.mkdir()
  (results / "table.txt").write_text(
    "2 members\n\nmean         samples  copied\n" + "-" * 30 + "\n"
    "CRPS, fair  0.1 ± 0.01     0.2\nPSNR                12      13\n"
  )
  (results / "results.json").write_text(
    json.dumps({"protocol": "forecast", "settings": {"members": 2}})
  )
  found = write([run], tmp_path / "out.html")
  (video,) = found.of("video")
  assert video["src"] == "data:video/mp4;base64,YSBmaWxt" and "controls" in video
  assert video["aria-label"] == "Sample 0000 of films_1"
  assert "Checkpoint of step 30, seed 3, sampler ddim." in found.text
  assert "forecast: eval_forecast" in found.text
  assert "mean samples copied CRPS, fair 0.1 ± 0.01 0.2 PSNR 12 13" in found.text
  assert "members 2" in found.text


def test_flat_names_every_field():
  config = {"a": {"b": [1], "c": {}}, "d": "x"}
  assert listings.flat(config) == {"a.b": "[1]", "a.c": "{}", "d": '"x"'}


def test_series_leaves_out_what_is_no_number():
  values = [(2, 1.0), (1, float("nan")), (3, "a"), (4, None), (2, 5), (1, 3)]
  lines = [{"step": step, "x": value} for step, value in values]
  assert plots.series(lines, "x").tolist() == [[1, 3], [2, 5]]


def test_thinned_keeps_spikes():
  points = np.stack([np.arange(10_000.0), np.zeros(10_000)], -1)
  points[1234, 1], points[7777, 1] = 5, -5
  kept = svg.thinned(points)
  assert len(kept) <= 400 and (np.diff(kept[:, 0]) > 0).all()
  assert kept[:, 1].max() == 5 and kept[:, 1].min() == -5
  assert kept[0, 0] == 0 and kept[-1, 0] == 9999


@pytest.mark.parametrize(
  "values, labels, log",
  [
    ([1.0, 10.0, 1000.0], {"1", "10", "100", "1,000"}, True),
    ([0.2, 0.3], {"0.2", "0.22", "0.24", "0.26", "0.28", "0.3"}, False),
    ([-1.0, 1.0], {"-1", "-0.5", "0", "0.5", "1"}, False),
    ([2.0, 2.0], {"1", "1.5", "2", "2.5", "3"}, False),
  ],
)
def test_axes_have_round_labels(values, labels, log):
  points = np.stack([np.arange(1.0, len(values) + 1), values], -1)
  drawn = Page(svg.chart("c", "C", [svg.Line("x", points)]))
  assert ("logarithmic" in drawn.text) == log
  assert labels <= {word.strip() for word in drawn.words}


def test_a_run_that_its_clock_stops_says_so(run, tmp_path):
  meta = json.loads((run / "config.json").read_text())
  meta["config"]["train"]["max_seconds"] = 600.0
  (run / "config.json").write_text(json.dumps(meta))
  found = write([run], tmp_path / "out.html")
  assert "30; its clock stops it after 600 s" in found.text
  assert "planned" not in found.text
