#!/usr/bin/env bash
# Trains, samples or evaluates with N processes on this host's CPU, joined by
# jax.distributed: what several hosts do, without several hosts. For trying out and
# for debugging.
#
#   launch/multiprocess_local.sh N train|sample|eval [flags of vdm-jax COMMAND]
#
# Process I writes its output to LOGS/process_I.log; process 0 is shown too. If one
# process fails, the others end by themselves; those that do not within a minute are
# killed. SIGTERM and Ctrl-C are passed on as SIGTERM: training saves before it ends,
# sampling and evaluation keep what is finished. The script ends when all processes
# have. Environment: VENV (.venv of the checkout), PORT (a free one), DEVICES (1) CPU
# devices a process, LOGS (a new temporary folder).
set -euo pipefail

if (($# < 2)) || [[ "$2" != train && "$2" != sample && "$2" != eval ]]; then
  sed -n '2,13s/^# \{0,1\}//p' "$0" >&2
  exit 2
fi
count=$1 name=$2
shift 2
root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
venv="${VENV:-$root/.venv}"
logs="${LOGS:-$(mktemp -d)}"
mkdir -p "$logs"
port="${PORT:-$("$venv/bin/python" -c '
import socket
with socket.socket() as s:
  s.bind(("localhost", 0))
  print(s.getsockname()[1])')}"

export JAX_PLATFORMS=cpu
pids=() stopped=
# shellcheck disable=SC2317,SC2329 # Called by the trap.
stop() {
  stopped=1
  kill "${pids[@]}" 2>/dev/null || true
}
trap stop INT TERM

for ((i = 0; i < count; i++)); do
  command=("$venv/bin/vdm-jax" "$name" --cpu_devices="${DEVICES:-1}"
    --distributed --coordinator="localhost:$port" --num_processes="$count"
    --process_id="$i" "$@")
  if ((i == 0)); then
    "${command[@]}" > >(tee "$logs/process_0.log") 2>&1 &
  else
    "${command[@]}" >"$logs/process_$i.log" 2>&1 &
  fi
  pids+=($!)
done
[[ -z "$stopped" ]] || stop # Those that were started after the signal.
echo "multiprocess_local.sh: $count processes at localhost:$port, logs in $logs" >&2

running=("${pids[@]}") failed=0 patience=
while ((${#running[@]})); do
  status=0 ended=
  wait -n -p ended "${running[@]}" || status=$?
  if [[ -z "${ended:-}" ]]; then      # Bash unsets it.
    ((status == 127)) || continue # A signal came, none has ended.
    # Those left ended while a signal was passed on: `wait -n` knows them no longer.
    ended=${running[0]} status=0
    wait "$ended" || status=$?
  fi
  left=()
  for pid in "${running[@]}"; do
    [[ "$pid" == "$ended" ]] || left+=("$pid")
  done
  running=("${left[@]}")
  if ((status != 0 && failed == 0)); then
    failed=$status
    echo "multiprocess_local.sh: a process failed ($status); see $logs" >&2
    if ((${#running[@]})); then
      (
        sleep 60
        kill -KILL "${running[@]}" 2>/dev/null
      ) >/dev/null 2>&1 &
      patience=$!
    fi
  fi
done
[[ -z "$patience" ]] || kill "$patience" 2>/dev/null || true
exit "$failed"
