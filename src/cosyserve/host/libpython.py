"""Python's own library, which TensorRT-LLM loads by name at import and which no linker may know of.

1.0 is linked to the one with a version (`libpython3.12.so.1.0`); 1.1 and later also open the one without
(`libpython3.12.so`), which Debian has in libpython3-dev. conda's and uv's Pythons keep theirs beside themselves.
"""

import ctypes
import sys
import sysconfig
from pathlib import Path

_VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"
NAMES = (f"libpython{_VERSION}.so.1.0", f"libpython{_VERSION}.so")


def folders() -> list[Path]:
    """Where this Python's library may lie; what `LIBDIR` says was right where Python was built."""
    named = [Path(str(sysconfig.get_config_var("LIBDIR"))), Path(sys.base_prefix) / "lib"]
    multiarch = sysconfig.get_config_var("MULTIARCH")
    return [*named, *(folder / multiarch for folder in named if multiarch)]


def found(name: str) -> Path | None:
    return next((folder / name for folder in folders() if (folder / name).is_file()), None)


def loads(name: str) -> bool:
    """Whether the linker finds a library by its name alone."""
    try:
        ctypes.CDLL(name, ctypes.RTLD_GLOBAL)
    except OSError:
        return False
    return True


def load() -> None:
    """Load it before `import tensorrt_llm`: a library that is already loaded is found by the name written in it."""
    for name in NAMES:
        if not loads(name) and (path := found(name)):
            loads(str(path))


def folder_to_name() -> str:
    """The folder that LD_LIBRARY_PATH must contain so that both names are found; empty if they are found already or no
    folder would help. The name without a version is written in no library, so loading the library beforehand is not
    enough."""
    missing = [name for name in NAMES if not loads(name)]
    place = next((path.parent for name in missing if (path := found(name))), None)
    return "" if place is None else str(place)
