"""How routes that answer with audio are registered and described."""

from collections.abc import Callable
from typing import Any

from fastapi import APIRouter, Response

from cosyserve.speech.encoders import FORMATS

Endpoint = Callable[..., Any]


def spoken(name: str) -> dict[str, Any]:
    """What a route takes to answer in the format `name`."""
    content = {FORMATS[name].media_type: {"schema": {"type": "string", "format": "binary"}}}
    audio: dict[int | str, dict[str, Any]] = {200: {"description": "The audio", "content": content}}
    return {"tags": ["speech"], "response_class": Response, "responses": audio}


def get_and_post(router: APIRouter, path: str, name: str) -> Callable[[Endpoint], Endpoint]:
    """Register a function for both methods: two routes, so that each has an operation id of its own."""

    def register(endpoint: Endpoint) -> Endpoint:
        for method in ("GET", "POST"):
            router.add_api_route(path, endpoint, methods=[method], **spoken(name))
        return endpoint

    return register
