"""Speaks many streams at once through a server of its own, as clients would."""

import json
import os
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from urllib.parse import urlsplit

from cosyserve.check.seen import Spoken
from cosyserve.host.child import die_with_parent
from cosyserve.launch.heartbeat import SOCKET

_ADDRESS = re.compile(r"CosyServe: (http://[^/\s\"]+)/")
_SENTENCE = "Stream number {} speaks."
_CAPTURING = "stream is capturing"
_BYTES_A_SECOND = 24_000 * 2  # of 16-bit samples
_REQUEST_SECONDS = 300
_STOP_SECONDS = 60
_LAST_WORDS = 300  # characters
# A server for the check alone listens to this machine alone, so it needs none of its owner's keys.
_NOT_OURS = re.compile(r"COSYSERVE_(API_KEYS|REPLICA|LOG_|IDLE_|CORS|ALLOWED|HOST|PORT|STATE|MODELS|BACKEND|LAUNCH)")


class ServerFailedError(RuntimeError):
    """The server did not start; has its last output."""


@dataclass(frozen=True)
class _Stream:
    first: float
    seconds: float  # of sound
    problem: str = ""


def spoken(models: Path, backend: str, count: int, seconds: float) -> Spoken:
    """Speaks `count` streams at once, with `backend`; raises `ServerFailedError` if the server does not start in time.

    The server's files stay beside the models, which are there for the check only.
    """
    log = models / f"{backend}.log"
    settings = {
        "HOST": "127.0.0.1",
        "PORT": "0",
        "MODELS_DIR": str(models),
        "STATE_DIR": str(models / backend),
        "BACKEND": backend,
        "SYNTHESIZER": "cosyvoice",
        "MAX_STREAMS": str(count),
        "QUEUE_SECONDS": str(_REQUEST_SECONDS),
    }
    with log.open("wb") as output:
        server = subprocess.Popen(
            [sys.executable, "-m", "cosyserve", "serve"],
            env={**_environment(os.environ), **{f"COSYSERVE_{name}": value for name, value in settings.items()}},
            cwd=models,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            preexec_fn=die_with_parent,
        )
    try:
        url = _stands(server, log, seconds)
        why = str(json.loads(_asked(url, "GET", "/readyz")[1])["why"])
        began = time.monotonic()
        with ThreadPoolExecutor(count) as pool:
            streams = list(pool.map(lambda number: _stream(url, number), range(count)))
        took = time.monotonic() - began
    finally:
        _stop(server)
    good = [each for each in streams if not each.problem]
    return Spoken(
        why=why,
        failed=[each.problem for each in streams if each.problem],
        capturing=log.read_text(encoding="utf-8", errors="replace").count(_CAPTURING),
        first_ms=1000 * statistics.median([each.first for each in good] or [0.0]),
        times_real_time=sum(each.seconds for each in good) / took,
    )


def _environment(environ: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environ.items() if not _NOT_OURS.match(name) and name != SOCKET}


def _stands(server: "subprocess.Popen[bytes]", log: Path, seconds: float) -> str:
    until = time.monotonic() + seconds
    while time.monotonic() < until and server.poll() is None:
        if found := _ADDRESS.search(log.read_text(encoding="utf-8", errors="replace")):
            url = found[1]
            if _asked(url, "GET", "/readyz")[0] == 200:
                return url
        time.sleep(0.1)
    raise ServerFailedError(" ".join(log.read_text(encoding="utf-8", errors="replace").split())[-_LAST_WORDS:])


def _asked(url: str, method: str, path: str) -> tuple[int, bytes]:
    connection = HTTPConnection(urlsplit(url).netloc, timeout=_REQUEST_SECONDS)
    try:
        connection.request(method, path)
        answer = connection.getresponse()
        return answer.status, answer.read()
    except (OSError, HTTPException):
        return 0, b""
    finally:
        connection.close()


def _stream(url: str, number: int) -> _Stream:
    body = {"input": _SENTENCE.format(number), "response_format": "pcm", "seed": number}
    connection = HTTPConnection(urlsplit(url).netloc, timeout=_REQUEST_SECONDS)
    began = time.monotonic()
    try:
        connection.request("POST", "/v1/audio/speech", json.dumps(body), {"Content-Type": "application/json"})
        answer = connection.getresponse()
        size = len(answer.read(1))
        first = time.monotonic() - began
        rest = answer.read()
    except (OSError, HTTPException) as error:
        return _Stream(0, 0, type(error).__name__)
    finally:
        connection.close()
    if answer.status != 200:
        return _Stream(0, 0, f"status {answer.status}")
    return _Stream(first, (size + len(rest)) / _BYTES_A_SECOND, "" if size else "no sound")


def _stop(server: "subprocess.Popen[bytes]") -> None:
    server.terminate()
    try:
        server.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()
