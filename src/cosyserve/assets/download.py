"""Downloads files in a process of its own, and tells what becomes of it, tick by tick."""

import queue
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Generator, Mapping
from pathlib import Path
from typing import IO, cast

from cosyserve.assets.download_worker import Arrived, Failed, Order
from cosyserve.host import child

_TICK = 0.25  # seconds between looks at the files


def download(
    order: Order, environ: Mapping[str, str], stall_seconds: float
) -> Generator[Arrived | Failed | None, None, None]:
    """Each file that arrives, None in between, and at last why not all did. Ends the process when it is closed."""
    order.into.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile() as complaints:
        process = subprocess.Popen(
            [sys.executable, "-m", "cosyserve.assets.download_worker"],
            env=environ,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=complaints,
            preexec_fn=child.die_with_parent,
        )
        try:
            yield from _told(process, order, stall_seconds)
            if process.wait() != 0:
                complaints.seek(0)
                last = (complaints.read().decode(errors="replace").strip().splitlines() or ["no word"])[-1]
                yield Failed(path="", reason=f"the transfer ended with status {process.returncode}: {last}", disk=None)
        finally:
            child.end(process)


def _told(
    process: "subprocess.Popen[bytes]", order: Order, stall_seconds: float
) -> Generator[Arrived | Failed | None, None, None]:
    with cast("IO[bytes]", process.stdin) as stdin:
        stdin.write(order.model_dump_json().encode())
    lines: queue.Queue[bytes] = queue.Queue()
    threading.Thread(target=_read, args=(cast("IO[bytes]", process.stdout), lines), daemon=True).start()
    seen, since = allocated(order.into), time.monotonic()
    while True:
        try:
            line = lines.get(timeout=_TICK)
        except queue.Empty:
            now = allocated(order.into)
            if now != seen:
                seen, since = now, time.monotonic()
            elif time.monotonic() - since > stall_seconds:
                child.end(process)
                process.returncode = 0  # it has been told what it did
                yield Failed(path="", reason=f"nothing came for {stall_seconds:g} s", disk=None)
                return
            yield None
            continue
        if not line:
            return
        yield (Failed if b'"reason"' in line else Arrived).model_validate_json(line)
        since = time.monotonic()


def _read(pipe: IO[bytes], lines: "queue.Queue[bytes]") -> None:
    """Each line, and an empty one at the end."""
    with pipe:
        for line in pipe:
            lines.put(line)
    lines.put(b"")


def allocated(folder: Path) -> int:
    """Bytes that the files in `folder` take on the disk, whatever their names and however they were begun."""
    taken = 0
    for path in folder.rglob("*"):
        try:
            found = path.lstat()
        except OSError:  # renamed a moment ago
            continue
        taken += min(found.st_size, found.st_blocks * 512)
    return taken
