"""How this very command is typed here: a clone's lies in its environment, an image's on the PATH."""

import shlex
import shutil
import sys
from pathlib import Path

_NAME = "cosyserve"


def command() -> str:
    """`cosyserve` where a shell finds this one by that name, else the path from the working directory."""
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
