"""Climbs the ladder until a server runs, then keeps it up.

There is one server at a time. It reports its state over a socket (`heartbeat`). All its processes are found by a marker
in the environment, because Open MPI's daemon leaves the process group.
"""

import logging
import os
import signal
import subprocess
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import FrameType

import psutil

from cosyserve import errors, logs
from cosyserve.errors import CosyError
from cosyserve.host import child, probe
from cosyserve.host.report import NOTHING, Text
from cosyserve.launch import memory, stacks
from cosyserve.launch.flag import Flag
from cosyserve.launch.heartbeat import REASON, REASON_ZH, RESTARTS, SOCKET, Heartbeat, Receiver, new_folder
from cosyserve.launch.ladder import Rung
from cosyserve.launch.ledger import Ledger
from cosyserve.launch.output import Output
from cosyserve.settings import Settings

log = logging.getLogger(__name__)

_STOPS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_TICK = 0.2  # seconds between looks at the child and at the signals
_STOP_MARGIN = 10  # seconds beyond the grace time for the server's own end
_MISCONFIGURED = 2  # the exit status of a CosyError: another rung would end the same way
ENGINE_UNUSABLE = 33  # the exit status where an engine cannot be loaded; uvicorn has one of 3
_RESTARTS, _RESTART_WINDOW = 5, 600  # more restarts than that in so many seconds are a crash loop
_RESTARTS_WITH_MPI = 2  # more of them than that may mean that an engine crashes the process
_SAME_STOP = 1.0  # seconds: make forwards a SIGTERM that its whole group also gets, as from systemd
_AT_ONCE = 130  # the exit status of an immediate stop, as shells report it for Ctrl-C
_BACK_OFF = (1, 2, 4, 8, 16)  # seconds before each restart


class Supervisor:
    """The first signal lets the server finish, the second ends it at once.

    `mend` replaces an engine that cannot be loaded, unless the flag is set meanwhile, and returns whether it could.
    Without `keeps_up` a server that has run once is not restarted: `run` returns 1.
    """

    def __init__(
        self,
        settings: Settings,
        rungs: Sequence[Rung],
        tmpdir: str | None,
        mend: Callable[[Flag], bool] = lambda stopping: False,
        *,
        keeps_up: bool = True,
    ) -> None:
        self._keeps_up = keeps_up
        self._settings, self._rungs, self._tmpdir, self._mend = settings, rungs, tmpdir, mend
        self._breaks = 0
        self._asked_by_a_person, self._asked = False, 0.0
        self._stopping, self._at_once = Flag(), Flag()
        self._restarts, self._reason = 0, NOTHING

    def run(self) -> int:
        """Serve until told to stop. Returns the exit status: 0 for a stop that was asked for, 130 for one at once."""
        for sig in _STOPS:
            if signal.getsignal(sig) is not signal.SIG_IGN:  # nohup's, for SIGHUP
                signal.signal(sig, self._stop)
        falls: list[float] = []  # of servers, for any reason
        restarts: list[float] = []  # after falls that no request can have caused
        if not self._keeps_up and memory.falls(self._settings.state_dir, _RESTART_WINDOW) > _RESTARTS_WITH_MPI:
            self._goes_without_mpi()
        while not self._stopping.is_set():
            server = self._climb()
            if isinstance(server, Server):
                reason = server.watch(self._stopping, self._settings.heartbeat_seconds)
                if reason is None or self._stopping.is_set() or server.leaves:
                    return self._let_finish(server)
                server.end()
                reason = Text(reason.en + server.last_words, reason.zh + server.last_words)
                self._count_break(server)
            elif self._stopping.is_set() or not falls:
                return server
            else:  # it has run here, so what is in its way may pass: a port or a card that is not free yet
                reason = Text("could not be started", "无法启动")
            if not self._keeps_up:
                log.error("The server %s", reason.en)
                memory.note_fall(self._settings.state_dir, _RESTART_WINDOW)
                return 1
            falls = _recent(falls)
            if len(falls) > _RESTARTS_WITH_MPI and self._goes_without_mpi():
                falls, restarts = falls[-1:], []
            if isinstance(server, Server) and server.requests:
                # Otherwise a client that can crash the server could end it for good.
                reason = _while_it_served(reason, server.requests)
            else:
                restarts = _recent(restarts)
            if len(restarts) > _RESTARTS:
                log.error("%s", CosyError(errors.CRASH_LOOP, count=_RESTARTS, reason=reason.en, reason_zh=reason.zh))
                return 1
            log.error("The server %s; it is started again", reason.en)
            self._restarts, self._reason = self._restarts + 1, reason
            self._stopping.wait(_BACK_OFF[max(0, min(len(restarts), len(_BACK_OFF)) - 1)])
        return 0

    def _told(self) -> dict[str, str]:
        """What the next server may tell about those before it."""
        return {RESTARTS: str(self._restarts), REASON: self._reason.en, REASON_ZH: self._reason.zh}

    def _climb(self) -> "Server | int":
        """Returns the first server that becomes ready, or the exit status if none does."""
        for rung in self._rungs:
            if self._stopping.is_set():
                return 0
            try:
                server = Server(rung, self._tmpdir, self._told())
            except OSError as error:  # such as no mpirun on this machine
                log.warning("Launch method '%s' cannot be tried: %s", rung.name, error)
                continue
            failure = server.wait_until_ready(self._stopping, self._settings.ready_seconds)
            if failure is None:
                log.info("The server runs with launch method '%s': %s", rung.name, rung.why)
                memory.remember(self._settings.state_dir, rung.name)
                if server.address:
                    logs.announcements.info("CosyServe: %s", server.address)  # last, where people look for it
                return server
            if self._stopping.is_set():
                server.stop(_STOP_MARGIN, self._at_once)
                return 0
            status = server.end()
            if server.leaves:  # to a successor that came while this one warmed up
                return 0
            if status == _MISCONFIGURED:
                return status  # it has reported the problem itself
            if status == ENGINE_UNUSABLE:
                return self._climb_without(server)
            log.warning("Launch method '%s' failed: %s", rung.name, f"{failure}{server.last_words}")
        log.error("%s", CosyError(errors.NO_RUNG))
        return 1

    def _climb_without(self, server: "Server") -> "Server | int":
        """If an engine cannot be loaded, which no rung would change, it is rebuilt once; after that PyTorch is used."""
        log.error("The engine cannot be used: it does not load%s", server.last_words)
        if not self._mend(self._stopping):
            self._rungs = self._rungs[-1:]
        return self._climb()

    def _count_break(self, server: "Server") -> None:
        """After the first break of an engine the server is restarted; after the second, PyTorch is used."""
        self._breaks += server.broke
        if self._breaks > 1:
            self._goes_without_mpi()

    def _goes_without_mpi(self) -> bool:
        """Take the last rung, which has no MPI and no engine, unless it is the only one."""
        if len(self._rungs) == 1:
            return False
        log.error("It broke again: from now on the server runs without MPI and uses PyTorch")
        self._rungs = self._rungs[-1:]
        return True

    def _switch_off(self) -> int:
        """Switch the machine off, because nobody uses it and it costs money."""
        log.warning("Switching this machine off: shutdown")
        try:
            return subprocess.run(["shutdown"], stdin=subprocess.DEVNULL, check=False).returncode  # noqa: S607
        except OSError as error:
            log.error("%s", CosyError(errors.CANNOT_SWITCH_OFF, reason=error.strerror))
            return 1

    def _let_finish(self, server: "Server") -> int:
        if self._asked_by_a_person:
            log.info("Ctrl-C again stops at once / 再按一次 Ctrl-C 立即停止")
        server.stop(self._settings.grace_seconds + _STOP_MARGIN, self._at_once)
        if self._at_once.is_set():
            return _AT_ONCE
        return self._switch_off() if server.last_state == "idle" else 0

    def _stop(self, sig: int, _frame: FrameType | None) -> None:
        now = time.monotonic()
        if not self._stopping.is_set():
            self._asked = now
        elif sig != signal.SIGTERM or now - self._asked > _SAME_STOP:
            self._at_once.set()
        self._asked_by_a_person = sig == signal.SIGINT
        self._stopping.set()


def ignore_stops() -> None:
    """For a process that has stopped: Python restores the default action of signals while it exits, and one more signal
    would then change the exit status."""
    for sig in _STOPS:
        signal.signal(sig, signal.SIG_IGN)


def _recent(times: list[float]) -> list[float]:
    """Those within the window, and now."""
    now = time.monotonic()
    return [*(when for when in times if now - when < _RESTART_WINDOW), now]


class Server:
    """One start of the server on one rung, and all its processes."""

    def __init__(self, rung: Rung, tmpdir: str | None, history: Mapping[str, str]) -> None:
        self._rung, self._mark = rung, uuid.uuid4().hex
        self._folder = new_folder(tmpdir)
        self._receiver = Receiver(Path(self._folder.name))
        self._ledger = Ledger(Path(self._folder.name))
        self.requests = 0
        """The number of requests that it was serving when it ended."""
        self._last: Heartbeat | None = None
        own = {probe.MARKER: self._mark, SOCKET: self._receiver.path, "PYTHONUNBUFFERED": "1"}
        self._process = subprocess.Popen(  # noqa: S603 - argv is the ladder's
            rung.argv,
            env={**rung.environ, **history, **own},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,  # a terminal's Ctrl-C reaches the supervisor alone, which knows how to stop
            preexec_fn=child.die_with_parent,
        )
        self._output = Output(self._process.stdout, self._process.stderr)

    def wait_until_ready(self, stopping: Flag, ready_seconds: float) -> str | None:
        """None once it is ready, else what went wrong."""
        began = time.monotonic()
        while not stopping.is_set():
            self._receive()
            passed = time.monotonic() - began
            if self._last is not None and self._last.state == "ready":
                return None
            if (status := self._process.poll()) is not None:
                while self._receive():  # its last word may still be on the way
                    pass
                if self._last is not None and self._last.state == "ready":
                    return None
                return f"it ended with status {status} after {passed:.1f} s"
            if self._last is not None and self._last.state == "failed":
                return "its warm-up failed"
            limit = self._rung.seconds if self._last is None else ready_seconds
            if passed > limit:
                self._look()
                return f"it hangs, {'before MPI was up' if self._last is None else 'not ready'} after {passed:.1f} s"
        return "it was told to stop"

    def watch(self, stopping: Flag, heartbeat_seconds: float) -> Text | None:
        """What happened to it, in words that follow "the server"; None once it is told to stop."""
        silent = 0.0  # by the supervisor's own ticks: a host that slept must not be taken for a server that hangs
        while not stopping.is_set():
            if self._receive():
                silent = 0.0
                if self._last is not None and self._last.state == "stalled":
                    return Text("was stuck in its synthesis", "合成停滞")
                if self.broke:
                    return Text("lost its engine", "引擎失效")
            elif (status := self._process.poll()) is not None:
                return Text(f"ended with status {status}", f"以状态 {status} 退出")
            elif (silent := silent + _TICK) > heartbeat_seconds:
                self._look()
                seconds = f"{heartbeat_seconds:g}"
                return Text(f"sent no heartbeat for {seconds} s", f"{seconds} 秒没有心跳")
        return None

    def stop(self, seconds: float, at_once: Flag) -> None:
        """Let it finish unless `at_once` is set, then end what is left.

        The signal goes to the server itself: mpirun would kill it.
        """
        if self._last is not None:
            with suppress(psutil.Error):
                psutil.Process(self._last.pid).terminate()
            deadline = time.monotonic() + seconds
            while self._process.poll() is None and time.monotonic() < deadline and not at_once.wait(_TICK):
                pass
        self.end()

    @property
    def address(self) -> str:
        """Its address; empty if it has none."""
        return "" if self._last is None else self._last.address

    @property
    def broke(self) -> bool:
        """Whether it has reported that its engine is broken."""
        return self._last is not None and self._last.state == "broken"

    @property
    def last_state(self) -> str:
        return "" if self._last is None else self._last.state

    @property
    def leaves(self) -> bool:
        """Whether it has reported that it should not be restarted: a successor serves, or the machine is idle."""
        return self.last_state in ("retiring", "idle")

    @property
    def has_heartbeat(self) -> bool:
        """Whether it has ever sent a heartbeat, which it does once MPI is up."""
        return self._last is not None

    def join(self) -> None:
        """Let it end by itself."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(_STOP_MARGIN)

    def end(self) -> int:
        """End every process of this start that can be ended; returns the exit status of the first."""
        status = self._process.poll()
        probe.end(self._mark, session=self._process.pid)
        ended = child.end(self._process)
        self._output.close()
        self._receiver.close()
        self.requests = self._ledger.requests
        self._ledger.close()
        self._folder.cleanup()
        return ended if status is None else status

    @property
    def last_words(self) -> str:
        """The last line it wrote, in brackets; empty where it wrote none."""
        return f" ({self._output.last_words})" if self._output.last_words else ""

    def _receive(self) -> bool:
        _collect_orphans(self._process.pid)
        heartbeat = self._receiver.receive(_TICK)
        if heartbeat is not None:
            self._last = heartbeat
        return heartbeat is not None

    def _look(self) -> None:
        """Log what hangs: processes, what each waits for, its connections, and the Python stacks."""
        processes = probe.marked(self._mark)
        for stuck in filter(None, map(probe.look_at, processes)):
            log.error("    %s", stuck.line())
        for line in [*probe.python_stack(processes).splitlines(), *stacks.ask(Path(self._folder.name))]:
            log.error("    %s", line)


def _while_it_served(reason: Text, requests: int) -> Text:
    served = f"{requests} request{'s' * (requests != 1)}"
    return Text(f"{reason.en}, while it served {served}", f"{reason.zh}，当时正在处理 {requests} 个请求")


def _collect_orphans(own: int) -> None:
    """As process 1 of a container: reap dead processes whose parents are gone."""
    if os.getpid() != 1:
        return
    for orphan in psutil.Process().children():
        with suppress(psutil.Error, ChildProcessError):
            if orphan.pid != own and orphan.status() == psutil.STATUS_ZOMBIE:
                os.waitpid(orphan.pid, os.WNOHANG)
