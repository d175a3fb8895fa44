"""Events as they are written: a line of JSON that names the type, then as many bytes of data (JSON, too) and of payload
as the line says. Older clients have the data in the line itself."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import anyio
from pydantic import Field, ValidationError

from cosyserve import errors
from cosyserve.errors import CosyError
from cosyserve.server.bodies import parsed_json
from cosyserve.server.connections import Limits
from cosyserve.server.fields import Body, ShortText, unfit

VERSION = "1.10.2"  # of the protocol's library that this was written for

_FIRST = b"{"  # of every event; a browser's or a port scanner's request begins otherwise
_PIECE = 64 * 1024
_MOST_FIELDS = 64


@dataclass(frozen=True)
class Event:
    type: str
    data: Mapping[str, Any] = field(default_factory=dict)
    payload: bytes = b""

    def written(self) -> bytes:
        """ASCII, because what is said of an event may repeat half a surrogate of it."""
        data = json.dumps(self.data).encode() if self.data else b""
        lengths = {"data_length": len(data), "payload_length": len(self.payload)}
        given = {name: length for name, length in lengths.items() if length}
        return json.dumps({"type": self.type, "version": VERSION, **given}).encode() + b"\n" + data + self.payload


class Head(Body):
    """The line of an event."""

    type: ShortText
    data: dict[str, Any] = Field(default_factory=dict)
    data_length: int = Field(0, ge=0)
    payload_length: int = Field(0, ge=0)


class Reader:
    """The events that a client sends, each of at most `longest` bytes. Payloads are read and dropped: nothing that a
    client may ask for here has one."""

    def __init__(self, stream: asyncio.StreamReader, longest: int, limits: Limits) -> None:
        """`stream` has `longest` as its limit."""
        self._stream, self._longest, self._limits = stream, longest, limits

    async def read(self) -> Event | None:
        """The next event; None where the client has left. It may take its time before it begins an event, but not
        within one: raises `CS-REQ-007`, and `CS-WYO-…` for what is no event."""
        try:
            first = await self._stream.readexactly(len(_FIRST))
            if first != _FIRST:
                raise CosyError(errors.WYOMING_EVENT, details="it does not begin with a JSON object")
            with anyio.fail_after(self._limits.body_seconds):
                head = await self._head(first)
            size = head.data_length + head.payload_length
            with anyio.fail_after(self._limits.body_seconds + size / self._limits.body_bytes_per_second):
                data = await self._data(head)
                async for _ in self._pieces(head.payload_length):
                    pass
        except TimeoutError:
            raise CosyError(errors.REQUEST_SLOW) from None
        except (asyncio.IncompleteReadError, OSError):
            return None
        return Event(head.type, data)

    async def _head(self, first: bytes) -> Head:
        try:
            line = await self._stream.readuntil(b"\n")
        except asyncio.LimitOverrunError:
            raise CosyError(errors.WYOMING_EVENT_SIZE, limit=self._longest) from None
        head: Head = valid(Head, await self._fields(first + line))
        _expect_few(head.data)
        if max(head.data_length, head.payload_length) > self._longest:
            raise CosyError(errors.WYOMING_EVENT_SIZE, limit=self._longest)
        return head

    async def _data(self, head: Head) -> Mapping[str, Any]:
        if not head.data_length:
            return head.data
        data = b"".join([piece async for piece in self._pieces(head.data_length)])
        return {**head.data, **await self._fields(data)}

    async def _pieces(self, length: int) -> AsyncIterator[bytes]:
        """So many bytes; raises `TimeoutError` if none come for too long."""
        while length:
            with anyio.fail_after(self._limits.stall_seconds):
                piece = await self._stream.read(min(length, _PIECE))
            if not piece:
                raise asyncio.IncompleteReadError(b"", length)
            length -= len(piece)
            yield piece

    async def _fields(self, text: bytes) -> dict[str, Any]:
        """A JSON object, which may have anything in its fields."""
        try:
            fields = await parsed_json(text)
        except ValueError as error:
            raise CosyError(errors.WYOMING_EVENT, details=f"it is not JSON: {error}") from None
        if not isinstance(fields, dict):
            raise CosyError(errors.WYOMING_EVENT, details="its data is not a JSON object")
        _expect_few(fields)
        return fields


def _expect_few(fields: Mapping[str, Any]) -> None:
    if len(fields) > _MOST_FIELDS:
        raise CosyError(errors.WYOMING_EVENT, details=f"it has {len(fields)} fields")


def valid(kind: type[Body], data: Any) -> Any:
    """`data` as `kind`; raises `CS-WYO-004` or what is more specific."""
    try:
        return kind.model_validate(data)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise unfit(first, [str(part) for part in first["loc"]], errors.WYOMING_EVENT) from None
