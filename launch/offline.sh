#!/usr/bin/env bash
# For clusters without internet: what vdm_jax needs, carried there in a folder.
#
#   launch/offline.sh bundle FOLDER [DATA_SET ...]   here, with a package registry
#   FOLDER/offline.sh install TARGET                 there, with nothing else reachable
#
# `bundle` gathers this checkout (what git would commit), wheels of what it needs and
# built data sets, such as video_folder/mine, with checksums of all. `install` checks
# them and makes TARGET, a checkout with .venv as `make venv` would leave it, and the
# data sets in TARGET/data.
#
# Environment of `bundle` (the defaults fit what runs it):
#   PYTHON_VERSION       of the other side, such as 3.12
#   ARCH                 its processors: x86_64 or aarch64
#   GLIBC (2.31)         its C library or an older one; 2.28 for RHEL 8
#   EXTRAS (cuda12,video)
#   VDM_JAX_DATA         where the data sets are (~/vdm_jax_data)
#   PYTHON (python3)     3.11 or newer with venv, to work with; of any version
#   pip's own settings for where packages are from; UV_... for uv, which is told pip's
# Environment of `install`:
#   PYTHON               the version that was bundled for (pythonX.Y)
set -euo pipefail

# Prints where pip looks for packages, as uv's flags.
SETTINGS='
import ast, subprocess, sys
flags = {"index": "--default-index", "extra-index": "--index", "find-" "links": "-f"}
command = [sys.executable, "-m", "pip", "config", "list"]
for line in subprocess.check_output(command, text=True).splitlines():
  key, _, value = line.partition("=")
  flag = flags.get(key.rpartition(".")[2].removesuffix("-url"))
  for address in ast.literal_eval(value).split() if flag else ():
    print(flag, address, sep="\n")'

usage() {
  sed -n '2,23s/^# \{0,1\}//p' "$0" >&2
  exit 2
}

fail() {
  echo "offline.sh: $1" >&2
  exit 1
}

bundle() {
  (($# >= 1)) || usage
  local folder=$1 python="${PYTHON:-python3}"
  shift
  local root version arch="${ARCH:-$(uname -m)}" glibc="${GLIBC:-2.31}"
  local extras="${EXTRAS:-cuda12,video}" data="${VDM_JAX_DATA:-$HOME/vdm_jax_data}"
  root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
  version="${PYTHON_VERSION:-$("$python" -c '
import sys
print("%d.%d" % sys.version_info[:2])')}"
  [[ "$version" =~ ^3\.[0-9]+$ ]] ||
    fail "PYTHON_VERSION=$version: expected such as 3.12"
  [[ "$glibc" =~ ^2\.[0-9]+$ ]] || fail "GLIBC=$glibc: expected such as 2.31"
  [[ "$arch" == x86_64 || "$arch" == aarch64 ]] ||
    fail "ARCH=$arch: expected x86_64 or aarch64"
  [[ ! -e "$folder" ]] || fail "$folder: is there already; name a new folder"
  local name
  for name in "$@"; do
    [[ -d "$data/$name" ]] || fail "$data/$name: no such data set; build it first \
(vdm-jax data build), or set VDM_JAX_DATA"
  done

  # A folder of this name is a whole bundle, or there is none.
  local partial="$folder.partial"
  rm -rf "$partial"
  mkdir -p "$partial/wheels" "$partial/data"
  # shellcheck disable=SC2064 # The name as it is now: the variable is gone by then.
  trap "rm -rf $(printf '%q' "$partial")" EXIT
  (cd "$root" && git ls-files -z --cached --others --exclude-standard |
    tar --null --files-from=- -czf -) >"$partial/checkout.tgz"
  for name in "$@"; do
    mkdir -p "$partial/data/$name"
    cp -R "$data/$name/." "$partial/data/$name"
  done

  # pip asks the Python that runs it which requirements hold; uv asks the other one.
  "$python" -m venv "$partial/tools"
  local tools="$partial/tools/bin" where=()
  mapfile -t where < <("$tools/python" -c "$SETTINGS")
  "$tools/pip" install --quiet --disable-pip-version-check uv
  {
    echo "vdm_jax[$extras] @ file://$root"
    echo "pip"
    echo "setuptools>=77" # Builds vdm_jax over there.
  } >"$partial/requirements.in"
  "$tools/uv" pip compile --quiet --no-header --no-annotate \
    "${where[@]}" --index-strategy unsafe-best-match \
    --python-version "$version" --python-platform "$arch-manylinux_${glibc/./_}" \
    --constraint "$root/constraints.txt" --no-emit-package vdm_jax \
    "$partial/requirements.in" >"$partial/requirements.txt"
  local platforms=() minor
  for ((minor = 5; minor <= ${glibc#2.}; minor++)); do
    platforms+=(--platform "manylinux_2_${minor}_$arch")
  done
  platforms+=(--platform "manylinux2014_$arch" --platform "manylinux2010_$arch"
    --platform "manylinux1_$arch" --platform "linux_$arch")
  "$tools/pip" download --disable-pip-version-check --progress-bar off --quiet \
    --no-deps --implementation cp --python-version "$version" \
    "${platforms[@]}" \
    --dest "$partial/wheels" --requirement "$partial/requirements.txt"
  # Some packages come as source alone: built here, if that fits everywhere.
  local source
  for source in "$partial"/wheels/*.tar.gz "$partial"/wheels/*.zip; do
    [[ -e "$source" ]] || continue
    "$tools/pip" wheel --disable-pip-version-check --progress-bar off --quiet \
      --no-deps --wheel-dir "$partial/built" "$source"
    rm "$source"
    [[ -z "$(find "$partial/built" -name '*.whl' ! -name '*-none-any.whl')" ]] ||
      fail "$(basename "$source"): no wheel for Python $version, $arch and glibc $glibc"
    mv "$partial/built"/*.whl "$partial/wheels"
  done
  rm -rf "$partial/tools" "$partial/built" "$partial/requirements.in"

  cp "${BASH_SOURCE[0]}" "$partial/offline.sh"
  printf '%s\n' "python $version" "arch $arch" "glibc $glibc" "extras $extras" \
    >"$partial/bundle.txt"
  local sums
  sums="$(cd "$partial" && find . -type f -print0 | sort -z | xargs -0 sha256sum)"
  echo "$sums" >"$partial/SHA256SUMS"
  mv "$partial" "$folder"
  trap - EXIT
  echo "offline.sh: $(find "$folder/wheels" -name '*.whl' | wc -l) wheels, $# data \
sets, $(du -sh "$folder" | cut -f1) in $folder; on the other side:" >&2
  echo "  $folder/offline.sh install TARGET" >&2
}

# of KEY: a line of bundle.txt.
of() {
  sed -n "s/^$1 //p" "$folder/bundle.txt"
}

install() {
  (($# == 1)) || usage
  local target=$1 folder
  folder="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
  [[ -f "$folder/bundle.txt" ]] || fail "$folder: no bundle; \`install\` is run by the \
offline.sh in one"
  (cd "$folder" && sha256sum --check --quiet --strict SHA256SUMS) ||
    fail "$folder: the files above are not what was bundled; copy it again"
  local version arch python
  version="$(of python)" arch="$(of arch)"
  python="${PYTHON:-python$version}"
  [[ "$(uname -m)" == "$arch" ]] ||
    fail "$folder: was bundled for ARCH=$arch, this is $(uname -m)"
  local found
  found="$("$python" -c 'import ensurepip, sys; print("%d.%d" % sys.version_info[:2])' \
    2>&1)" || fail "PYTHON=$python: expected Python $version with venv (${found##*$'\n'})"
  [[ "$found" == "$version" ]] ||
    fail "PYTHON=$python: expected Python $version, found $found"
  [[ ! -e "$target" ]] || fail "$target: is there already; name a new folder"

  local partial="$target.partial"
  rm -rf "$partial"
  mkdir -p "$partial"
  tar -xzf "$folder/checkout.tgz" -C "$partial"
  cp -R "$folder/data" "$partial/data"
  mv "$partial" "$target" # An environment cannot be moved: it is made in place.
  # shellcheck disable=SC2064 # As above.
  trap "rm -rf $(printf '%q' "$target")" EXIT
  "$python" -m venv "$target/.venv"
  # Settings of the user's or the machine's pip might ask a registry.
  export PIP_CONFIG_FILE=/dev/null
  local pip=("$target/.venv/bin/python" -m pip --isolated install --quiet
    --disable-pip-version-check --no-index -f "$folder/wheels")
  "${pip[@]}" --requirement "$folder/requirements.txt"
  "${pip[@]}" --quiet --no-deps --no-build-isolation --editable "$target"
  touch "$target/.venv/.installed" # `make` need not set it up.
  trap - EXIT
  echo "offline.sh: installed; try" >&2
  echo "  export VDM_JAX_DATA=$(cd "$target" && pwd)/data" >&2
  echo "  $target/.venv/bin/vdm-jax doctor" >&2
}

action="${1:-}"
case "$action" in
  bundle | install)
    shift
    "$action" "$@"
    ;;
  *) usage ;;
esac
