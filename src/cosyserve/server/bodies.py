"""Reads clients' JSON and forms within bounds, and outside the event loop if they are large."""

import asyncio
import json
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar
from urllib.parse import parse_qsl

from fastapi import Request, Response
from fastapi.routing import APIRoute
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import create_form_parser
from starlette.datastructures import FormData, Headers, UploadFile
from starlette.exceptions import HTTPException

from cosyserve import errors
from cosyserve.errors import CosyError
from cosyserve.server.service import key_of, service_of

_MOST_ESCAPED = 12  # bytes of a character: as two halves of a pair in JSON, or four in percents
_BESIDE_TEXT = 64 * 1024  # bytes of all other fields
_MOST_FIELDS = 64
_LONGEST_TYPE = 256  # characters of a media type with its parameters
# Smaller ones are parsed in less time than another thread takes to begin.
_LARGE = 16 * 1024
# One at a time: a parser in C holds the interpreter until it is done, so several would stop all streams.
_PARSING = ThreadPoolExecutor(1, thread_name_prefix="parse")

Parsed = TypeVar("Parsed")
Endpoint = TypeVar("Endpoint", bound=Callable[..., Any])

_SPEECH = "speech"  # the tag of the endpoints that answer with it
_COUNTED: set[Callable[..., Any]] = set()


def counted(endpoint: Endpoint) -> Endpoint:
    """Marks an endpoint besides those of speech that counts against the limits of a key."""
    _COUNTED.add(endpoint)
    return endpoint


def most_bytes(longest_text: int) -> int:
    """Of JSON, of a form without files, and of a socket's message, which speak so many characters at most."""
    return _MOST_ESCAPED * longest_text + _BESIDE_TEXT


async def parsed_json(data: str | bytes) -> Any:
    """Returns the value; raises ValueError for every kind of mistake."""
    return await _parsed(_json, data, len(data))


async def _parsed(parse: Callable[..., Parsed], data: Any, size: int) -> Parsed:
    if size < _LARGE:
        return parse(data)
    return await asyncio.get_running_loop().run_in_executor(_PARSING, parse, data)


def _json(data: str | bytes) -> Any:
    try:
        return json.loads(data)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


class BoundedRequest(Request):
    """A request whose body is parsed as above."""

    async def json(self) -> Any:
        try:
            return await parsed_json(await self.body())
        except ValueError as error:
            raise json.JSONDecodeError(str(error), "", 0) from None

    async def form(self, **_: Any) -> FormData:  # type: ignore[override] # FastAPI awaits it
        body = await self.body()
        media_type = self.headers.get("content-type", "")
        try:
            if len(media_type) > _LONGEST_TYPE:
                raise ValueError("its media type is too long")
            return await _parsed(_form, (media_type, body), len(body))
        except (ValueError, FormParserError) as error:
            # An HTTPException, because that is what FastAPI lets through while it reads a body.
            raise HTTPException(400) from CosyError(errors.REQUEST_INVALID, details=f"the form is malformed: {error}")


class BoundedRoute(APIRoute):
    """A route that gives its function a `BoundedRequest`. If it counts against the limits of a key, one that has no
    request left is refused before the body is read."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle, is_counted = super().get_route_handler(), _SPEECH in self.tags or self.endpoint in _COUNTED

        async def handle_bounded(request: Request) -> Response:
            if is_counted:
                service_of(request).quotas.expect(key_of(request))
            return await handle(BoundedRequest(request.scope, request.receive))

        return handle_bounded


def _form(given: tuple[str, bytes]) -> FormData:
    """The fields of a form; raises ValueError or FormParserError."""
    media_type, body = given
    kind, semicolon, parameters = media_type.partition(";")
    kind = kind.strip().lower()
    if kind == "multipart/form-data":
        return FormData(_parts(kind + semicolon + parameters, body))
    if kind == "application/x-www-form-urlencoded":
        fields = parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=_MOST_FIELDS, errors="strict")
        return FormData(dict(fields))
    return FormData()


def _parts(media_type: str, body: bytes) -> list[tuple[str, str | UploadFile]]:
    found: list[tuple[str, str | UploadFile]] = []

    def keep(name: bytes | None, value: str | UploadFile) -> None:
        if len(found) == _MOST_FIELDS:
            raise ValueError(f"more than {_MOST_FIELDS} fields")
        found.append(((name or b"").decode(), value))

    def on_field(field: Any) -> None:
        keep(field.field_name, (field.value or b"").decode())

    def on_file(file: Any) -> None:
        file.file_object.seek(0)
        name = (file.file_name or b"").decode(errors="replace")
        keep(file.field_name, UploadFile(file.file_object, size=file.size, filename=name, headers=Headers({})))

    config = {"MAX_MEMORY_FILE_SIZE": len(body) + 1}  # nothing of it goes to a disk
    parser = create_form_parser({"Content-Type": media_type.encode("latin-1")}, on_field, on_file, config=config)
    parser.write(body)
    parser.finalize()
    return found
