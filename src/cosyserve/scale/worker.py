"""The process of a replica that speaks: segments over a Unix socket, with ladder and heartbeat as any server."""

import asyncio
import json
import logging
import signal
from contextlib import AsyncExitStack, aclosing, suppress
from dataclasses import replace
from pathlib import Path

import anyio

from cosyserve import errors
from cosyserve.errors import CosyError
from cosyserve.launch.heartbeat import Sender
from cosyserve.scale.wire import DESCRIBE, END, LEARN, SEGMENT, Description, Segment, failure, receive, send, sound
from cosyserve.server.heartbeat import send_heartbeats
from cosyserve.server.service import ServerState, Service
from cosyserve.settings import Settings
from cosyserve.speech.choice import Choice
from cosyserve.speech.synthesizer import Capability, voice_of
from cosyserve.speech.voices import Entry
from cosyserve.traces import start as traces

log = logging.getLogger(__name__)


def serve(settings: Settings, choice: Choice, place: Path, supervisor: Sender) -> None:
    """Serve clients of the socket at `place`, which appears once the warm-up is over, until SIGTERM."""
    asyncio.run(_Worker(Service(settings, choice)).run(place, supervisor))


class _Worker:
    def __init__(self, service: Service) -> None:
        self._service = service
        self._stopping = asyncio.Event()

    async def run(self, place: Path, supervisor: Sender) -> None:
        loop = asyncio.get_running_loop()
        for sig in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(sig, self._stopping.set)
        heartbeats = asyncio.create_task(send_heartbeats(self._service, supervisor, lambda: None, self._stopping.set))
        await self._service.warm_up()
        if self._service.state is ServerState.READY:
            await self._listen(place)
        resting = asyncio.create_task(self._service.rest())
        await self._stopping.wait()
        resting.cancel()
        await self._service.drain()
        heartbeats.cancel()
        self._service.synthesizer.close()
        await asyncio.to_thread(traces.stop)

    async def _listen(self, place: Path) -> None:
        # Whole or absent: a client that finds the socket is answered.
        beginning = place.with_suffix(".new")
        await asyncio.start_unix_server(self._converse, beginning)
        beginning.rename(place)

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answers one request in frames; if the client disconnects, the work stops."""
        try:
            question = await receive(reader)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(_leave_with, reader, tasks.cancel_scope)
                await self._answer(question[:1], question[1:], writer)
                tasks.cancel_scope.cancel()
        except (OSError, EOFError):
            pass
        finally:
            writer.close()

    async def _answer(self, kind: bytes, held: bytes, writer: asyncio.StreamWriter) -> None:
        """Sends a failure as a frame: an answer that breaks off without its last frame means a lost worker."""
        try:
            if kind == DESCRIBE:
                await send(writer, self._description().encode())
            elif kind == LEARN:
                await anyio.to_thread.run_sync(self._learn, held)
            elif kind == SEGMENT:
                await self._speak(Segment.decode(held), writer)
        except CosyError as error:
            await send(writer, failure(error))
        except OSError:
            raise
        except Exception:
            log.exception("A segment could not be spoken")
            await send(writer, failure(CosyError(errors.INTERNAL)))
        await send(writer, END)

    async def _speak(self, segment: Segment, writer: asyncio.StreamWriter) -> None:
        synthesizer = self._service.synthesizer
        voice = voice_of(synthesizer, segment.voice)
        with traces.arrived("replica", segment.trace, {}) as span:
            chunks = synthesizer.synthesize(segment.text, voice, replace(segment.options, span=span))
            async with AsyncExitStack() as held:
                with span.begin("queue"):
                    await held.enter_async_context(self._service.admission.place())
                await held.enter_async_context(aclosing(chunks))
                async for pcm in chunks:
                    await send(writer, sound(pcm))

    def _learn(self, held: bytes) -> None:
        """Prepares a voice whose recording another process has just written to the folder of voices."""
        library = self._service.library()
        told = json.loads(held)
        file = library.folder / Path(told["file"]).name
        if not file.is_file():
            raise CosyError(errors.VOICES_NOT_SHARED, folder=library.folder)
        library.learn(Entry(told["name"], told["transcript"], file))

    def _description(self) -> Description:
        synthesizer, choice = self._service.synthesizer, self._service.choice
        return Description(
            name=synthesizer.name,
            model=synthesizer.model,
            device=synthesizer.device,
            # A segment goes to a replica in one piece.
            capabilities=tuple(each.value for each in synthesizer.capabilities - {Capability.INTERLEAVE}),
            voices=() if synthesizer.library else tuple(synthesizer.voices.values()),
            has_library=synthesizer.library is not None,
            rung=self._service.rung,
            why=choice.why,
            why_zh=choice.why_zh,
            capacity=self._service.capacity,
            kernels=synthesizer.kernels,
        )


async def _leave_with(reader: asyncio.StreamReader, scope: anyio.CancelScope) -> None:
    """A client sends nothing more; when its connection ends, so does its request."""
    with suppress(ConnectionError):  # it went while something was being sent to it
        while await reader.read(1):
            pass
    scope.cancel()
