"""The application: routes, the page, and the middleware around them."""

import asyncio
import base64
import hashlib
import logging
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from fastapi import FastAPI, WebSocket
from fastapi.openapi.utils import get_openapi
from starlette.responses import FileResponse, HTMLResponse, Response
from starlette.staticfiles import StaticFiles

from cosyserve import __version__, errors
from cosyserve.errors import CosyError
from cosyserve.machine import Machine
from cosyserve.server import failures
from cosyserve.server.bodies import most_bytes
from cosyserve.server.captions import HEADER as CAPTIONS_HEADER
from cosyserve.server.door import Cors, Door
from cosyserve.server.fleet import ALONE, Fleet
from cosyserve.server.jobs.runner import Runner
from cosyserve.server.jobs.store import Jobs
from cosyserve.server.memory import give_back_regularly
from cosyserve.server.middleware import Addresses, BodyLimit, Envelope
from cosyserve.server.published import Host
from cosyserve.server.quotas import LIMIT_HEADERS
from cosyserve.server.routes import captions, classic, cosyvoice, jobs, lexicon, openai, ops, socket, usage, xtts
from cosyserve.server.service import ServerState, Service
from cosyserve.settings import Settings
from cosyserve.speech.choice import Choice
from cosyserve.speech.label import HEADER
from cosyserve.traces import start as traces

log = logging.getLogger(__name__)

_WEB = Path(__file__).parent / "web"
# Of newer FastAPIs, which would send queries too, and in them texts: the traces are our own. Older ones ignore it.
_NO_TELEMETRY: Any = {"tracing": False, "metrics": False, "logs": False, "auto_configure": False}


def _page_headers(page: str) -> dict[str, str]:
    """Only files of this server may be loaded, sound that the page itself has made, and the scripts in the page."""
    scripts = [
        hashlib.sha256(each.encode()).digest() for each in re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    ]
    sources = " ".join(["'self'", *(f"'sha256-{base64.b64encode(each).decode()}'" for each in scripts)])
    policy = (
        f"default-src 'self'; script-src {sources}; media-src 'self' blob:; object-src 'none'; base-uri 'none'; "
        "form-action 'none'; frame-ancestors 'none'"
    )
    return {"Cache-Control": "no-cache", "Content-Security-Policy": policy}


class _Unkept(StaticFiles):
    """Files that a browser asks about each time, so that it never mixes those of two versions."""

    def file_response(self, *arguments: Any, **named: Any) -> Response:
        response = super().file_response(*arguments, **named)
        response.headers["Cache-Control"] = "no-cache"
        return response


def create_app(settings: Settings, choice: Choice, *, warm_first: bool = False, fleet: Fleet = ALONE) -> FastAPI:
    """The server's ASGI application. It owns the synthesizer of `choice` and closes it at the end. It warms up while
    the first requests may already come, or before any of them if `warm_first` is set."""
    service = Service(settings, choice, fleet)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        warming = asyncio.create_task(service.warm_up())  # /livez answers meanwhile
        counting = asyncio.create_task(service.quotas.usage.keep())
        resting = asyncio.create_task(service.rest())
        tidying = asyncio.create_task(give_back_regularly())
        tasks = [warming, counting, resting, tidying]
        try:
            if warm_first:
                await warming
                if service.state is ServerState.FAILED:
                    raise CosyError(errors.WARMUP_FAILED)  # the server must not serve with it
            app.state.runner = Runner(service, app.state.jobs)
            tasks.append(asyncio.create_task(app.state.runner.run()))
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            service.synthesizer.close()
            await asyncio.to_thread(traces.stop)

    # FastAPI's own documentation pages load scripts from a CDN, which this server does without.
    # Redirects would repeat whatever host they were asked for and lose a proxy's prefix.
    app = FastAPI(
        title="CosyServe",
        version=__version__,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        telemetry=_NO_TELEMETRY,
    )
    app.state.service = service
    app.state.jobs = Jobs(settings)
    app.openapi = lambda: _openapi(app)  # type: ignore[method-assign]
    failures.install(app)
    # A request passes them in reverse order: the last one added comes first.
    limit = most_bytes(settings.max_text_chars)
    app.add_middleware(
        BodyLimit,
        max_bytes=limit,
        max_bytes_of_upload=settings.max_upload_bytes,
        max_bytes_at={jobs.PATH: most_bytes(settings.max_job_chars)},
    )
    host = Host(settings, Machine())
    service.keyring.open(host_needs_none=bool(host))
    app.add_middleware(Door, keyring=service.keyring, settings=settings, host=host)
    app.add_middleware(
        Cors,
        allow_origins=settings.cors_list(),
        allow_methods=["*"],
        allow_headers=["*"],
        expose_headers=[
            "X-Request-Id",
            "X-Sample-Rate",
            "X-CosyServe-Synthesizer",
            HEADER,
            CAPTIONS_HEADER,
            *LIMIT_HEADERS,
        ],
    )
    app.add_middleware(Addresses)
    app.add_middleware(Envelope)
    for room in (openai, captions, jobs, lexicon, classic, xtts, cosyvoice, socket, usage, ops):
        app.include_router(room.router)

    index = _WEB / "index.html"
    page_headers = _page_headers(index.read_text(encoding="utf-8"))

    @app.get("/", response_class=HTMLResponse)
    async def page() -> FileResponse:
        """The page."""
        return FileResponse(index, headers=page_headers)

    @app.websocket("/{path:path}")
    async def nothing_here(socket: WebSocket) -> None:
        raise CosyError(errors.ROUTE_UNKNOWN)

    app.mount("/web", _Unkept(directory=_WEB))
    return app


def _openapi(app: FastAPI) -> dict[str, Any]:
    """FastAPI's description, without the 422 it assumes: bad input is a 400 here, as in OpenAI's API."""
    if app.openapi_schema is None:
        schema = get_openapi(title=app.title, version=app.version, routes=app.routes)
        for path in schema["paths"].values():
            for operation in path.values():
                operation["responses"].pop("422", None)
        for name in ("HTTPValidationError", "ValidationError"):
            schema["components"]["schemas"].pop(name, None)
        app.openapi_schema = schema
    return app.openapi_schema
