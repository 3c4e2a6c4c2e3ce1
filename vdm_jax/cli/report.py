"""`vdm-jax report RUN [RUN2]`: write a page about a run, or about two side by side.

vdm-jax report runs/mine
vdm-jax report runs/mine --config=video_folder:name=mine
vdm-jax report runs/mine runs/other --with=runs/fvd_mine --out=compared.html

The page is one self-contained HTML file: curves, samples over time, videos, results of
`vdm-jax eval`, the data, the config and its changes, and commands to resume and sample.
Results and videos are found in folders of the run; --with names others.
"""

from absl import flags

from vdm_jax.cli import common
from vdm_jax.errors import UserError

_OUT = flags.DEFINE_string("out", None, "Path of the page; default RUN/report.html.")
_WITH = flags.DEFINE_multi_string(
  "with", [], "Folder of `vdm-jax eval` or `vdm-jax sample` to show too, with the "
  "first run; may be repeated.",
)  # fmt: skip
_MEGABYTES = flags.DEFINE_float(
  "max_megabytes",
  20.0,
  "Megabytes of pictures and videos; more is left out.",
  lower_bound=0.1,
)
_CONFIG = common.define_config()


def main(argv: list[str]) -> None:
  """Writes the page and prints its path."""
  if len(argv) not in (2, 3):
    raise UserError("report: expected one workdir or two, as vdm-jax report runs/mine")

  import jax
  from etils import epath

  from vdm_jax.report import contents, page

  common.start_jax(devices=False)
  jax.config.update("jax_platforms", "cpu")  # The run itself may hold other devices.
  first, *second = argv[1:]
  runs = [contents.read(first, _WITH.value), *map(contents.read, second)]
  base = None
  if _CONFIG.value is not None:
    file = str(flags.FLAGS["config"].config_filename)
    base = (file, common.config_dict(_CONFIG))
  out = epath.Path(_OUT.value or epath.Path(first) / "report.html")
  if out.is_dir():
    raise UserError(
      f"--out={out}: expected a file, such as report.html; it is a folder"
    )
  try:
    page.write(out, runs, base=base, megabytes=_MEGABYTES.value)
  except OSError as error:
    raise UserError(
      f"{out}: cannot be written ({error.strerror}); --out=FILE names another"
    ) from error
  print(f"wrote {out} ({out.stat().length / 1e6:.1f} MB)")
