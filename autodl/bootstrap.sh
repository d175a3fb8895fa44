#!/usr/bin/env bash
# The same as `make deploy-autodl`, begun on the instance itself, in a clone of the project:  bash autodl/bootstrap.sh
# Arguments are those of `cosyserve deploy autodl`, such as --plan, --port or --idle-shutdown.
set -Eeuo pipefail
cd "$(dirname "$0")/.."

root=/root/autodl-tmp/cosyserve
[[ -d $(dirname "$root") ]] || root=$HOME/.cache/cosyserve # the command will say that there is no data disk
if ! python=$(autodl/python.sh "$root" "3.12 3.11 3.10 3.13"); then
  printf 'CS-DEP-010: there is no Python 3.10 to 3.13 here, and none could be fetched.\n' >&2
  printf '  → conda create -y -p %s/python python=3.12, then run this again\n' "$(dirname "$root")" >&2
  printf '  没有 Python 3.10 至 3.13，且无法下载。\n  → 请先运行上面的 conda 命令，然后重试\n' >&2
  exit 2
fi
PATH=$(dirname "$python"):$PATH scripts/setup "$root/tools/deployer" requirements/base.txt
exec "$root/tools/deployer/bin/cosyserve" deploy autodl --here "$@"
