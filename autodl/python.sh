#!/usr/bin/env bash
# A Python for an environment of its own:  autodl/python.sh ROOT "3.12 3.10"  prints its path
# What the instance has is only what the environment is made from; no package of it is seen, and none is installed into
# it. Where nothing fits, one is fetched into ROOT/tools. Status 71: none was to be had.
set -Eeuo pipefail

root=$1 wanted=$2
tools=$root/tools
PATH=$tools/bin:$PATH # where install.sh puts uv

# fits PYTHON: one of the wanted versions, with what environments are made of
fits() {
  [[ -x $(command -v "$1") ]] &&
    "$1" -c 'import sys; import ensurepip, venv; sys.exit("%d.%d" % sys.version_info[:2] not in sys.argv[1].split())' \
      "$wanted" 2>/dev/null
}

present() {
  local version candidate
  for version in $wanted; do
    for candidate in "$tools/python/bin/python" "$(dirname "$root")/python/bin/python" "python$version" python3 \
      /root/miniconda3/bin/python /root/miniconda3/envs/*/bin/python; do
      if wanted=$version fits "$candidate"; then
        command -v "$candidate"
        return
      fi
    done
  done
  return 1
}

# A subshell, since the proxies of AutoDL's accelerator help with this and hinder elsewhere.
fetched_by_uv() (
  export UV_PYTHON_INSTALL_DIR=$tools/pythons UV_CACHE_DIR=$root/cache/uv
  # shellcheck disable=SC1091
  if [[ -f /etc/network_turbo ]]; then . /etc/network_turbo >/dev/null 2>&1 || true; fi
  timeout 600 uv python install --quiet "${wanted%% *}" >&2 && uv python find --managed-python "${wanted%% *}"
)

fetched_by_conda() {
  local conda=/root/miniconda3/bin/conda
  [[ -x $conda ]] || return 1
  timeout 600 "$conda" create --yes --quiet --prefix "$tools/python" "python=${wanted%% *}" >&2 &&
    printf '%s\n' "$tools/python/bin/python"
}

present || fetched_by_uv 2>/dev/null || fetched_by_conda || exit 71
