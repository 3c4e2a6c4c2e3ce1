"""Measures one row of `benchmarks/accelerator.py`, in a separate process.

    python -m benchmarks.accelerator_row SPECIFICATION

The process is separate so that running out of memory, or a crash, affects nothing else.
The specification is JSON, see `main`; results go to stdout part by part, one line
`@ {...}` each, so that a row stopped in the middle keeps its first results.
"""

import concurrent.futures
import copy
import json
import pathlib
import re
import sys
import tempfile
import time
import traceback

import jax

from benchmarks import programs, trace
from vdm_jax.preflight import measure, rates

MARK = "@ "
GROUPS = 3  # Of calls, each timed as a whole.
TRACED_STEPS = 2


def main(argv) -> None:
  """Measures what `argv[0]` says.

  `{"what": "rates"}`: the devices, and what they can do. `{"what": "ours"}`: the parts
  of a config; further `config`, with the batch of one device; `parts`, the first of
  which is measured whatever the time; `until`, when (`time.time`) no other is begun any
  more; `one`, to use one device of several; `seconds`, of each measurement; `profile`,
  a folder or None.
  """
  spec = json.loads(argv[0])
  # What comes from a cache says nothing about compile times.
  jax.config.update("jax_enable_compilation_cache", False)
  devices = jax.devices()
  found = {
    "platform": devices[0].platform,
    "kind": devices[0].device_kind,
    "count": len(devices),
    "memory": measure.capacity(devices),
  }
  emit(devices=found)
  if spec["what"] == "rates":
    emit(rates=rates.rates())
    return
  try:
    ours(spec, devices[:1] if spec["one"] else devices)
  except Exception as error:  # Whatever it is, it is told; the other rows run.
    traceback.print_exc()
    kind = "out_of_memory" if out_of_memory(str(error)) else "error"
    emit(**{kind: first_line(error)})


def emit(**found) -> None:
  print(MARK + json.dumps(found), flush=True)


def out_of_memory(text: str) -> bool:
  """Returns whether an error's text, of JAX or PyTorch, says out of memory."""
  return "RESOURCE_EXHAUSTED" in text or "out of memory" in text.lower()


def first_line(error: Exception) -> str:
  """Returns an error in one line of at most 300 characters."""
  text = " ".join(str(error).split())
  return f"{type(error).__name__}: {text}"[:300]


def ours(spec, devices) -> None:
  """Measures the parts of a config and emits each as it is done."""
  config = copy.deepcopy(spec["config"])
  config["train"]["batch_size"] *= len(devices)
  program = programs.Ours(config, devices)
  emit(parameters=program.parameters, batch=config["train"]["batch_size"])
  first, *others = spec["parts"]
  pool = concurrent.futures.ThreadPoolExecutor()
  work = pool.submit(_work, config, devices, spec["parts"])
  # The first part compiles alone but for what makes the state: nothing of that is
  # tuned on the device, which would disturb the other's tuning.
  lowered = {part: _timed(program.lower, part) for part in ("init", first)}
  compiled = _compile(pool, lowered)
  program.use("init", compiled["init"][0])
  flop = work.result()
  program.start()
  _part(program, first, lowered, compiled, flop, spec["seconds"])
  emit(memory_peak=(devices[0].memory_stats() or {}).get("peak_bytes_in_use"))
  if spec["profile"]:
    emit(profile=_profile(program, first, compiled[first][0], spec["profile"]))
  if time.time() > spec["until"]:
    emit(left_out=others)
    return
  # The others together: most of their products were tuned with the first.
  lowered = {part: _timed(program.lower, part) for part in others}
  compiled = _compile(pool, lowered)
  for part in others:
    if time.time() > spec["until"]:
      emit(left_out=[part])
      continue
    try:
      _part(program, part, lowered, compiled, flop, spec["seconds"])
    except Exception as error:  # The parts before it stand.
      emit(part=part, error=first_line(error))


def _work(config, devices, parts):
  """Counts operations of the model, whatever a program recomputes.

  A share of the chip's rate wants those that training needs: `remat`, and attention
  in chunks, make some of them twice.
  """
  config = copy.deepcopy(config)
  for field, value in (("remat", "none"), ("attention", "xla")):
    if field in config["model"]:
      config["model"][field] = value
  model = programs.Ours(config, devices)
  return {part: model.flop(part) for part in parts}


def _timed(call, *args):
  start = time.perf_counter()
  found = call(*args)
  return found, time.perf_counter() - start


def _compile(pool, lowered):
  """Compiles programs beside each other: (compiled, seconds) by name."""
  started = {
    name: pool.submit(_timed, one.compile) for name, (one, _) in lowered.items()
  }
  return {name: future.result() for name, future in started.items()}


def _part(program, part, lowered, compiled, flop, seconds) -> None:
  """Times a part and emits what is known of it."""
  executable, compile_seconds = compiled[part]
  program.use(part, executable)
  repeats = program.repeats[part]
  times = in_groups(
    lambda: program.begin(part), jax.block_until_ready, seconds, repeats
  )
  emit(
    part=part,
    flop=flop[part],
    **times,
    lower_seconds=lowered[part][1],
    compile_seconds=compile_seconds,
    memory=_memory(executable),
  )


def in_groups(begin, wait, seconds: float, repeats: int = 1) -> dict:
  """Times calls a group at a time, waiting once, as training does.

  Args:
    begin: starts a call; what it returns can be waited for.
    wait: for what a call returned.
    seconds: of all groups, about.
    repeats: of what is reported, in a call.

  Returns:
    seconds, processor_seconds: of one repeat, by group; calls: in a group.
  """
  wait(begin())
  start = time.perf_counter()
  wait(begin())
  one = time.perf_counter() - start
  calls = max(1, round(seconds / GROUPS / max(one, 1e-6)))
  found = {"seconds": [], "processor_seconds": [], "calls": calls}
  for _ in range(GROUPS):

    def group():
      for _ in range(calls):
        done = begin()
      wait(done)

    wall, processor = programs.measure(group)
    found["seconds"].append(wall / calls / repeats)
    found["processor_seconds"].append(processor / calls / repeats)
  return found


def _memory(executable) -> dict | None:
  """Returns a compiled program's bytes per device, as its compiler reports them."""
  found = executable.memory_analysis()
  if found is None:
    return None
  return {
    "arguments": found.argument_size_in_bytes,
    "outputs": found.output_size_in_bytes - found.alias_size_in_bytes,
    "temporaries": found.temp_size_in_bytes,
  }


def _profile(program, part, executable, folder: str) -> dict:
  """Profiles two calls of a part; a failure is recorded and not raised."""
  try:
    pathlib.Path(folder).mkdir(parents=True, exist_ok=True)
    # One of its own: the newest trace in a folder used before might be another's.
    folder = tempfile.mkdtemp(prefix=f"{part}-", dir=folder)
    with jax.profiler.trace(folder):
      start = time.perf_counter()
      for _ in range(TRACED_STEPS):
        done = program.begin(part)
      jax.block_until_ready(done)
      wall = time.perf_counter() - start
    where = _origins(executable.as_text())
    return {"part": part, **trace.summary(folder, TRACED_STEPS, wall, where)}
  except Exception as error:  # Profilers fail in many ways; the timings stand.
    return {"part": part, "error": first_line(error)}


_ORIGIN = re.compile(r'^\s*(?:ROOT )?%?([\w.-]+) = .*op_name="([^"]+)"', re.M)


def _origins(text: str) -> dict[str, str]:
  """Maps instructions of a compiled module to the operations of the model."""
  return dict(_ORIGIN.findall(text))


if __name__ == "__main__":
  main(sys.argv[1:])
