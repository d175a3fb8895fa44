"""Runs the application under uvicorn, from the first bound socket to the last finished stream."""

import asyncio
import logging
import signal
import socket
from functools import partial
from types import FrameType

import anyio
import uvicorn
from fastapi import FastAPI

from cosyserve import logs
from cosyserve.host.wsl import windows_address
from cosyserve.launch.heartbeat import to_supervisor
from cosyserve.launch.ledger import Ledger
from cosyserve.machine import Machine
from cosyserve.server import published
from cosyserve.server.accepting import stop_accepting
from cosyserve.server.app import create_app
from cosyserve.server.bodies import most_bytes
from cosyserve.server.connections import Connections, limits_of
from cosyserve.server.fleet import ALONE, Fleet
from cosyserve.server.handover import Inheritance, Offer, inherit
from cosyserve.server.heartbeat import send_heartbeats
from cosyserve.server.http_protocol import Http
from cosyserve.server.listening import listen as listen
from cosyserve.server.listening import url_of as url_of
from cosyserve.server.service import ServerState, Service
from cosyserve.server.socket_protocol import Socket
from cosyserve.server.wyoming import address
from cosyserve.server.wyoming.server import Wyoming
from cosyserve.settings import Settings
from cosyserve.speech.choice import Choice

log = logging.getLogger(__name__)

# Longer than uvicorn keeps a connection on which nothing is asked.
_SEE_OFF_SECONDS = 10
_LOOK_SECONDS = 0.5
# A message that is too long is answered with an error; one that is so many times too long ends its socket.
_READ_TO_REFUSE = 4
_ACCEPTED_AT_ONCE = 16  # connections, before others get a turn
_QUEUE = 2048  # connections that the system holds until then


class DrainingServer(uvicorn.Server):
    """On the first signal stops listening and lets running streams finish; on the second exits at once.

    By itself, uvicorn would cut WebSockets off, and it does not know the queue of waiting requests.
    """

    def __init__(
        self,
        config: uvicorn.Config,
        service: Service,
        heritage: Inheritance | None = None,
        wyoming: Wyoming | None = None,
    ) -> None:
        super().__init__(config)
        self._service, self._heritage, self._wyoming = service, heritage, wyoming
        self._offer: Offer | None = None
        self._draining: asyncio.Task[None] | None = None
        self._supervisor = to_supervisor()
        self._heartbeats: asyncio.Task[None] | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started and sockets:
            sockets[0].listen(_QUEUE)
            if self._wyoming is not None:
                await self._wyoming.start()
            other = self._wyoming.bound if self._wyoming is not None else None
            self._offer = Offer(self._service.settings.state_dir, sockets[0], self._retire, other)
            if self._heritage is not None:
                self._heritage.retire_predecessor()
        if self._supervisor is not None and sockets:
            self._supervisor.address = _where(self._service.settings, sockets[0])
        if self._supervisor is not None:
            heartbeats = send_heartbeats(self._service, self._supervisor, self._leave_idle, self._stop)
            self._heartbeats = asyncio.create_task(heartbeats)
        if self.started and sockets:  # only now does the address answer
            logs.announcements.info("%s\n%s", self._service.choice.why, self._service.choice.why_zh)
            log.info("Listening on %s and warming up", url_of(sockets[0]))

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        await super().serve(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._loop.call_soon_threadsafe(self._drain_or_leave, sig, frame)

    def _drain_or_leave(self, sig: int, frame: FrameType | None) -> None:
        if self._draining is None and self.started:
            log.info("Stopping: running streams have %g s to finish", self._service.settings.grace_seconds)
            self._draining = asyncio.create_task(self._drain(ServerState.STOPPING))
        else:
            super().handle_exit(sig, frame)

    def _leave_idle(self) -> None:
        if self._draining is None:
            log.warning("No request came for %g minutes", self._service.settings.idle_shutdown_minutes)
            self._draining = asyncio.create_task(self._drain(ServerState.IDLE))

    def _stop(self) -> None:
        self._drain_or_leave(signal.SIGTERM, None)

    def _retire(self) -> None:
        """Called in the offer's thread, once a successor accepts from the same socket."""
        self._loop.call_soon_threadsafe(self._leave_to_successor)

    def _leave_to_successor(self) -> None:
        if self._draining is None:
            log.info("Another server has taken over; this one finishes its running streams")
            self._draining = asyncio.create_task(self._drain(ServerState.RETIRING))

    async def _see_off(self) -> None:
        """Clients that connected before the successor came may be about to send a request."""
        self._service.state = ServerState.RETIRING
        with anyio.move_on_after(_SEE_OFF_SECONDS):
            while True:
                await anyio.sleep(_LOOK_SECONDS)
                if not self.server_state.connections:
                    return

    async def _drain(self, state: ServerState) -> None:
        if self._supervisor is not None:
            self._supervisor.send(state.value)  # now: the next heartbeat may come too late
        if self._offer is not None:
            self._offer.close()
        await stop_accepting(self.servers)
        if self._wyoming is not None:
            await self._wyoming.close()
        if state is ServerState.RETIRING:
            await self._see_off()
        await self._service.drain(state)
        if self._wyoming is not None:
            await self._wyoming.stop()
        self.should_exit = True


def _where(settings: Settings, bound: socket.socket) -> str:
    """The address for people, and the one for a browser in Windows."""
    windows = windows_address(Machine(), bound.getsockname()[1])
    return published.where(settings, bound) + (f" (in Windows: {windows})" if windows else "")


def config_of(app: FastAPI, settings: Settings, connections: Connections) -> uvicorn.Config:
    """uvicorn with our bounds on connections and what they send."""
    return uvicorn.Config(
        app,
        log_config=None,
        backlog=_ACCEPTED_AT_ONCE,
        access_log=False,  # the application writes its own, without queries
        http=partial(Http, connections),  # type: ignore[arg-type] # whatever makes a protocol
        ws=partial(Socket, connections),  # type: ignore[arg-type]
        ws_max_size=_READ_TO_REFUSE * most_bytes(settings.max_text_chars),
        ws_per_message_deflate=False,  # sound cannot be compressed, and a bomb could be unpacked
        server_header=False,
        # Streams had their grace time; what is left are idle keep-alive connections and cut-off streams.
        timeout_graceful_shutdown=1,
    )


def _wyoming(service: Service, heritage: Inheritance | None, connections: Connections) -> Wyoming | None:
    """The server for the Wyoming protocol if the settings ask for one, on the predecessor's socket if there is one."""
    settings = service.settings
    if settings.wyoming_port is None:
        return None
    inherited = heritage.other(settings.wyoming_host, settings.wyoming_port) if heritage else None
    return Wyoming(service, inherited or address.listen(settings, settings.wyoming_port), connections.count)


def serve(settings: Settings, choice: Choice, *, take_over: bool = False, fleet: Fleet = ALONE) -> None:
    """Serve until SIGTERM or SIGINT, then finish what runs and return. With `take_over` a server that already listens
    there continues until this one is warm, and then finishes its streams."""
    heritage = inherit(settings.state_dir, settings.host, settings.port) if take_over else None
    bound = heritage.socket if heritage else listen(settings.host, settings.port)
    app = create_app(settings, choice, warm_first=heritage is not None, fleet=fleet)
    supervisor = to_supervisor()
    connections = Connections(limits_of(settings))
    if supervisor is not None:
        connections.count = Ledger(supervisor.folder).add
    config = config_of(app, settings, connections)
    service: Service = app.state.service
    wyoming = _wyoming(service, heritage, connections)
    # uvicorn raises the signal again once it has shut down; a stop that was asked for is a success.
    for sig in (signal.SIGTERM, signal.SIGINT):
        signal.signal(sig, lambda *_: None)
    DrainingServer(config, service, heritage, wyoming).run([bound])
