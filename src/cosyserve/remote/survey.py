"""The state of an instance: a script that only looks, and the meaning of its answer."""

import json
import shlex
from collections import defaultdict
from dataclasses import dataclass, field
from io import StringIO
from typing import Any

from dotenv import dotenv_values

from cosyserve import errors
from cosyserve.errors import CosyError
from cosyserve.host.gpu import Card, parse_cards, parse_cuda

# For any POSIX shell, as nothing is known yet. The profile is read, since AutoDL's variables are nowhere else; of those
# one is a secret, so that none but the two addresses is printed.
_SCRIPT = r"""
set -u
echo 'cosyserve-survey=1'
for profile in /etc/profile.d/autodl*.sh; do [ -r "$profile" ] && . "$profile"; done >/dev/null 2>&1
parent=$(dirname "$root")
while [ ! -d "$parent" ] && [ "$parent" != / ] && [ "$fixed" = no ]; do parent=$(dirname "$parent"); done
echo "now=$(date +%s)"
echo "user=$(id -u)"
echo "machine=$(uname -s) $(uname -m)"
echo "system=$( (. /etc/os-release && echo "$PRETTY_NAME") 2>/dev/null)"
[ -d "$parent" ] && echo "free_mib=$(df -Pm "$parent" | awk 'END { print $4 }')"
[ -d "$root/cache" ] && echo "cached_mib=$(du -sm "$root/cache" | cut -f 1)"
echo "memory_mib=$(awk '/^MemTotal/ { print int($2 / 1024) }' /proc/meminfo)"
for limit in /sys/fs/cgroup/memory.max /sys/fs/cgroup/memory/memory.limit_in_bytes; do
  [ -r "$limit" ] && grep -Eqx '[0-9]{1,15}' "$limit" && echo "limit_mib=$(($(cat "$limit") / 1048576))"
done
for tool in bash tar flock setsid sha256sum tail; do command -v "$tool" >/dev/null || echo "lacks=$tool"; done
if command -v nvidia-smi >/dev/null; then
  timeout 20 nvidia-smi --query-gpu=name,driver_version,compute_cap,memory.total,memory.free \
    --format=csv,noheader,nounits 2>/dev/null | sed 's/^/card=/'
  timeout 20 nvidia-smi 2>/dev/null | grep -o 'CUDA .*Version: *[0-9.]*' | head -n 1 | sed 's/^/cuda=/'
fi
[ -n "${AutoDLContainerUUID:-}" ] || [ -d /root/autodl-tmp ] && echo 'autodl=yes'
[ -n "${AutoDLService6006URL:-}" ] && echo "public=6006 $AutoDLService6006URL"
[ -n "${AutoDLService6008URL:-}" ] && echo "public=6008 $AutoDLService6008URL"
awk '$4 == "0A" { print $2 }' /proc/net/tcp /proc/net/tcp6 2>/dev/null | sort -u |
  while IFS=: read -r _ hex; do echo "listens=$((0x$hex))"; done
[ -f "$root/shared/.env" ] && grep -E '^COSYSERVE_(AUTH|HOST|PORT|IDLE_SHUTDOWN_MINUTES)=' "$root/shared/.env" |
  sed 's/^COSYSERVE_/set=/'
[ -f "$root/shared/.env" ] && grep -Eq '^COSYSERVE_API_KEYS(_FILE)?=.' "$root/shared/.env" && echo 'keys=set'
[ -s "$root/shared/state/api_key" ] && echo 'keys=made'
for kept in "$root"/shared/.env "$root"/shared/*; do [ -e "$kept" ] && echo "kept=$(basename "$kept")"; done
[ -f /etc/autodl.sh ] && echo "boot=$(grep -c '  # CosyServe$' /etc/autodl.sh)"
for release in "$root"/releases/*/; do
  [ -f "$release/.complete" ] && echo "complete=$(basename "$release")"
done
[ -L "$root/current" ] && echo "current=$(basename "$(readlink "$root/current")")"
[ -e "$root/run/lock" ] && ! flock -s -n "$root/run/lock" true && echo "job=$(cat "$root/run/job.id")"
python=$root/current/venv/bin/python
export PYTHONDONTWRITEBYTECODE=1
[ -x "$python" ] && echo "status=$(timeout 60 "$python" -m cosyserve instance --root "$root" status --json 2>/dev/null)"
echo 'end=1'
"""


def script(folder: str, *, made_on_demand: bool) -> str:
    """The survey of an installation in `folder`. Its parent must exist unless it is `made_on_demand`."""
    return f"root={shlex.quote(folder)} fixed={'no' if made_on_demand else 'yes'}{_SCRIPT}"


@dataclass(frozen=True)
class Instance:
    """An instance as it was found. Sizes in MiB; `clock` in seconds since 1970.

    `keys` are `set` in shared/.env or were `made`; `kept` is what shared/ has; `boot` is whether the platform's boot
    file has our line, and None where there is no such file.
    """

    clock: int
    root_user: bool
    machine: str
    system: str
    free_mib: int | None
    memory_mib: int
    cached_mib: int = 0
    lacks: tuple[str, ...] = ()
    cards: tuple[Card, ...] = ()
    cuda: str | None = None
    autodl: bool = False
    public: dict[int, str] = field(default_factory=dict)
    listens: frozenset[int] = frozenset()
    settings: dict[str, str] = field(default_factory=dict)
    keys: frozenset[str] = frozenset()
    kept: tuple[str, ...] = ()
    boot: bool | None = None
    complete: frozenset[str] = frozenset()
    current: str | None = None
    job: str | None = None
    status: dict[str, Any] = field(default_factory=dict)

    @property
    def cuda_major(self) -> int | None:
        return int(self.cuda.split(".")[0]) if self.cuda else None


def parse(answer: str) -> Instance:
    """Raises `CS-DEP-021` if the answer is not the script's, for example because there is no shell."""
    found: dict[str, list[str]] = defaultdict(list)
    for line in answer.partition("cosyserve-survey=1\n")[2].splitlines():  # a login may print what it likes before
        name, _, value = line.partition("=")
        found[name].append(value.strip())
    if "end" not in found:
        raise CosyError(errors.UNSUITABLE, reason="its shell does not run scripts")
    one = {name: values[-1] for name, values in found.items()}
    memory = [int(value) for name in ("memory_mib", "limit_mib") for value in found[name] if value.isdecimal()]
    return Instance(
        clock=int(one["now"]),
        root_user=one["user"] == "0",
        machine=one["machine"],
        system=one["system"],
        free_mib=int(one["free_mib"]) if one.get("free_mib", "").isdecimal() else None,
        memory_mib=min(memory, default=0),
        cached_mib=int(one["cached_mib"]) if one.get("cached_mib", "").isdecimal() else 0,
        lacks=tuple(found["lacks"]),
        cards=tuple(parse_cards("\n".join(found["card"]))),
        cuda=parse_cuda(one.get("cuda", "")),
        autodl="autodl" in one,
        public={int(port): url for port, url in (value.split(" ", 1) for value in found["public"])},
        listens=frozenset(map(int, found["listens"])),
        settings=_settings(found["set"]),
        keys=frozenset(found["keys"]),
        kept=tuple(found["kept"]),
        boot=one["boot"] != "0" if "boot" in one else None,
        complete=frozenset(found["complete"]),
        current=one.get("current"),
        job=one.get("job"),
        status=_json(one.get("status", "")),
    )


def _settings(lines: list[str]) -> dict[str, str]:
    """Reads the file as the server does; values may be quoted."""
    read = dotenv_values(stream=StringIO("\n".join(lines)))
    return {name: value for name, value in read.items() if value is not None}


def _json(text: str) -> dict[str, Any]:
    """A broken installation has no status, but can still be repaired."""
    try:
        status = json.loads(text)
    except ValueError:
        return {}
    return status if isinstance(status, dict) else {}
