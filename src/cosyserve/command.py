"""How the `cosyserve` command is typed here: in a clone by its environment's path, for an image inside a container."""

import os
import shlex
import shutil
import socket
import sys
from pathlib import Path

from cosyserve.machine import IMAGE, Machine, Platform, platform_of

_NAME = "cosyserve"


def command() -> str:
    """`cosyserve` if a shell finds this installation by that name, else its path from the working directory."""
    if IMAGE in os.environ:
        return into_container() + _NAME
    ours = Path(sys.executable).with_name(_NAME)
    if not ours.exists():
        return f"{shlex.quote(sys.executable)} -m {_NAME}"
    found = shutil.which(_NAME)
    try:
        if found is not None and Path(found).samefile(ours):
            return _NAME
        ours = ours.relative_to(Path.cwd())
    except (OSError, ValueError):  # a working directory that is gone, or another branch
        pass
    return shlex.quote(str(ours))


def into_container() -> str:
    """The prefix of a command that is typed outside this container, whose name is its host name by default; empty if
    this is not a container of a CosyServe image."""
    if IMAGE not in os.environ:
        return ""
    if platform_of(Machine()) is Platform.KUBERNETES:
        return f"kubectl exec {socket.gethostname()} -- "
    return f"docker exec {socket.gethostname()} "
