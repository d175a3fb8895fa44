"""How a failure is sent: in OpenAI's format, with the remedy and the Chinese text."""

import json
import logging
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request, Response, WebSocket
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from cosyserve import errors
from cosyserve.errors import CosyError, Fault
from cosyserve.server.fields import unfit
from cosyserve.server.quotas import QuotaError
from cosyserve.server.service import key_of, service_of
from cosyserve.traces.span import current

log = logging.getLogger(__name__)

_TYPES = {401: "authentication_error", 429: "rate_limit_error"}
_BY_STATUS: dict[int, Fault] = {404: errors.ROUTE_UNKNOWN, 405: errors.METHOD_UNKNOWN}


class ErrorDetail(BaseModel):
    message: str
    type: str
    param: str | None
    code: str
    remedy: str
    message_zh: str
    remedy_zh: str


class ErrorBody(BaseModel):
    error: ErrorDetail


# For the `responses` of a route: what it can answer besides success.
RESPONSES: dict[int | str, dict[str, Any]] = {
    status: {"model": ErrorBody, "description": HTTPStatus(status).phrase}
    for status in (400, 401, 404, 409, 413, 429, 500, 503, 507)
}


def as_cosy_error(problem: Exception) -> CosyError:
    """What the client is told; the rest goes to the log."""
    if isinstance(problem, CosyError):
        return problem
    log.error("Synthesis failed", exc_info=problem)
    return CosyError(errors.SYNTHESIS_FAILED)


def body_of(error: CosyError) -> dict[str, Any]:
    status = error.fault.status
    kind = _TYPES.get(status, "server_error" if status >= 500 else "invalid_request_error")
    return {
        "error": {
            "message": f"{error.cause} {error.remedy}",
            "type": kind,
            "param": error.param,
            "code": error.fault.id,
            "remedy": error.remedy,
            "message_zh": error.cause_zh,
            "remedy_zh": error.remedy_zh,
        }
    }


def response_of(error: CosyError) -> Response:
    headers = {"Retry-After": str(error.retry_after)} if error.retry_after else {}
    if isinstance(error, QuotaError):
        headers |= error.headers
    if error.fault is errors.KEY_REFUSED:
        headers["WWW-Authenticate"] = "Bearer"
    content = json.dumps(body_of(error), ensure_ascii=True)  # ASCII: even half a surrogate can be sent
    return Response(content, error.fault.status, headers, "application/json")


def invalid(error: RequestValidationError) -> CosyError:
    """Names the first field that does not fit; never repeats its value."""
    first = error.errors()[0]
    location = [str(part) for part in first["loc"][1:]]
    if first["type"] == "json_invalid" or not location:
        return CosyError(errors.REQUEST_INVALID, details="the body must be a JSON object, sent as application/json")
    return unfit(first, location, errors.REQUEST_INVALID)


def install(app: FastAPI) -> None:
    """Make every failure of the application and of its framework answer in this format."""

    def answer(request: Request, error: CosyError) -> Response:
        route = request.scope.get("route")
        if "speech" in getattr(route, "tags", ()):
            metrics = service_of(request).metrics
            metrics.count(request.scope["route"].path, outcome_of(error), key_of(request).name)
        _tell_trace(error)
        return response_of(error)

    @app.exception_handler(CosyError)
    async def ours(connection: Request | WebSocket, error: CosyError) -> Response | None:
        if isinstance(connection, WebSocket):  # before it was accepted: the handshake is refused
            _tell_trace(error)
            await connection.send_denial_response(response_of(error))
            return None
        return answer(connection, error)

    @app.exception_handler(RequestValidationError)
    async def malformed(request: Request, error: RequestValidationError) -> Response:
        return answer(request, invalid(error))

    @app.exception_handler(HTTPException)
    async def framework(request: Request, error: HTTPException) -> Response:
        if isinstance(error.__cause__, CosyError):  # raised while the body was being read
            return answer(request, error.__cause__)
        fault = _BY_STATUS.get(error.status_code)
        if fault is None:
            return answer(request, CosyError(errors.REQUEST_INVALID, details=error.detail))
        response = response_of(CosyError(fault))
        if fault is errors.METHOD_UNKNOWN:
            # The framework names the methods of one route only; a path can have a route for each method.
            # As the description writes it: /voices/{name}, neither /voices/anna nor /models/{model:path}.
            path = getattr(request.scope.get("route"), "path_format", request.url.path)
            methods = app.openapi()["paths"].get(path, {"get": None})
            response.headers["Allow"] = ", ".join(sorted(method.upper() for method in methods))
        return response

    @app.exception_handler(Exception)
    async def unforeseen(request: Request, error: Exception) -> Response:
        return answer(request, CosyError(errors.INTERNAL))  # the server logs the traceback


def _tell_trace(error: CosyError) -> None:
    if error.fault.status >= 500:
        current.get().fail(error.fault.id)
    else:  # a caller's mistake is no failure of this server
        current.get().note({"error.type": error.fault.id})


def outcome_of(error: CosyError) -> str:
    """The label under which /metrics counts a request that ended with this error."""
    if isinstance(error, QuotaError):
        return "limited"
    if error.fault.status == 429:
        return "rejected"
    return "failed" if error.fault.status >= 500 else "refused"
