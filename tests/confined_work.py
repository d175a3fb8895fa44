"""What the children of `test_confined` do."""

import os
import signal
import time

from cosyserve import errors
from cosyserve.errors import CosyError


def obey(asked: bytes) -> bytes:
    match asked:
        case b"who":
            return str(os.getpid()).encode()
        case b"take memory":
            return bytes(1 << 30)
        case b"calculate":
            while True:
                pass
        case b"sleep":
            time.sleep(3600)
        case b"crash":
            os.kill(os.getpid(), signal.SIGSEGV)
        case b"raise":
            raise ValueError("as it was told")
        case b"refuse":
            raise CosyError(errors.RECORDING_RATE, param="audio", rate=8_000, lowest=16_000)
    return asked
