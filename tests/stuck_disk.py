"""A disk that has gone away: whoever asks it for a file waits in the kernel, and cannot be killed.

A FUSE file system whose server takes every request and answers none but the first. Needs root.
"""

import ctypes
import os
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_MNT_FORCE, _MNT_DETACH = 1, 2
# Of linux/fuse.h: fuse_in_header, fuse_out_header, fuse_init_out.
_REQUEST, _ANSWER, _STARTED = struct.Struct("=IIQQIIII"), struct.Struct("=IiQ"), struct.Struct("=IIIIHHIIHHI28x")
_INIT, _VERSION = 26, (7, 31)
_LONGEST_REQUEST = 1 << 20


@contextmanager
def stuck_disk(folder: Path) -> Iterator[Path]:
    """A folder that is stuck until the end of the body, which fails whatever is asked of it."""
    place = folder / "disk"
    place.mkdir()
    server = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
    library = ctypes.CDLL(None, use_errno=True)
    options = f"fd={server},rootmode=40000,user_id=0,group_id=0".encode()
    if library.mount(b"stuck", bytes(place), b"fuse", 0, options):
        raise OSError(ctypes.get_errno(), "mount")
    serving = threading.Thread(target=_serve, args=(server,), daemon=True)
    serving.start()
    try:
        yield place
    finally:
        library.umount2(bytes(place), _MNT_FORCE | _MNT_DETACH)
        serving.join()
        os.close(server)


def _serve(server: int) -> None:
    with suppress(OSError):  # at the end of the mount
        while True:
            _, operation, number, *_ = _REQUEST.unpack_from(os.read(server, _LONGEST_REQUEST))
            if operation == _INIT:
                told = _STARTED.pack(*_VERSION, 0, 0, 1, 1, 4096, 1, 1, 0, 0)
                os.write(server, _ANSWER.pack(_ANSWER.size + len(told), 0, number) + told)
