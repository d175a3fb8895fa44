#!/usr/bin/env bash
# The same as `make deploy-autodl`, begun on the instance itself, in a clone of the project:  bash autodl/bootstrap.sh
# Arguments are those of `cosyserve deploy autodl`, such as --plan, --port or --idle-shutdown.
set -Eeuo pipefail
cd "$(dirname "$0")/.."

folder=/root/autodl-tmp/cosyserve
indexes=() only_looks=""

# read_arguments ARGUMENT…: what the step before the command needs as well; the command says what is wrong with them
read_arguments() {
  while (($#)); do
    case $1 in
    --index) indexes+=("${2-}") ;;
    --index=*) indexes+=("${1#*=}") ;;
    --folder) folder=${2-} ;;
    --folder=*) folder=${1#*=} ;;
    --plan | --help) only_looks=yes ;;
    esac
    shift
  done
}

# place: where the command's own environment lies, beside what it will install. Where nothing is to change, or the disk
# is missing, which the command will say, it is gone again afterwards.
place() {
  root=$folder
  if [[ -n $only_looks || $folder != /* || $folder == /root/autodl-tmp/* && ! -d /root/autodl-tmp ]]; then
    root=$(mktemp --directory)
    trap 'rm -rf "$root"' EXIT
    export PYTHONDONTWRITEBYTECODE=1 # in the clone
  fi
}

find_python() {
  local disk
  disk=$(dirname "$folder")
  if ! python=$(PATH=$PATH:$folder/tools/python/bin:$disk/python/bin autodl/python.sh "$root" "3.12 3.11 3.10 3.13"); then
    printf 'CS-DEP-010: there is no Python 3.10 to 3.13 here, and none could be fetched.\n' >&2
    printf '  → conda create -y -p %s/python python=3.12, then run this again\n' "$disk" >&2
    printf '  没有 Python 3.10 至 3.13，且无法下载。\n  → 请先运行上面的 conda 命令，然后重试\n' >&2
    exit 2
  fi
}

# fail FAULT: in the words of the catalogue, which needs nothing that would have to be installed
fail() {
  PYTHONPATH=src "$python" -c "from cosyserve import errors; print(errors.CosyError(errors.$1))" >&2
  exit 2
}

# set_up: its packages come from the fastest index, and their downloads are kept off the small system disk. In a subshell: the
# command chooses an index of its own.
set_up() (
  if ! index=$("$python" autodl/fastest_index.py ${indexes[@]+"${indexes[@]}"}); then
    [[ -x $root/tools/deployer/bin/cosyserve ]] || fail NO_INDEX
    index="" # an environment that is up to date needs none
  fi
  export PIP_INDEX_URL=$index UV_DEFAULT_INDEX=$index PIP_CACHE_DIR=$root/cache/pip UV_CACHE_DIR=$root/cache/uv UV_SYSTEM_CERTS=1
  [[ -z $index ]] || scripts/get-uv "$root/tools" "$python" || true # then pip does the work
  PATH=$root/tools/bin:$(dirname "$python"):$PATH scripts/setup "$root/tools/deployer" main base || fail INSTALL_FAILED
)

read_arguments "$@"
place
find_python
set_up
"$root/tools/deployer/bin/cosyserve" deploy autodl --here "$@"
