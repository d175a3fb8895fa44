"""What the kernels' self-test found at the last start, and at which kernel a start has ended: beside what is compiled.

A kernel can take the process with it, compiler and driver included, or hang until the process is killed. So the name of
each is on the disk before it is tried, and one at which two starts have ended is not tried again. Once says nothing:
whoever started the server may have stopped it.
"""

import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from cosyserve import __version__
from cosyserve.files import write_atomically

_FILE = "self-test.json"
_ENDS = 2  # of a process, from which on a kernel is to blame


@dataclass(frozen=True)
class SelfTest:
    """`problem` says why no kernel could be used, empty where some can; `replaced` why single ones cannot. `trying` is
    the one that is tried just now, or was when the process ended; `ended` how many starts have ended at a kernel."""

    problem: str = ""
    replaced: Mapping[str, str] = field(default_factory=dict)
    trying: str = ""
    ended: Mapping[str, int] = field(default_factory=dict)
    cosyserve: str = __version__


def remember(folder: Path, found: SelfTest) -> None:
    """Raises `OSError`."""
    write_atomically(folder / _FILE, json.dumps(asdict(found)), mode=0o600)


def recall(folder: Path) -> SelfTest | None:
    """What this very version of ours has left; None where there is nothing."""
    try:
        found = TypeAdapter(SelfTest).validate_json((folder / _FILE).read_bytes())
    except (OSError, ValidationError):
        return None
    return found if found.cosyserve == __version__ else None


class Trial:
    """A self-test that is under way. What cannot be written is not known to the next start."""

    def __init__(self, folder: Path | None, *, alone: bool = True) -> None:
        """Without a folder, or while another process is testing into it, nothing is written."""
        self._folder = folder if alone else None
        before = (recall(folder) if folder else None) or SelfTest()
        ended = dict(before.ended)
        if before.trying and alone:
            ended[before.trying] = ended.get(before.trying, 0) + 1
        self._now = SelfTest(ended=ended)

    @property
    def trying(self) -> str:
        return self._now.trying

    @property
    def broken(self) -> list[str]:
        """Kernels that are not to be tried."""
        return [name for name, times in self._now.ended.items() if times >= _ENDS]

    def begins(self, name: str) -> None:
        if self._now.trying != name:
            self._write(replace(self._now, trying=name))

    def blame(self, name: str) -> None:
        """It has spoilt the card for this process, which is about to end."""
        blamed = {name: _ENDS} if name else {}
        self._write(replace(self._now, trying="", ended={**self._now.ended, **blamed}))

    def ends(self, problem: str, replaced: Mapping[str, str]) -> None:
        self._write(SelfTest(problem, replaced, ended=dict.fromkeys(self.broken, _ENDS)))

    def breaks_off(self) -> None:
        """For a reason of its own, such as Ctrl-C."""
        if self._now.trying:
            self._write(replace(self._now, trying=""))

    def _write(self, now: SelfTest) -> None:
        self._now = now
        if self._folder is not None:
            with suppress(OSError):
                remember(self._folder, now)


@contextmanager
def trial(folder: Path | None) -> Iterator[Trial]:
    """One at a time writes to a folder. The lock is the folder's own, and Linux frees it however a process ends."""
    if folder is None:
        yield Trial(None)
        return
    lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        begun = Trial(folder, alone=_taken(lock))
        try:
            yield begun
        finally:
            begun.breaks_off()
    finally:
        os.close(lock)


def _taken(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:  # another process has it, or the disk has no locks
        return False
    return True
