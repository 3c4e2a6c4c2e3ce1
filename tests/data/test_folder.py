"""What builders share that read users' files: names, finding, reports."""

import dataclasses

import pytest

from vdm_jax.data import builders, folder
from vdm_jax.errors import UserError

NAMES = {
  "bair": ["aux1", "main", "2heldoutfiles_main", "4chunk_aux1"],
  "cityscapes": ["128px", "256px", "128px_4chunk"],
  "fluid": ["128px", "64px_4000train_500trainrun_100testrun_all"],
  "kinetics600": ["64px", "128px_12.5fps_300maxframes"],
  "kth": ["64px", "128px_mcvd_crop"],
  "ucf101": ["64px_1fold", "64px_0fold_8fps"],
}


class TestNames:
  @pytest.mark.parametrize(
    ("dataset", "name"), [(key, name) for key in NAMES for name in NAMES[key]]
  )
  def test_a_name_says_all_options(self, dataset, name):
    cls, config = builders.parse(f"{dataset}/{name}")
    assert (cls.name, config.name) == (dataset, name)
    # And the options say the name.
    assert builders.parse(dataset, **config.options())[1].name == name

  @pytest.mark.parametrize("dataset", NAMES)
  def test_defaults(self, dataset):
    _, config = builders.parse(dataset)
    assert config.name == NAMES[dataset][0]
    for field in dataclasses.fields(config):
      if field.name in config.options():
        assert getattr(config, field.name) == field.default

  def test_options_win_over_the_name(self):
    _, config = builders.parse("kth/64px_mcvd", image_size=32)
    assert config.name == "32px_mcvd"

  @pytest.mark.parametrize("name", ["64", "64pixels", "px", "64.5px", "mine", "-1px"])
  def test_unknown_parts(self, name):
    with pytest.raises(UserError, match=r"expected parts such as <number>px.*found"):
      builders.parse(f"kth/{name}")

  @pytest.mark.parametrize(
    ("options", "message"),
    [
      ({"image_size": 0}, "Cityscapes image_size: expected a number >= 1, found 0"),
      ({"chunk": 0}, "Cityscapes chunk: expected a number >= 1, found 0"),
    ],
  )
  def test_bad_numbers(self, options, message):
    with pytest.raises(UserError, match=message):
      builders.parse("cityscapes", **options)

  @pytest.mark.parametrize("rate", [-1.0, float("inf"), float("nan")])
  def test_bad_rates(self, rate):
    with pytest.raises(
      UserError, match=r"fps: expected a number >= 0, found (-1|inf|n)"
    ):
      builders.parse("ucf101", fps=rate)


def test_find_goes_down_and_leaves_out_hidden_files(tmp_path):
  for name in ("b.avi", "deep/er/A.AVI", "c.txt", ".hidden.avi", ".git/d.avi"):
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).write_bytes(b"")
  found = [path.name for path in folder.find(folder.epath.Path(tmp_path), [".avi"])]
  assert found == ["b.avi", "A.AVI"]
