"""What the fields of requests may contain, the same for JSON, forms, queries and messages."""

import inspect
from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeVar

from fastapi import Depends, Form, Query
from fastapi.exceptions import RequestValidationError
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    model_validator,
)
from pydantic_core import CoreSchema, PydanticCustomError

from cosyserve import errors
from cosyserve.errors import CosyError
from cosyserve.text.checks import LONGEST_FIELD, checked_piece

Value = TypeVar("Value")

_TOO_LONG = "string_too_long"
_UNENCODABLE = "string_unicode"  # pydantic's own, for half a surrogate pair


def _encodable(text: str) -> str:
    try:
        return checked_piece(text)
    except CosyError as error:
        raise PydanticCustomError(_UNENCODABLE, "{cause}", {"cause": error.cause}) from None


# Any text but the one that is spoken, whose limit is a setting.
ShortText = Annotated[str, Field(max_length=LONGEST_FIELD), AfterValidator(_encodable)]
# Before a Literal: its values may be written in any case.
AnyCase = BeforeValidator(lambda value: value.strip().lower() if isinstance(value, str) else value)
# What the text that is spoken is written in (docs/text.md); plain text is the default.
InputFormat = Annotated[Literal["text", "ssml", ""], AnyCase]


class Body(BaseModel):
    """A JSON object. Typed clients send null for fields that were not given, so null counts as missing."""

    model_config = ConfigDict(strict=True)

    @model_validator(mode="before")
    @classmethod
    def _without_nulls(cls, data: Any) -> Any:
        if isinstance(data, dict):
            return {name: value for name, value in data.items() if value is not None}
        return data

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        schema = handler(core_schema)
        described = handler.resolve_ref_schema(schema)
        for name, field in described.get("properties", {}).items():
            if name not in described.get("required", ()) and {"type": "null"} not in field.get("anyOf", ()):
                described["properties"][name] = {"anyOf": [field, {"type": "null"}]}
        return schema


def unfit(details: Mapping[str, Any], location: list[str], fault: errors.Fault) -> CosyError:
    """What pydantic found wrong with the field at `location`; `fault` if the catalogue has nothing more specific."""
    field = ".".join(location)[:100]
    param = location[0][:100] if location else None
    if details["type"] == _TOO_LONG:
        length, limit = len(details["input"]), details["ctx"]["max_length"]
        return CosyError(errors.FIELD_TOO_LONG, param=param, field=param, length=length, limit=limit)
    if details["type"] == _UNENCODABLE:
        return CosyError(errors.TEXT_UNENCODABLE, param=param)
    return CosyError(fault, param=param, details=f"{field or 'message'}: {details['msg']}")


def form_or_query(name: str, *, required: bool = False, spoken: bool = False) -> Any:
    """A dependency: the text that the form gives as `name`, else the query, else "".

    A query is all that an `<audio src>` can send. The API's description shows both locations.
    """
    kind: Any = str if spoken else ShortText

    def text(
        form: Annotated[str | None, _given(name, kind, Form(None))],
        query: Annotated[str | None, _given(name, kind, Query(None))],
    ) -> str:
        given = query if form is None else form
        if given is None and required:
            raise RequestValidationError([{"type": "missing", "loc": ("body", name), "msg": "Field required"}])
        return given or ""

    return Depends(text)


def flag(name: str) -> Any:
    """A dependency: whether the form, else the query, says yes to `name`; yes is the default."""

    def said(
        form: Annotated[bool | None, _given(name, bool, Form(None))],
        query: Annotated[bool | None, _given(name, bool, Query(None))],
    ) -> bool:
        given = query if form is None else form
        return given is not False

    return Depends(said)


def ssml() -> Any:
    """A dependency: whether the form, else the query, says that the text is written in SSML."""

    def said(
        form: Annotated[str | None, _given("input_format", InputFormat, Form(None))],
        query: Annotated[str | None, _given("input_format", InputFormat, Query(None))],
    ) -> bool:
        return (query if form is None else form) == "ssml"

    return Depends(said)


def _given(name: str, kind: Any, location: Any) -> Any:
    """A dependency: what one location gives as `name`."""

    def given(**fields: Any) -> Any:
        return fields[name]

    # FastAPI reads from a signature what a function takes, and here the name is known at run time only.
    parameter = inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=location, annotation=kind | None)
    given.__signature__ = inspect.Signature([parameter])  # type: ignore[attr-defined]
    return Depends(given)


# Whether a text is prepared for the voice (docs/text.md) or passed on unchanged.
Normalize = Annotated[bool, flag("normalize")]
Ssml = Annotated[bool, ssml()]


def one_of(**given: Value | None) -> Value | None:
    """The value given under one of several names of a field; raises `CS-REQ-001` if it was given twice."""
    found = {name: value for name, value in given.items() if value}
    if len(found) > 1:
        details = f"{' and '.join(given)} mean the same: give one of them"
        raise CosyError(errors.REQUEST_INVALID, param=next(iter(given)), details=details)
    return next(iter(found.values()), None)
