"""A failure on its way from one process to another: nothing of it is pickled."""

import json

from cosyserve import errors
from cosyserve.errors.fault import CosyError


def packed(error: CosyError) -> bytes:
    told = {"id": error.fault.id, "param": error.param, "retry_after": error.retry_after, "facts": error.facts}
    return json.dumps(told, default=str).encode()


def unpacked(data: bytes) -> CosyError:
    told = json.loads(data)
    fault = next(fault for fault in errors.CATALOGUE if fault.id == told["id"])
    return CosyError(fault, param=told["param"], retry_after=told["retry_after"], **told["facts"])
