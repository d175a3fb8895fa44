"""How far a long piece of work is: a bar in a terminal, a line now and then anywhere else."""

import sys
import time
from typing import Any, Protocol

import click

from cosyserve.store.disk import human

_LINE_SECONDS = 10


class Progress(Protocol):
    def begin(self, what: str, done: int, total: int) -> None:
        """A new piece of work, of which `done` bytes are there already."""
        ...

    def at(self, done: int) -> None: ...

    def say(self, text: str) -> None:
        """Something worth a line of its own."""
        ...

    def end(self) -> None: ...


class Bar:
    def __init__(self) -> None:
        from tqdm import tqdm  # which takes a while to import, and is for terminals only

        self._tqdm = tqdm
        self._bar: Any = None

    def begin(self, what: str, done: int, total: int) -> None:
        self.end()
        self._bar = self._tqdm(desc=what, initial=done, total=total, unit="B", unit_scale=True, leave=False)

    def at(self, done: int) -> None:
        if self._bar is not None:
            self._bar.update(done - self._bar.n)

    def say(self, text: str) -> None:
        self._tqdm.write(text, file=sys.stderr)

    def end(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None


class Lines:
    def __init__(self, every: float = _LINE_SECONDS) -> None:
        self._every = every

    def begin(self, what: str, done: int, total: int) -> None:
        self._what, self._first, self._total = what, done, total
        self._began = self._said = time.monotonic()

    def at(self, done: int) -> None:
        now = time.monotonic()
        if now - self._said < self._every:
            return
        self._said = now
        rate = max(done - self._first, 0) / (now - self._began)
        left = f", {_duration((self._total - done) / rate)} left" if rate else ""
        share = 100 * done / self._total if self._total else 100
        self.say(f"{self._what}: {share:.0f} % of {human(self._total)}, {human(rate)}/s{left}")

    def say(self, text: str) -> None:
        click.echo(text, err=True)

    def end(self) -> None:
        pass


def progress() -> Progress:
    return Bar() if sys.stderr is not None and sys.stderr.isatty() else Lines()


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes} min {seconds} s" if minutes else f"{seconds} s"
