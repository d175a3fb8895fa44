"""The script that removes an installation. Pure.

A complete installation removes itself with its own code. An incomplete one, which was interrupted or of which an
uninstall kept something, is recognised by CosyServe's own files, because another folder may have the same names in it.
"""

import shlex

NOTHING = 78
BUSY = 76

_SCRIPT = r"""
python=$root/current/venv/bin/python
if [ -x "$python" ] && "$python" -m cosyserve --version >/dev/null 2>&1; then
  cd "$root" && exec "$python" -m cosyserve instance --root "$root" uninstall $all 2>&1
fi
is_ours() {
  grep -qs '"flavour"' "$root"/releases/*/release.json || grep -qs '^COSYSERVE_' "$root/shared/.env" ||
    grep -qs cosyserve "$root/run/job.sh" || [ -f "$root/tools/deployer/pyvenv.cfg" ]
}
is_ours || exit 78
if [ -e "$root/run/lock" ] && ! flock -s -n "$root/run/lock" true; then exit 76; fi

servers=
for process in /proc/[0-9]*; do
  case $(tr '\0' ' ' 2>/dev/null <"$process/cmdline") in
  "$root"/releases/*/venv/bin/python\ -m\ cosyserve\ serve\ *)
    kill "${process#/proc/}" && servers="$servers $process"
    echo 'waiting for running streams to end · 等待进行中的合成结束'
    ;;
  esac
done 2>/dev/null
for process in $servers; do while [ -d "$process" ]; do sleep 0.2; done; done
if [ -f /etc/autodl.sh ] && grep -q '^\[ ! -f .*  # CosyServe$' /etc/autodl.sh; then
  sed -i '/^\[ ! -f .*  # CosyServe$/d' /etc/autodl.sh
  [ "$(cat /etc/autodl.sh)" != '#!/bin/bash' ] || rm /etc/autodl.sh
fi
for name in current releases run tools cache shared/state/kernels ${all:+shared}; do
  [ -e "$root/$name" ] || [ -L "$root/$name" ] || continue
  echo "removed · 已删除: $root/$name"
  rm -rf "${root:?}/$name"
done
if [ -d "$root/shared" ]; then
  echo "kept: $root/shared (models, voices, settings); --all removes them too · 保留：模型、音色与设置，--all 一并删除"
elif rmdir "$root" 2>/dev/null; then
  echo 'nothing is left · 已全部删除'
else
  echo "kept: $root, in which other files lie · 保留：目录中还有其他文件"
fi
"""


def script(folder: str, *, everything: bool) -> str:
    """Its status is 78 if `folder` has nothing of CosyServe's, and 76 while an installation runs there."""
    return f"root={shlex.quote(folder)} all={'--all' if everything else ''}\n{_SCRIPT}"
