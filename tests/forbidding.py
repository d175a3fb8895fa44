"""Runs a command to which the kernel refuses system calls: `python -m tests.forbidding link=refuse rename=kill -- …`.

A file system without hard links refuses them with EPERM, and so does a seccomp filter, which needs no root and no disk.
With `kill` the process ends at the call, as if the machine had stopped there.
"""

import ctypes
import errno
import os
import platform
import struct
import sys

# From the kernel's unistd.h; glibc has one function for each line, and takes whichever there is.
_CALLS = {
    "x86_64": {"link": (86, 265), "rename": (82, 264, 316), "flock": (73,)},
    "aarch64": {"link": (37,), "rename": (38, 276), "flock": (32,)},
}
_PR_SET_NO_NEW_PRIVS, _PR_SET_SECCOMP, _FILTER = 38, 22, 2
_LOAD, _EQUAL, _RETURN = 0x20, 0x15, 0x06  # BPF: ld [k]; jeq k, true, false; ret k
_ALLOW, _WHAT = 0x7FFF0000, {"refuse": 0x00050000 | errno.EPERM, "kill": 0x80000000}  # seccomp(2)


def forbid(wishes: dict[str, str]) -> None:
    """From now on, for this process and all that it starts."""
    program = [struct.pack("=HBBI", _LOAD, 0, 0, 0)]  # the number of the call
    for call, what in wishes.items():
        for number in _CALLS[platform.machine()][call]:
            program.append(struct.pack("=HBBI", _EQUAL, 0, 1, number))
            program.append(struct.pack("=HBBI", _RETURN, 0, 0, _WHAT[what]))
    program.append(struct.pack("=HBBI", _RETURN, 0, 0, _ALLOW))
    code = ctypes.create_string_buffer(b"".join(program))
    described = ctypes.create_string_buffer(struct.pack("@HP", len(program), ctypes.addressof(code)))
    library = ctypes.CDLL(None, use_errno=True)
    for arguments in ((_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), (_PR_SET_SECCOMP, _FILTER, described, 0, 0)):
        if library.prctl(*arguments):
            raise OSError(ctypes.get_errno(), "prctl")


if __name__ == "__main__":
    split = sys.argv.index("--")
    forbid(dict(wish.split("=") for wish in sys.argv[1:split]))
    os.execvp(sys.argv[split + 1], sys.argv[split + 1 :])  # noqa: S606 - a test's own command
