"""The page of a run in a browser, opened from disk.

Skipped without Chromium: `chromium-headless-shell` and the like on the PATH, or the
path of one in VDM_JAX_CHROMIUM.
"""

import html
import json
import os
import re
import shutil
import subprocess

import numpy as np
import PIL.Image
import pytest

from tests.report import test_page
from vdm_jax.data import video
from vdm_jax.report import contents, page

NAMES = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
CHROMIUM = os.environ.get("VDM_JAX_CHROMIUM") or next(
  filter(None, map(shutil.which, NAMES)), None
)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here")

# Before the page's own script: what goes wrong.
WATCH = """<script>
const errors = [];
addEventListener('error', (event) => errors.push(event.message));
addEventListener('securitypolicyviolation', () => errors.push('policy'));
console.error = (...words) => errors.push(words.join(' '));
</script>"""
# After it: what a user does, and what then is to be seen.
USE = """<pre id="found"></pre><script>
const shown = () => [...document.querySelectorAll('.panel')].map((panel) =>
  [...panel.querySelectorAll('figure')].filter((f) => f.offsetParent).map(
    (f) => Number(f.dataset.step)));
const found = { start: shown() };
const slider = document.getElementById('step');
found.words = slider.getAttribute('aria-valuetext');
slider.value = 1;
slider.dispatchEvent(new Event('input'));
found.moved = shown();
found.moved_words = slider.getAttribute('aria-valuetext');
const kinds = () => [...document.querySelectorAll('.samples img')].filter(
  (image) => image.offsetParent).map((image) => image.className);
found.films = kinds();
const button = document.querySelector('.samples button');
button.click();
found.stills = kinds();
found.pressed = button.getAttribute('aria-pressed');
const plot = document.querySelector('#chart-loss .plot');
plot.focus();
found.focused = document.activeElement === plot;
for (const key of ['Home', 'ArrowRight']) {
  plot.dispatchEvent(new KeyboardEvent('keydown', { key }));
}
found.read = plot.getAttribute('aria-valuetext');
found.pictures = [...document.images].every((i) => i.complete && i.naturalWidth);
found.wide = document.documentElement.scrollWidth > innerWidth;
found.paper = getComputedStyle(document.body).backgroundColor;
const film = document.querySelector('video');
async function play() {
  if (film) {
    document.querySelector('.filmset button').click();
    await new Promise((done) => film.addEventListener('timeupdate', () =>
      film.currentTime > 0 && done()));
    found.played = !film.paused;
  }
}
play().finally(() => {
  found.errors = errors;
  document.getElementById('found').textContent = JSON.stringify(found);
});
</script>"""


def browse(path, folder, *options, size="1200,900"):
  """What Chromium says of a page, and its DOM after the page's scripts."""
  command = [
    CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", f"--window-size={size}",
    "--autoplay-policy=no-user-gesture-required", f"--user-data-dir={folder}",
    *options, path.as_uri(),
  ]  # fmt: skip
  return subprocess.run(command, capture_output=True, text=True, timeout=60).stdout


def use(runs, tmp_path, **options):
  """Opens the page of runs, uses it, and returns what was found."""
  path = tmp_path / "page.html"
  page.write(path, [contents.read(str(run)) for run in runs])
  text = path.read_text().replace("<style>", f"{WATCH}<style>", 1)
  path.write_text(text.replace("\n</html>", f"{USE}\n</html>"))
  dark = "--blink-settings=preferredColorScheme=" + "10"[options.pop("dark", False)]
  # In virtual time, seconds of video take as long as they are computed.
  dom = browse(
    path, tmp_path / "profile", dark, "--virtual-time-budget=4000", "--dump-dom",
    **options,
  )  # fmt: skip
  return json.loads(html.unescape(re.search(r'<pre id="found">(.*?)</pre>', dom)[1]))


@pytest.fixture
def runs(tmp_path):
  first = test_page.write_run(tmp_path / "first")
  second = test_page.write_run(tmp_path / "second", steps=(5, 20))
  return first, second


def test_slider_switch_and_read_out_work(runs, tmp_path):
  found = use(runs, tmp_path)
  assert found["errors"] == []
  assert found["start"] == [[30], [20]] and found["words"] == "step 30"
  assert found["moved"] == [[10], [5]] and found["moved_words"] == "step 10"
  assert found["films"] == ["film", "film"]
  assert found["stills"] == ["frames", "frames"] and found["pressed"] == "true"
  assert found["focused"] and found["pictures"]
  assert found["read"].startswith("step 10 · A: training: 0.1 · ")
  assert not found["wide"]


@pytest.mark.parametrize(
  "dark, paper", [(False, "255, 255, 255"), (True, "22, 24, 28")]
)
def test_both_colour_schemes_on_a_narrow_screen(dark, paper, runs, tmp_path):
  found = use(runs[:1], tmp_path, dark=dark, size="500,900")
  assert found["paper"] == f"rgb({paper})" and found["errors"] == []
  assert not found["wide"]


def test_films_play(runs, tmp_path):
  pytest.importorskip("av", reason="the extra `video` is missing")
  folder = runs[0] / "films"
  (folder / "films").mkdir(parents=True)
  frames = np.random.default_rng(0).integers(0, 255, (16, 32, 32, 3), np.uint8)
  video.write_mp4(folder / "films" / "0000.mp4", frames, fps=8)
  (folder / "record.json").write_text("{}")
  found = use(runs[:1], tmp_path)
  assert found["played"] is True and found["errors"] == []


def test_without_script_everything_is_there(runs, tmp_path):
  path = tmp_path / "page.html"
  page.write(path, [contents.read(str(runs[0]))])
  # As where scripts are off.
  path.write_text(re.sub(r"<script>.*?</script>", "", path.read_text(), flags=re.S))
  shot = tmp_path / "shot.png"
  browse(path, tmp_path / "profile", f"--screenshot={shot}", size="800,3000")
  with PIL.Image.open(shot) as image:
    assert len(np.unique(np.asarray(image.convert("L")))) > 50
  text = path.read_text()
  assert text.count("<figure data-step=") == 3 and "hidden" not in re.sub(
    r"<style>.*?</style>|aria-hidden", "", text, flags=re.S
  )
