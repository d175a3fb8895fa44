"""A Ray cluster of two hosts: network namespaces that a cable joins, each with an address of its own."""

import ctypes
import os
import secrets
import signal
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import httpx
from typing_extensions import Self

from tests.running import HANGS, eventually

Answer = TypeVar("Answer")

KEY = "a-key-of-the-tests"
_BIN = Path(sys.executable).parent
_CLONE_NEWNET = 0x40000000


class Host:
    """One namespace. `inside` runs a function there, in a thread."""

    def __init__(self, name: str, address: str, folder: Path) -> None:
        self.name, self.address, self._folder = name, address, folder
        subprocess.run(["ip", "netns", "add", name], check=True)
        self._threads = ThreadPoolExecutor(64, initializer=self._enter)

    @property
    def url(self) -> str:
        return f"http://{self.address}:6008"

    def _enter(self) -> None:
        with Path(f"/run/netns/{self.name}").open() as file:
            if ctypes.CDLL(None, use_errno=True).setns(file.fileno(), _CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), "setns")

    def inside(self, ask: Callable[..., Answer], *arguments: Any) -> Answer:
        return self._threads.submit(ask, *arguments).result()

    def runs(self, *command: str, environ: dict[str, str]) -> None:
        failed = self.tries(*command, environ=environ)
        assert not failed, failed

    def tries(self, *command: str, environ: dict[str, str]) -> str:
        """Empty where the command succeeds, else what it printed: to a file, which Ray's processes go on holding."""
        argv = ["ip", "netns", "exec", self.name, *command]
        log = self._folder / f"{self.name}.log"
        with log.open("wb") as file:
            done = subprocess.run(argv, env=environ, stdin=subprocess.DEVNULL, stdout=file, stderr=file, timeout=HANGS)
        return "" if done.returncode == 0 else log.read_text()[-4000:]

    def processes(self) -> list[int]:
        done = subprocess.run(["ip", "netns", "pids", self.name], capture_output=True, text=True)
        return [int(line) for line in done.stdout.split() if int(line) != os.getpid()]

    def replicas(self) -> list[int]:
        """The actors that speak here."""
        found = []
        for pid in self.processes():
            with suppress(FileNotFoundError):  # it has ended meanwhile
                if Path(f"/proc/{pid}/cmdline").read_bytes().startswith(b"ray::ServeReplica:cosyserve:Replica"):
                    found.append(pid)
        return found

    def close(self) -> None:
        self._threads.shutdown()
        while pids := self.processes():
            for pid in pids:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        subprocess.run(["ip", "netns", "del", self.name], check=False)


class Cluster:
    """Head and other host; `deploy` gives Serve a configuration."""

    def __init__(self, folder: Path, **settings: object) -> None:
        own = {f"COSYSERVE_{name.upper()}": str(value) for name, value in settings.items()}
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("COSYSERVE_", "RAY_"))}
        self._environ = {
            **clean,
            **own,
            "COSYSERVE_API_KEYS": KEY,
            "COSYSERVE_STATE_DIR": str(folder / "state"),
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_worker_niceness": "0",
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": secrets.token_hex(32),
            # A host that is lost is known to be after half a minute, and one that is only busy is not.
            "RAY_health_check_period_ms": "1000",
            "RAY_health_check_timeout_ms": "10000",
            "RAY_health_check_failure_threshold": "3",
            # Serve kills a proxy that does not start in five seconds, which it may not on a busy machine.
            "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": str(HANGS),
            "RAY_SERVE_PROXY_HEALTH_CHECK_TIMEOUT_S": str(HANGS),
            # A server or replica that does not say within 0.1 seconds how much it has to do is passed over for another.
            "RAY_SERVE_QUEUE_LENGTH_RESPONSE_DEADLINE_S": "10",
            "RAY_SERVE_MAX_QUEUE_LENGTH_RESPONSE_DEADLINE_S": "10",
        }
        self.folder = folder
        self.head = Host(f"cosyhead{os.getpid()}", "10.99.0.1", folder)
        self.other = Host(f"cosyother{os.getpid()}", "10.99.0.2", folder)
        self._start()

    def _start(self) -> None:
        ends = [(host, f"c{index}-{os.getpid()}") for index, host in enumerate((self.head, self.other))]
        cable = ["type", "veth", "peer", "name", ends[1][1], "netns", ends[1][0].name]
        _ip("link", "add", ends[0][1], "netns", ends[0][0].name, *cable)
        for host, end in ends:
            _ip("-n", host.name, "addr", "add", f"{host.address}/24", "dev", end)
            for device in ("lo", end):
                _ip("-n", host.name, "link", "set", device, "up")
        store = "--object-store-memory=100000000"
        head = ["--head", "--port=6379", f"--temp-dir=/tmp/ray-{os.getpid()}", "--include-dashboard=true"]
        for host, role in ((self.head, head), (self.other, [f"--address={self.head.address}:6379"])):
            own = [f"--node-ip-address={host.address}", "--num-cpus=2", store]
            host.runs(str(_BIN / "ray"), "start", *role, *own, environ=self._environ)

    def deploy(self, configuration: str) -> None:
        file = self.folder / "cosyserve.yaml"
        file.write_text(configuration)
        command = [str(_BIN / "serve"), "deploy", "--address", "http://127.0.0.1:8265", str(file)]
        # Serve gives its proxies a minute to start, which on a busy machine is too little; they go on starting.
        while "HTTP proxies not available" in (failed := self.head.tries(*command, environ=self._environ)):
            pass
        assert not failed, failed

    def ready(self, host: Host | None = None) -> int:
        """How many replicas are, as told by the host's server, by default the head's; 0 where nothing answers."""
        return self._told("replicas_ready", host or self.head)

    def streams(self) -> int:
        """How many the head's server has given a place."""
        return self._told("active_streams", self.head)

    def _told(self, what: str, host: Host) -> int:
        def ask() -> int:
            try:
                asked = httpx.get(f"{host.url}/readyz", timeout=HANGS, headers={"Authorization": f"Bearer {KEY}"})
                return int(asked.json()[what])
            except (httpx.TransportError, ValueError, KeyError):
                return 0

        return self.head.inside(ask)

    def wait_for(self, replicas: int, *hosts: Host) -> None:
        """Until each of these hosts' servers, by default the head's, knows of so many."""
        for host in hosts or (self.head,):
            eventually(partial(self._knows, host, replicas))

    def _knows(self, host: Host, replicas: int) -> bool:
        return self.ready(host) == replicas

    def unplug(self) -> None:
        """The other host is not reachable any more, and nobody is told."""
        _ip("-n", self.other.name, "link", "set", f"c1-{os.getpid()}", "down")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.head.close()
        self.other.close()


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True)
