"""A client of the Wyoming protocol by which the tests say what its own library would never say."""

import asyncio
import json
from collections.abc import Iterable
from typing import Any

from cosyserve.server.wyoming.events import Event


class Client:
    """Sends events, and bytes that are none."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self.writer = reader, writer

    def send(self, kind: str, **data: Any) -> None:
        self.writer.write(Event(kind, data).written())

    async def read(self) -> Event | None:
        """The next event; None once the server has closed the connection."""
        try:
            line = await self._reader.readline()
        except ConnectionError:
            return None
        if not line:
            return None
        head = json.loads(line)
        data = await self._reader.readexactly(head.get("data_length", 0))
        payload = await self._reader.readexactly(head.get("payload_length", 0))
        return Event(head["type"], json.loads(data or "{}"), payload)

    async def answer(self) -> Event:
        event = await self.read()
        assert event is not None
        return event

    async def until(self, kind: str) -> list[Event]:
        events = [await self.answer()]
        while events[-1].type != kind:
            events.append(await self.answer())
        return events

    async def code(self) -> str:
        """The id of the error that the next event tells; the connection then ends."""
        error = await self.answer()
        assert error.type == "error", error
        assert error.data["text"]
        assert error.data["message_zh"]
        assert await self.read() is None
        return str(error.data["code"])

    @classmethod
    async def of(cls, port: int) -> "Client":
        return cls(*await asyncio.open_connection("127.0.0.1", port))

    async def __aenter__(self) -> "Client":
        return self

    async def __aexit__(self, *_: object) -> None:
        self.writer.transport.abort()


def audio(events: Iterable[Event]) -> bytes:
    return b"".join(event.payload for event in events if event.type == "audio-chunk")
