"""Bearer keys: whether the one that was sent is right."""

import hmac

from fastapi.requests import HTTPConnection

from cosyserve import errors
from cosyserve.errors import CosyError


async def require_key(connection: HTTPConnection) -> None:
    """FastAPI dependency of every route that does work or tells about it; raises `CS-AUTH-001`."""
    keys: list[str] = connection.app.state.keys
    scheme, _, given = connection.headers.get("authorization", "").partition(" ")
    sent = given.strip().encode() if scheme.lower() == "bearer" else b""
    # Every key is compared, each in constant time, so that timing tells nothing about any.
    matches = [hmac.compare_digest(sent, key.encode()) for key in keys]
    if keys and not any(matches):
        raise CosyError(errors.KEY_REFUSED)
