#!/usr/bin/env bash
# For those who know the original guide, which starts its server under mpirun with a script of this name. All
# arguments go to `cosyserve serve`, which takes mpirun first on AutoDL and another way where mpirun hangs too.
set -euo pipefail

cd "$(dirname "$0")/.."
command=$PWD/.venv/bin/cosyserve
[[ ! -x venv/bin/python ]] || command=$PWD/venv/bin/cosyserve # of an installed release
cat <<BANNER
==================================================================
  CosyVoice2 语音合成服务（CosyServe）
  启动方式：优先 mpirun -n 1 --allow-run-as-root --bind-to none
            若 mpirun 也卡住，会自动换用其他方式，无需人工处理
  服务端口：默认 6008，可用 --port 或 COSYSERVE_PORT 修改
  停止服务：Ctrl-C，或向本进程发送 SIGTERM
  环境诊断：$command doctor --lang zh
==================================================================
BANNER
if [[ -x venv/bin/python ]]; then # an installed release, whose settings, models and voices lie beside it
  release=$PWD
  cd ../../shared
  exec "$release/venv/bin/python" -m cosyserve serve "$@"
fi
exec scripts/run-local "$@"
