"""Classes made from contract.json: they take what TensorRT-LLM takes, by name, place and type, and nothing else."""

import enum
import inspect
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

CONTRACT: dict[str, Any] = json.loads(Path(__file__).with_name("contract.json").read_text(encoding="utf-8"))
Parameters = Mapping[str, list[Any]]


def signature(positional: Parameters, keyword_only: Parameters, *, method: bool = False) -> inspect.Signature:
    def parameter(name: str, about: list[Any], kind: Any) -> inspect.Parameter:
        default = about[1] if len(about) > 1 else inspect.Parameter.empty
        return inspect.Parameter(name, kind, default=default)

    return inspect.Signature(
        ([inspect.Parameter("self", inspect.Parameter.POSITIONAL_ONLY)] if method else [])
        + [parameter(*each, inspect.Parameter.POSITIONAL_OR_KEYWORD) for each in positional.items()]
        + [parameter(*each, inspect.Parameter.KEYWORD_ONLY) for each in keyword_only.items()]
    )


def bound(name: str, positional: Parameters, keyword_only: Parameters, args: Any, kwargs: Any) -> dict[str, Any]:
    """The arguments of a call by name; raises TypeError where TensorRT-LLM's bindings would."""
    taken = signature(positional, keyword_only).bind(*args, **kwargs)
    taken.apply_defaults()
    types = {key: about[0] for key, about in {**positional, **keyword_only}.items()}
    for key, value in taken.arguments.items():
        if not _fits(value, types[key]):
            raise TypeError(f"{name}({key}=…) takes {types[key]}, not {type(value).__name__}")
    return dict(taken.arguments)


def _fits(value: Any, kind: str) -> bool:
    if kind.endswith("?"):
        return value is None or _fits(value, kind[:-1])
    if kind == "object":
        return True
    if kind == "float":
        return isinstance(value, int | float) and not isinstance(value, bool)
    if kind == "int":
        return isinstance(value, int) and not isinstance(value, bool)
    return any(each.__name__ == kind for each in type(value).__mro__)


class Made:
    """The base of what is made from the contract: its arguments become attributes."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        about = CONTRACT["classes"][self.path]
        taken = bound(self.path, about["positional"], about["keyword_only"], args, kwargs)
        self.__dict__.update(taken)

    path: str


def made(path: str, **members: Any) -> type[Made]:
    """The class that the contract has at `path`."""
    return type(path.rsplit(".", 1)[1], (Made,), {"path": path, **members})


def made_enum(path: str) -> type[enum.Enum]:
    values = CONTRACT["enums"][path]["values"]
    return enum.Enum(path.rsplit(".", 1)[1], values)  # type: ignore[return-value]
