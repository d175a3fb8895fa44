"""The servers of an instance: starting one in the background, knowing which run, stopping them."""

import http.client
import json
import secrets
import subprocess
import time
import wave
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import asdict, dataclass
from io import BytesIO
from pathlib import Path

import psutil

from cosyserve import errors, logs
from cosyserve.addresses import connected
from cosyserve.errors import CosyError
from cosyserve.files import write_atomically
from cosyserve.host import system
from cosyserve.instance.home import Home, Release
from cosyserve.keys import made_key, makes_key
from cosyserve.launch.heartbeat import RELEASE, START
from cosyserve.settings import Settings

READY = ("ready", "asleep")  # states in which a server takes requests
_TICK = 0.2
_REQUEST_SECONDS = 120
_SAME_START = 1.0  # seconds by which two readings of a process's start may differ
_SENTENCE = "你好。Ready."
Say = Callable[[str], None]


@dataclass(frozen=True)
class Running:
    """A supervisor that was started here. Its process id is not enough, because ids are reused. `start` is its own
    name."""

    pid: int
    created: float
    release: str
    host: str
    port: int
    start: str

    @property
    def process(self) -> psutil.Process | None:
        with suppress(psutil.Error):
            process = psutil.Process(self.pid)
            same = abs(process.create_time() - self.created) < _SAME_START
            if same and process.status() != psutil.STATUS_ZOMBIE:
                return process
        return None


def running(home: Home) -> list[Running]:
    """The running servers, the newest last, including those that still finish their streams."""
    with suppress(OSError, ValueError, TypeError):
        kept = json.loads((home.run / "servers.json").read_text(encoding="utf-8"))
        return [each for each in (Running(**fields) for fields in kept) if each.process is not None]
    return []


def start(home: Home, release: Release, settings: Settings) -> Running:
    """Start the release's server, which takes over from one that already listens on its port."""
    token = secrets.token_hex(8)
    (home.shared / "logs").mkdir(parents=True, exist_ok=True)
    with (home.shared / "logs/start.log").open("wb") as output:
        process = subprocess.Popen(  # noqa: S603 - argv is a release's own interpreter
            [*release.command, "serve", "--take-over", "--host", settings.host, "--port", str(settings.port)],
            cwd=home.shared,
            env=release.environ(**{RELEASE: release.name, START: token, logs.DETACHED: "1"}),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # it outlives the installation, and the connection that began that
        )
    created = psutil.Process(process.pid).create_time()
    started = Running(process.pid, created, release.name, settings.host, settings.port, token)
    _remember(home, [*running(home), started])
    return started


def _remember(home: Home, servers: list[Running]) -> None:
    write_atomically(home.run / "servers.json", json.dumps([asdict(each) for each in servers]))


def wait_until_ready(home: Home, server: Running, key: str, say: Say) -> None:
    """Return once it serves, which it tells to clients with a key; raises `CS-DEP-014` if it exits instead. Reports
    what it logs meanwhile."""
    lines = _new_lines(home.log)
    while True:
        for line in lines:
            say(line)
            if not line:
                break
        if server.process is None:
            last = (home.shared / "logs/start.log").read_text(encoding="utf-8", errors="replace").strip()
            say(last)
            reason = last.splitlines()[0] if last else "its server ended before it was ready"
            raise CosyError(errors.RELEASE_BROKEN, release=server.release, reason=reason, log=home.log)
        state = readiness(server.host, server.port, key)
        if state.get("start") == server.start and state.get("status") in READY:
            return
        time.sleep(_TICK)


def _new_lines(path: Path) -> Iterator[str]:
    """Yields what is written to the file from now on, even if it is rotated meanwhile; empty texts if there is nothing
    new."""
    try:
        position = path.stat().st_size
    except OSError:
        position = 0
    while True:
        with suppress(OSError), path.open(encoding="utf-8", errors="replace") as file:
            position = position if position <= path.stat().st_size else 0
            file.seek(position)
            for line in file:
                yield line.rstrip("\n")
            position = file.tell()
        yield ""


def readiness(host: str, port: int, key: str) -> dict[str, object]:
    """What /readyz says to a client with that key, or without one; empty if nothing answers."""
    with suppress(OSError, http.client.HTTPException, ValueError), closing(connected(host, port, 5)) as connection:
        connection.request("GET", "/readyz", headers=_authorization(key))
        state = json.loads(connection.getresponse().read())
        return state if isinstance(state, dict) else {}
    return {}


def key_of(settings: Settings) -> str:
    """A key that lets a client in; empty if none is needed."""
    if settings.auth == "off":
        return ""
    if makes_key(settings):
        return made_key(settings)
    return next(iter(settings.key_list()), "")


def _authorization(key: str) -> dict[str, str]:
    # http.client would write a text in latin-1; a key is compared as the bytes of UTF-8.
    return {"Authorization": f"Bearer {key}".encode().decode("latin-1")} if key else {}


def speak(host: str, port: int, key: str) -> tuple[float, float]:
    """Ask for a sentence as a client would: seconds to the first sound, and seconds of sound. Raises OSError."""
    connection = connected(host, port, _REQUEST_SECONDS)
    body = json.dumps({"input": _SENTENCE, "response_format": "wav"})
    headers = {"Content-Type": "application/json", **_authorization(key)}
    began = time.monotonic()
    try:
        connection.request("POST", "/v1/audio/speech", body, headers)
        answer = connection.getresponse()
        first = answer.read(64)
        delay = time.monotonic() - began
        rest = answer.read()
    except http.client.HTTPException as error:
        raise OSError(f"the stream broke off: {error!r}") from error
    finally:
        connection.close()
    if answer.status != 200:
        raise OSError(f"it answers {answer.status}: {(first + rest)[:300].decode(errors='replace')}")
    return delay, _seconds_of_sound(first + rest)


def _seconds_of_sound(data: bytes) -> float:
    """Raises OSError if the file has no audio, or only silence."""
    try:
        with wave.open(BytesIO(data)) as sound:
            samples, rate, width = sound.readframes(1 << 30), sound.getframerate(), sound.getsampwidth()
    except (wave.Error, EOFError) as error:
        raise OSError(f"it did not send audio: {error}") from error
    if not any(samples):
        raise OSError("it sent nothing but silence")
    return float(len(samples) / width / rate)


def stop(home: Home, servers: list[Running], say: Say) -> None:
    """Stop servers: they take no new requests, and running streams have the time that the settings give them."""
    for process in filter(None, (server.process for server in servers)):
        say("waiting for running streams to end · 等待进行中的合成结束")
        with suppress(psutil.Error):
            process.terminate()
    while any(server.process for server in servers):
        time.sleep(_TICK)
    _remember(home, running(home))


def family(servers: list[Running]) -> list[psutil.Process]:
    """Every process of these servers."""
    found = []
    for process in filter(None, (server.process for server in servers)):
        with suppress(psutil.Error):
            found += [process, *process.children(recursive=True)]
    return found


def foreign(settings: Settings, own: list[Running]) -> str | None:
    """What else listens on the port; None if it is free or one of these servers has it."""
    taken = system.listeners(settings.host)
    if settings.port not in taken or taken[settings.port] in {process.pid for process in family(own)}:
        return None
    return system.command_of(taken[settings.port])
