"""The table that protocol `fvd` prints."""

from typing import Any

from vdm_jax import text_table

_TITLES = {
  "fvd": "FVD",
  "fvd_trajectories": "FVD, mean of one sample a video",
  "fvd_infinity": "FVD, at infinitely many videos",
  "kvd": "KVD",
  "jedi_mmd": "100 MMD^2, quadratic kernel",
  "inception_score": "Inception score of a",
}


def table(result: dict[str, Any]) -> str:
  """Formats the numbers as text; every line names their preset."""
  preset, departs = result["preset"], result["departs"]
  network = result["extractor"]
  own = "layer" not in network
  name = "features of the user's own" if own else preset["name"]
  name += " (departs)" * bool(departs)
  if network.get("network") == "c3d":
    titles = {**_TITLES, "fvd": "Frechet distance, C3D"}
  else:
    titles = _TITLES
  rows = [["", "value", "protocol", "n"]]
  for key, title in titles.items():
    if key in result:
      value = result[key]["value"]
      if key.startswith("fvd"):
        value = max(value, 0.0)  # For equal sets rounding can make it negative.
      value = text_table.cell(value, result[key]["error"])
      rows.append([title, value, name, f"{result['n_a']} / {result['n_b']}"])
  measured = ", ".join(part["name"] for part in result["a"])
  lines = [f"{measured} against {result['b']['name']}", text_table.table(rows)]
  if not own or departs:
    lines += [f"{preset['name']}: {preset['text']}" + (
      f". Published: {preset['published']}" if preset["published"] else ""
    )]  # fmt: skip
  lines += [f"departs: {text}" for text in departs]
  lines += [f"note: {text}" for text in result["notes"]]
  lines += [f"warning: {text}" for text in result["warnings"]]
  return "\n".join(lines)
