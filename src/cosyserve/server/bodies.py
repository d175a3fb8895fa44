"""Reads what clients send as JSON and forms, with bounds, and off the event loop where it is large."""

import asyncio
import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

# Smaller ones are parsed in less time than another thread takes to begin.
_LARGE = 16 * 1024
# One at a time: a parser in C holds the interpreter until it is done, so several would stop all streams.
_PARSING = ThreadPoolExecutor(1, thread_name_prefix="parse")


async def parsed_json(data: str | bytes) -> Any:
    """The value; raises ValueError, whatever is wrong with it."""
    if len(data) < _LARGE:
        return _parse(data)
    return await asyncio.get_running_loop().run_in_executor(_PARSING, _parse, data)


def _parse(data: str | bytes) -> Any:
    try:
        return json.loads(data)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
