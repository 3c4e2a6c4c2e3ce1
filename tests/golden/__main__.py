"""`python -m tests.golden FILE...`: one JSON line per file, exit 1 if any is not ok.

Cases that are skipped for lack of weights are neither ok nor a failure.
"""

import sys

from tests.golden import runner


def main(paths: list[str]) -> int:
  if not paths:
    print("usage: python -m tests.golden FILE...", file=sys.stderr)
    return 2
  all_ok = True
  for path in paths:
    report = runner.run(path)
    print(runner.as_line(report), flush=True)
    all_ok &= report["ok"] or "skipped" in report
  return 0 if all_ok else 1


if __name__ == "__main__":
  sys.exit(main(sys.argv[1:]))
