#!/usr/bin/env bash
# The environment of an unpacked release, made on the instance:  autodl/install.sh [INDEX…]
# Does nothing where it is whole. It is made in its place and marked as whole at the very end, so that whatever breaks
# off on the way is done again, with the downloads that are there.
#
# Statuses: 71 no Python, 72 no index, 73 the packages cannot be installed, 74 the disk is full.
set -Eeuo pipefail

release=$(cd "$(dirname "$0")/.." && pwd -P)
root=$(cd "$release/../.." && pwd -P)
venv=$release/venv tools=$root/tools
export UV_CACHE_DIR=$root/cache/uv PIP_CACHE_DIR=$root/cache/pip TMPDIR=$root/cache/tmp
export PATH=$tools/bin:$PATH PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore UV_SYSTEM_CERTS=1

say() { printf '%s\n' "$*"; }

# flavour: what release.json says can speak in it
flavour() { sed -n 's/.*"flavour": *"\([a-z0-9]*\)".*/\1/p' "$release/release.json"; }

# any_python: one that runs the measuring of indexes and brings uv, however old
any_python() {
  local candidate
  for candidate in python3 /root/miniconda3/bin/python "$tools/python/bin/python" python; do
    if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 6))' 2>/dev/null; then
      command -v "$candidate"
      return
    fi
  done
  return 1
}

# choose_index INDEX…: the fastest that answers becomes that of uv and of pip
choose_index() {
  local python index
  python=$(any_python) || exit 71
  index=$("$python" "$release/autodl/fastest_index.py" "$@") || exit 72
  say "packages come from $index"
  export PIP_INDEX_URL=$index UV_DEFAULT_INDEX=$index
}

# requirements PART: a file with the hashed requirements of a part of what the release was packed with
requirements() {
  "$release/scripts/requirements" main "$1" >"$TMPDIR/$1.txt"
  printf '%s' "$TMPDIR/$1.txt"
}

# quietly COMMAND ARGUMENT…: what installs, without a line for each package. That the disk was full is noted: what did not
# fit is removed again before anybody could look.
quietly() {
  "$@" 2>&1 | sed --unbuffered -e "/No space left on device/w $full" -e '/^ [+-] /d'
}

# choose_installer: what puts packages into the environment
choose_installer() {
  installer=("$venv/bin/python" -m pip install --progress-bar off)
  if command -v uv >/dev/null; then
    installer=(uv pip install --python "$venv/bin/python")
  fi
}

packages() { quietly "${installer[@]}" "$@"; }

make_environment() {
  local python
  python=$("$release/autodl/python.sh" "$root" "$1") || exit 71
  say "Python: $("$python" --version 2>&1), $python"
  if command -v uv >/dev/null; then
    uv venv --quiet --clear --python "$python" "$venv"
  else
    "$python" -m venv --clear "$venv"
  fi
  choose_installer
}

install_flavour() {
  local flavour
  flavour=$(flavour)
  case $flavour in
  cuda*) make_environment "3.12 3.10" ;; # which TensorRT-LLM has wheels for
  *) make_environment "3.12 3.11 3.10 3.13" ;;
  esac
  # Open MPI is among them: nothing is installed into the instance's own system.
  packages --require-hashes --requirement "$(requirements release)"
  case $flavour in
  slim) "$release/scripts/setup-torch" "$venv" auto ;;
  cuda*) quietly "$release/scripts/setup-tensorrt-llm" "$flavour" "$venv/bin/python" "${installer[@]}" ;;
  esac
  packages --no-deps --no-index "$release"/wheel/*.whl
}

# why_failed STATUS: a full disk is worth a status of its own
why_failed() {
  [[ $1 == 7[12] ]] && exit "$1"
  [[ -s $full || $(df --output=avail --block-size=1M "$root" | tail -n 1) -lt 50 ]] && exit 74
  exit 73
}

main() {
  [[ -f $release/.complete ]] && return
  mkdir -p "$TMPDIR" "$tools"
  choose_index "$@"
  "$release/scripts/get-uv" "$tools" "$(any_python)" || say "there is no uv, so pip installs, which takes longer"
  install_flavour
  sync "$release" 2>/dev/null || sync
  touch "$release/.complete"
  say "the environment is whole"
}

full=$(mktemp --tmpdir=/tmp) # on the system disk
trap 'rm -f "$full"' EXIT
trap 'why_failed $?' ERR
main "$@"
