#!/usr/bin/env bash
# Trains on this machine, with all of its accelerators.
#
#   launch/local.sh CONFIG WORKDIR [flags of vdm-jax train]
#
# Run it again to resume. Environment: VENV (.venv of the checkout), and
# RETRIES (0): how often a run that dies is started again where it stopped.
set -euo pipefail

if (($# < 2)); then
  sed -n '2,7s/^# \{0,1\}//p' "$0" >&2
  exit 2
fi
config=$1 workdir=$2
shift 2
root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
venv="${VENV:-$root/.venv}"

for ((left = ${RETRIES:-0}; ; left--)); do
  status=0
  "$venv/bin/vdm-jax" train --config="$config" --workdir="$workdir" "$@" || status=$?
  # 130 and 143: somebody stopped it.
  if ((status == 0 || status == 130 || status == 143 || left <= 0)); then
    exit "$status"
  fi
  echo "local.sh: exit status $status; resuming ($left more times)" >&2
  sleep 5
done
