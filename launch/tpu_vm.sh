#!/usr/bin/env bash
# Trains on a Cloud TPU slice: one host or a whole pod, the same command.
#
#   launch/tpu_vm.sh up                                make the slice (waits in the queue)
#   launch/tpu_vm.sh setup                             copy this checkout, install
#   launch/tpu_vm.sh data NAME [flags]                 vdm-jax data build, on every worker
#   launch/tpu_vm.sh train CONFIG WORKDIR [flags]      start on all workers
#   launch/tpu_vm.sh logs                              follow worker 0
#   launch/tpu_vm.sh stop                              stop training, writing a checkpoint
#   launch/tpu_vm.sh down                              delete the slice
#   launch/tpu_vm.sh all CONFIG WORKDIR [flags]        up, setup, train, wait; again
#                                                      from `up` if the slice is taken away
#                                                      or a worker is lost
#
# Environment (those without a default must be set):
#   TPU_NAME, ZONE         of the slice
#   ACCELERATOR (v4-256)   accelerator type: v4-256 is 128 chips, v5litepod-16 is 16
#   VERSION                runtime version (the default follows ACCELERATOR)
#   PROJECT                gcloud's default
#   SPOT (0)               1: cheaper, and may be taken away; `all` then resumes
#   PYTHON (python3)       of the workers; 3.11 or newer
#
# WORKDIR must be a path that all workers see: gs://BUCKET/RUN. A run resumes from
# its newest checkpoint whenever it is started again with the same WORKDIR.
set -euo pipefail

usage() {
  sed -n '2,25s/^# \{0,1\}//p' "$0" >&2
  exit 2
}

(($# >= 1)) || usage
: "${TPU_NAME:?set TPU_NAME, the name of the slice}"
: "${ZONE:?set ZONE, such as us-central2-b}"
accelerator="${ACCELERATOR:-v4-256}"
case "$accelerator" in
  v4-*) runtime=tpu-ubuntu2204-base ;;
  v5litepod-*) runtime=v2-alpha-tpuv5-lite ;;
  v5p-*) runtime=v2-alpha-tpuv5 ;;
  v6e-*) runtime=v2-alpha-tpuv6e ;;
  *) runtime=tpu-ubuntu2204-base ;;
esac
runtime="${VERSION:-$runtime}"
python="${PYTHON:-python3}"
where=(--zone="$ZONE")
[[ -z "${PROJECT:-}" ]] || where+=(--project="$PROJECT")
boot=/proc/sys/kernel/random/boot_id # On a worker: another one after every start of it.
root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"

tpu() {
  gcloud compute tpus tpu-vm "$@" "${where[@]}"
}

queued() {
  gcloud compute tpus queued-resources "$@" "${where[@]}"
}

# on WORKER COMMAND: runs a shell command on a worker ('all' for every one).
on() {
  tpu ssh "$TPU_NAME" --worker="$1" --command="$2"
}

state() {
  tpu describe "$TPU_NAME" --format='value(state)' 2>/dev/null || echo NONE
}

# The state of the request in the queue.
request() {
  queued describe "$TPU_NAME" --format='value(state.state)' 2>/dev/null || echo NONE
}

up() {
  local flags=(--node-id="$TPU_NAME" --accelerator-type="$accelerator"
    --runtime-version="$runtime")
  [[ "${SPOT:-0}" != 1 ]] || flags+=(--spot)
  # What is left of an earlier slice is replaced; what was waited for is not asked for
  # again if it fails, or if somebody deletes it.
  local slice request waited=0
  while slice="$(state)" && [[ "$slice" != READY ]]; do
    request="$(request)"
    case "$slice $request" in
      *\ SUSPENDING | *\ DELETING | DELETING\ *) ;; # Too early to delete or to make it.
      NONE\ NONE | *\ FAILED)
        if ((waited)); then
          request="${request/NONE/gone}"
          echo "tpu_vm.sh: the request for $accelerator in $ZONE is $request" >&2
          return 1
        elif [[ "$request" == FAILED ]]; then
          down || return
          continue
        fi
        queued create "$TPU_NAME" "${flags[@]}" --async || return
        waited=1 request="asked for"
        ;;
      *\ SUSPENDED | PREEMPTED\ * | TERMINATED\ * | STOPPED\ * | HIDDEN\ * | UNKNOWN\ *)
        down || return # It cannot be revived.
        waited=0
        continue
        ;;
      *) waited=1 ;; # In the queue, or being made or repaired.
    esac
    echo "tpu_vm.sh: $TPU_NAME is ${slice/NONE/$request}; asking again in 30 s" >&2
    sleep 30
  done
}

down() {
  queued delete "$TPU_NAME" --force --quiet ||
    tpu delete "$TPU_NAME" --quiet
}

# Joined by &&, as `all` asks whether it succeeds: that switches `set -e` off.
setup() {
  local folder
  # What git would commit: no environment, no data, no runs.
  folder="$(mktemp -d)" &&
    (cd "$root" && git ls-files -z --cached --others --exclude-standard |
      tar --null --files-from=- -czf "$folder/vdm_jax.tgz") &&
    tpu scp "$folder/vdm_jax.tgz" "$TPU_NAME:vdm_jax.tgz" --worker=all &&
    rm -r "$folder" &&
    on all "set -e; mkdir -p ~/vdm_jax; tar -xzf ~/vdm_jax.tgz -C ~/vdm_jax;
      cd ~/vdm_jax; make --silent venv PYTHON='$python' EXTRAS=tpu,gcs,video"
}

data() {
  on all "cd ~/vdm_jax; .venv/bin/vdm-jax data build $(printf '%q ' "$@")"
}

train() {
  (($# >= 2)) || usage
  local config=$1 workdir=$2
  shift 2
  local command script
  command="$(printf '%q ' .venv/bin/vdm-jax train --config="$config" \
    --workdir="$workdir" --distributed "$@")"
  # What `stop` has asked for is no reason to start over.
  # `status` may look at any time: the file is there with its text in it, or not yet.
  script="(echo \$BASHPID >train.pid; exec $command) & wait \$!; ended=\$?
    ((ended != 75)) || [[ ! -e train.stop ]] || ended=0
    echo \$ended >train.ended && mv train.ended train.status"
  # The lock: two runs must not write one workdir.
  on all "cd ~/vdm_jax && rm -f train.status train.stop && cat $boot >train.boot &&
    (nohup flock -n train.lock bash -c $(printf '%q' "$script") \
      >>train.log 2>&1 </dev/null &)"
}

# 'running', or the exit status of worker 0, which is vdm_jax.watch.GONE (75) if it was
# booted meanwhile; fails if the slice is gone.
status() {
  on 0 "cd ~/vdm_jax; cat train.status 2>/dev/null ||
    { cat $boot | cmp -s train.boot - && echo running || echo 75; }" 2>/dev/null
}

logs() {
  on 0 'tail -n 50 -F ~/vdm_jax/train.log'
}

stop() {
  # shellcheck disable=SC2016 # The workers expand it.
  on all 'cd ~/vdm_jax && touch train.stop && kill -TERM "$(cat train.pid)"'
}

all() {
  (($# >= 2)) || usage
  local lost=0
  while true; do
    up || exit
    local answer=running misses=0 since=$SECONDS
    # 75 also after a signal, which is how a slice that is taken away begins to end.
    if setup && train "$@" --exit_on_signal=75; then
      while [[ "$answer" == running ]] && ((misses < 3)); do
        sleep 60
        if answer="$(status)"; then
          misses=0
        else
          answer=running misses=$((misses + 1))
        fi
      done
    else
      sleep 60 # A slice that is being taken away is READY a little longer.
      if [[ "$(state)" == READY ]]; then
        echo "tpu_vm.sh: training could not be started; $TPU_NAME is still there" >&2
        exit 1
      fi
    fi
    ((SECONDS - since < 3600)) || lost=0
    if [[ "$answer" == running ]]; then
      echo "tpu_vm.sh: $TPU_NAME does not answer ($(state)); starting over" >&2
    elif [[ "$answer" == 75 ]] && ((++lost < 5)); then
      echo "tpu_vm.sh: a worker was lost or asked to go; starting over in 60 s" >&2
      sleep 60 # The others need 40 s to notice, and hold the lock until then.
    else
      echo "tpu_vm.sh: training ended with exit status $answer" >&2
      exit "$answer"
    fi
  done
}

action=$1
shift
case "$action" in
  up | setup | data | train | logs | stop | down | all) "$action" "$@" ;;
  *) usage ;;
esac
