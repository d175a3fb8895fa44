"""Faults for a server under test: on its PYTHONPATH, Python imports this before anything else.

STAND_IN_FAULT says what happens, STAND_IN_RUNG on which rung alone. The supervisor is never touched.
"""

import asyncio
import importlib.abc
import os
import signal
import socket
import sys
import time
from collections.abc import AsyncGenerator, Callable
from typing import Any

FOR_EVER = 3600


def at_import(name: str, act: Callable[[], None]) -> None:
    """Do `act` when the module `name` is about to be imported."""

    class Finder(importlib.abc.MetaPathFinder):
        def find_spec(self, fullname: str, path: object, target: object = None) -> None:
            if fullname == name:
                act()

    sys.meta_path.insert(0, Finder())


def hang() -> None:
    time.sleep(FOR_EVER)


def hang_at_bind() -> None:
    def bind(*_: Any) -> None:
        hang()

    socket.socket.bind = bind  # type: ignore[method-assign]


def chatter() -> None:
    """Libraries print as they like: long lines on both streams at once, and broken UTF-8."""
    for _ in range(20):
        os.write(1, b"o" * 9000 + b"\n")
        os.write(2, b"e" * 9000 + b"\n")
    os.write(1, b"\xff\xfe broken\n")


def crash(*_: object) -> None:
    print("MemoryError: the stand-in was told to crash", file=sys.stderr, flush=True)
    os._exit(3)


def obey() -> None:
    """The synthesizer does what a segment says; a signal makes the server crash with nothing to do."""
    from cosyserve.speech.preview import PreviewSynthesizer

    signal.signal(signal.SIGUSR2, crash)

    really = PreviewSynthesizer.synthesize

    async def synthesize(*arguments: Any) -> AsyncGenerator[Any, None]:
        segment = arguments[1]
        if "hang now" in segment:
            await asyncio.Event().wait()
        if "block now" in segment:
            hang()
        if "crash now" in segment:
            crash()
        async for chunk in really(*arguments):
            yield chunk

    PreviewSynthesizer.synthesize = synthesize  # type: ignore[method-assign, assignment]


def lose() -> None:
    """A card whose memory runs out, or that is lost, over what a segment says. There is none here: the errors are
    PyTorch's own, and one that stays is raised by all that the device is asked after it."""
    from dataclasses import replace

    import torch

    from cosyserve.cosyvoice.model.hift_stream import HiftStream
    from cosyserve.speech.asking import Asker

    errors = {
        "run out": torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 MiB."),
        "fall off": torch.AcceleratorError("CUDA error: device-side assert triggered\nIt may have been any call."),
    }
    request, stream, push = Asker.request, HiftStream.__init__, HiftStream.push
    told: dict[int, Exception] = {}  # by the seed, which is all that the vocoder knows of a request

    def asked(asker: Any, segment: str, *arguments: Any) -> Any:
        made = request(asker, segment, *arguments)
        for words, error in errors.items():
            if words in segment:
                made = replace(made, seed=-1 - len(told))
                told[made.seed] = error
        return made

    def begun(of: Any, hift: Any, seed: int = 0, *arguments: Any) -> None:
        stream(of, hift, seed, *arguments)
        of.error = told.get(seed)

    def pushed(of: Any, *arguments: Any, **options: Any) -> Any:
        if of.error is None:
            return push(of, *arguments, **options)
        if isinstance(of.error, torch.AcceleratorError):
            torch.Tensor.add_ = HiftStream.push = lost  # type: ignore[method-assign]
        raise of.error

    def lost(*_: Any, **__: Any) -> Any:
        raise errors["fall off"]

    Asker.request = asked  # type: ignore[method-assign, assignment]
    HiftStream.__init__, HiftStream.push = begun, pushed  # type: ignore[method-assign, assignment]


FAULTS: dict[str, Callable[[], None]] = {
    "hang at import": lambda: at_import("mpi4py", hang),
    "hang after import": lambda: at_import("cosyserve.server.run", hang),
    "hang at bind": hang_at_bind,
    "chatter": lambda: at_import("cosyserve.server.run", chatter),
    "obey": obey,
    "lose": lose,
}

fault = os.environ.get("STAND_IN_FAULT")
rung = os.environ.get("_COSYSERVE_RUNG")  # of a server and its children; a supervisor has none
if fault and rung and "serve" in sys.orig_argv and os.environ.get("STAND_IN_RUNG", rung) == rung:
    FAULTS[fault]()
