"""Summarises what the devices spent their time on, by a trace of JAX's profiler."""

import collections
import gzip
import json
import pathlib
import re
from typing import Any

TOP = 15  # Kernels, and kinds of them, that a summary names.


def summary(
  folder: str | pathlib.Path,
  steps: int,
  wall: float,
  origins: dict[str, str] | None = None,
) -> dict[str, Any]:
  """Sums up the newest trace in a folder, over all devices.

  Args:
    folder: that `jax.profiler.trace` was given.
    steps: in the trace.
    wall: seconds that they took.
    origins: operation of the model by instruction of the compiled module.

  Returns:
    device_seconds: of kernels a step and device; kernels that run side by side both
      count.
    busy: share of `wall` in which they ran; their own waits inside a step are the rest.
    kernels: the most costly ones, {name, share, seconds a step, calls a step, origin}.
    kinds: the same by name without its number.
    Or `error` alone, for a trace without device events.
  """
  found = sorted(pathlib.Path(folder).glob("plugins/profile/*/*.trace.json.gz"))
  if not found:
    return {"error": f"no trace.json.gz in {pathlib.Path(folder).name}"}
  newest = max(found, key=lambda path: path.stat().st_mtime)
  with gzip.open(newest, "rt") as file:
    events = json.load(file)["traceEvents"]
  lanes, devices = _lanes(events)
  if not lanes:
    return {"error": "no device events"}
  kernels, kinds = collections.Counter(), collections.Counter()
  calls, of = collections.Counter(), {}
  for lane in lanes:
    for event, own in _own_times(lane):
      name = event["name"]
      kernels[name] += own
      kinds[re.sub(r"[._]\d+(?=$|[._])", "", name)] += own
      calls[name] += 1
      args = event.get("args", {})
      where = (origins or {}).get(args.get("hlo_op", name))
      of.setdefault(name, where or args.get("tf_op") or args.get("hlo_op") or "")
  total = sum(kernels.values())
  if not total:
    return {"error": "no device events"}
  share = 1e-6 / steps / devices  # Of microseconds, in seconds.
  return {
    "device_seconds": total * share,
    "busy": total * share * steps / wall,
    "kernels": [
      {
        "name": name,
        "share": time / total,
        "seconds": time * share,
        "calls": calls[name] / steps / devices,
        "origin": of[name],
      }
      for name, time in kernels.most_common(TOP)
    ],
    "kinds": [
      {"name": name, "share": time / total, "seconds": time * share}
      for name, time in kinds.most_common(TOP)
    ],
  }


def _lanes(events) -> tuple[list[list[dict]], int]:
  """Returns kernels in order by their line of a trace, and the number of devices.

  A GPU has a line for each stream; a TPU has one named 'XLA Ops', beside others that
  show the same time again as modules and steps. On CPU, operations are among a
  thread's events and say their instruction.
  """
  processes, threads = {}, {}
  for event in events:
    if event.get("ph") != "M":
      continue
    if event["name"] == "process_name":
      processes[event["pid"]] = event["args"]["name"]
    elif event["name"] == "thread_name":
      threads[event["pid"], event["tid"]] = event["args"]["name"]
  devices = {pid for pid, name in processes.items() if name.startswith("/device:")}
  names = {name for (pid, _), name in threads.items() if pid in devices}
  streams = any(name.startswith("Stream") for name in names)
  found = collections.defaultdict(list)
  for event in events:
    if event.get("ph") != "X":
      continue
    line = event["pid"], event["tid"]
    name = threads.get(line, "")
    if devices:
      wanted = name.startswith("Stream") if streams else name == "XLA Ops"
      wanted = wanted and event["pid"] in devices
    else:
      wanted = "hlo_op" in event.get("args", {})
    if wanted:
      found[line].append(event)
  used = {pid for pid, _ in found}
  return list(found.values()), max(1, len(used))


def _own_times(lane):
  """Returns the events of a line, each with its time less that of those inside it.

  A loop is an event that its body's lie in.
  """
  own, open_events = [], []
  for event in sorted(lane, key=lambda e: (e["ts"], -e.get("dur", 0))):
    length = event.get("dur", 0)
    while open_events and open_events[-1][0] <= event["ts"]:
      open_events.pop()
    if open_events:
      end, outer = open_events[-1]
      own[outer][1] -= min(length, end - event["ts"])
    open_events.append((event["ts"] + length, len(own)))
    own.append([event, length])
  return own
