"""The captions of speech that was asked for with `captions`: what was said when."""

from typing import Annotated, Any

from fastapi import APIRouter, Path, Request, Response

from cosyserve.server.bodies import BoundedRoute
from cosyserve.server.failures import RESPONSES
from cosyserve.server.fields import ShortText
from cosyserve.server.service import service_of
from cosyserve.speech.captions import CAPTION_FORMATS

_TEXT = {"schema": {"type": "string"}}
_OBJECT = {
    "schema": {
        "type": "object",
        "required": ["captions"],
        "properties": {
            "captions": {
                "type": "array",
                "items": {
                    "type": "object",
                    "required": ["text", "begin", "end"],
                    "properties": {"text": {"type": "string"}, "begin": {"type": "number"}, "end": {"type": "number"}},
                },
            }
        },
    }
}
_CONTENT = {fmt.media_type: _OBJECT if name == "json" else _TEXT for name, fmt in CAPTION_FORMATS.items()}
CAPTIONS: dict[int | str, dict[str, Any]] = {
    200: {"description": "The captions, in the format that was asked for", "content": _CONTENT}
}

router = APIRouter(route_class=BoundedRoute, responses=RESPONSES, tags=["captions"])


@router.get(
    "/v1/audio/captions/{id}",
    response_class=Response,
    responses=CAPTIONS,
)
async def get_captions(
    request: Request,
    id: Annotated[ShortText, Path(description="What `X-Captions-Id` said with the speech.")],  # noqa: A002
) -> Response:
    """What was said when, in speech that is complete."""
    content, fmt = service_of(request).captions.find(id)
    return Response(content, headers={"Cache-Control": "no-store"}, media_type=f"{fmt.media_type}; charset=utf-8")
