"""Measures the effect of the guidance weight on videos from captions.

    python -m benchmarks.caption_guidance --demo=runs/cascade_demo --weights 0 1 2 4 8

Run it after `make cascade-demo`. It samples and reads videos of both models for the
demo's captions, as the demo does; only the base model's guidance differs."""

import argparse
import pathlib

import numpy as np

from vdm_jax import run_data, sampling, text_table
from vdm_jax.demo import captioned, cascade, digits
from vdm_jax.pixels import to_uint8
from vdm_jax.sampling import cascade as chain

COLUMNS = {
  "digit": "digit asked for is read",
  "direction": "goes the way asked for",
}


def main() -> None:
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument("--demo", type=pathlib.Path, default="runs/cascade_demo")
  parser.add_argument("--weights", type=float, nargs="+", default=[0, 1, 2, 4, 8])
  parser.add_argument("--per_digit", type=int, default=2)
  parser.add_argument("--seed", type=int, default=1)
  args = parser.parse_args()
  base, upper = (sampling.load(str(args.demo / name)) for name in ("base", "upper"))
  dataset = upper.info["config"]["data"]["name"]
  reader, _ = digits.train(
    dataset, str(args.demo / "classifier"), num_steps=cascade.CLASSIFIER_STEPS
  )
  asked = captioned.combinations(args.per_digit)
  tokens = []
  for model in (base, upper):
    encoder = run_data.text_encoder(model.info)
    pairs = [encoder(one.caption) for one in asked]
    tokens.append(tuple(map(np.stack, zip(*pairs, strict=True))))
  head = [f"{title}, {kind}" for title in COLUMNS.values()
          for kind in (captioned.HELD_OUT, captioned.SEEN)]  # fmt: skip
  rows = [["w", *head]]
  options = dict(batch_size=20, seed=args.seed)
  for weight in args.weights:
    small = base.sample(len(asked), tokens=tokens[0], guidance=weight, **options)
    large = chain.enlarge(upper, base.system, small, 1, tokens=tokens[1], **options)
    found = cascade.measure(
      asked, to_uint8(small), to_uint8(large), reader, [base, upper]
    )
    rows.append(
      [
        f"{weight:g}",
        *(
          text_table.cell(of["value"], of["error"], percent=True)
          for key in COLUMNS
          for of in found[key].values()
        ),
      ]
    )
    print(text_table.table(rows), flush=True)


if __name__ == "__main__":
  main()
