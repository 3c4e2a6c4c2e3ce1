"""The report of preflight for the user."""

from collections.abc import Mapping
from typing import Any

from vdm_jax.preflight import knobs
from vdm_jax.preflight.chips import GIB


def render(found: Mapping[str, Any]) -> str:
  """Formats a short table.

  Args:
    found: result of `preflight`.
  """
  if found["fits"] is None and "error" in found:
    return f"unknown: {found['error']}"
  where = found["topology"] or "devices here"
  per = "training step" if found["what"] == "train" else "sampler step"
  mesh = " x ".join(f"{axis} {size}" for axis, size in found["mesh"].items())
  rows = [
    ("slice", f"{where}, {found['chips']} chips, {found['devices']} devices"),
    ("parameters", f"{found['parameters'] / 1e6:,.1f} M"),
    (
      "settings",
      f"batch {found['batch_size']}{_each(found['processes'])}, mesh {mesh}, "
      f"remat {found['remat']}, micro-batches {found['accumulate']}",
    ),
    ("fits", _fits(found)),
    ("memory a chip", memory(found["hbm"])),
  ]
  if found["hbm"].get("sampling"):
    beside = f"{found['hbm']['sampling'] / GIB:.2f} GiB of weights beside the state"
    rows.append(("sampling", f"between steps, {beside}"))
  if found["flops"] is not None:
    rows.append(
      (f"work a {per}", f"{found['flops'] / 1e12:,.3g} TFLOP a chip{_floor(found)}")
    )
  if found["bytes"] is not None:
    at_least = _milliseconds(found["floor_ms"]["memory"])
    traffic = f"{found['bytes'] / GIB:,.3g} GiB a chip"
    rows.append((f"traffic a {per}", traffic + at_least))
    rows.append(("collectives", collectives(found["collectives"])))
  if found["seconds"]["compile"] is not None:
    took = f"{found['seconds']['compile']:.0f} s here, effort {found['effort']}"
    rows.append(("compile time", took))
  if found.get("estimate"):
    rows += _estimate(found["estimate"], found["effort"], per)
  rows += [("note", remark) for remark in found.get("remarks", ())]
  for tried in found["tried"]:
    rows.append(("tried", f"{knobs.flags(tried['settings'])}: {_tried(tried)}"))
  if found["fits"] is False:
    rows.append(("what would help", _help(found)))
  width = max(len(name) for name, _ in rows) + 2
  return "\n".join(f"{name:{width}}{text}" for name, text in rows)


def _each(processes: int) -> str:
  return f" of each of {processes} hosts" if processes > 1 else ""


def memory(hbm: Mapping[str, Any]) -> str:
  """Formats the parts of memory use."""
  names = ("arguments", "temporaries", "code", "total")
  parts = [
    f"{name} {hbm[name] / GIB:.2f}" for name in names if hbm.get(name) is not None
  ]
  return f"{', '.join(parts)} of {hbm['capacity'] / GIB:.2f} GiB"


def collectives(found: Mapping[str, Mapping[str, float]]) -> str:
  """Formats the number and bytes of each kind of collectives."""
  if not found:
    return "none"
  return ", ".join(
    f"{kind} {total['count']:,.4g} ({total['bytes'] / GIB:,.3g} GiB)"
    for kind, total in sorted(found.items())
  )


def _fits(found) -> str:
  if found["fits"]:
    return "yes, by that lower bound" if found.get("remarks") else "yes"
  return f"NO: {found.get('reason', 'more than the chip has')}"


def _estimate(estimate, effort, per) -> list[tuple[str, str]]:
  """Formats the compiler's estimate: total, kinds of operations, costliest ones."""
  text = (
    f"{estimate['ms']:,.1f} ms, {estimate['share_of_peak']:.0%} of the chip's peak: "
    f"the compiler's, for ranking, of a program compiled with effort {effort}, at "
    f"{estimate['clock'] / 1e9:g} GHz (assumed)"
  )
  if estimate["without"]:
    without = (f"{kind} {n:,.4g}" for kind, n in estimate["without"].items())
    text += f"; without {', '.join(without)}"
  rows = [(f"estimate a {per}", text)]
  rows += [
    (f"  {kind}", f"{one['ms']:,.1f} ms in {one['count']:,.4g}")
    for kind, one in estimate["kinds"].items()
  ]
  rows += [
    ("  costly", f"{one['ms']:,.1f} ms in {one['count']:,.4g}: {one['source']}")
    for one in estimate["costly"]
  ]
  return rows


def _floor(found) -> str:
  return _milliseconds(found["floor_ms"]["compute"])


def _milliseconds(floor) -> str:
  return f": at least {floor:,.1f} ms" if floor is not None else ""


def _tried(tried) -> str:
  if tried["fits"] is None:
    return "unknown, the compiler failed"
  return f"{'fits' if tried['fits'] else 'does not fit'}: {memory(tried['hbm'])}"


def _help(found) -> str:
  if found["settings"]:
    return knobs.flags(found["settings"])
  if found["tried"]:
    return "none of these; a smaller model or frame, or more chips"
  if found["could_help"]:
    return f"not tried: {knobs.flags(found['could_help'][-1])}"
  return "a smaller model or frame, or more chips"
