"""What this process does with the host's memory."""

import ctypes
import os
from contextlib import suppress


def give_memory_back() -> None:
    """To the system: what has been freed, the C library would keep for the next time."""
    with suppress(AttributeError):  # glibc alone has it
        ctypes.CDLL(None).malloc_trim(0)


def free_bytes() -> int:
    """That nobody uses, not even for files that may be read again."""
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
