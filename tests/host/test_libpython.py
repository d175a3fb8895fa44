"""Python's own library, which a linker does not find: the import of the stand-in for TensorRT-LLM fails without us."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from cosyserve.host import cure, libpython
from tests.cosyvoice.trtllm.conftest import environment
from tests.running import ROOT, leave_out

VERSION = "9.99"
NAMES = f"libpython{VERSION}.so.1.0", f"libpython{VERSION}.so"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where the library of a Python of an odd version lies, which no linker knows of."""
    if shutil.which("gcc") is None:
        leave_out("there is no gcc, which makes the library on the spot")
    folder = tmp_path / "lib"
    folder.mkdir()
    library = folder / NAMES[0]
    subprocess.run(["gcc", "-shared", "-x", "c", "/dev/null", f"-Wl,-soname,{NAMES[0]}", "-o", library], check=True)
    (folder / NAMES[1]).symlink_to(library)
    return folder


def imported(folder: Path, before: str, names: tuple[str, ...] = NAMES, libraries: str = "") -> str:
    """What goes wrong when a child does `before` and then loads the names as TensorRT-LLM does; empty if nothing."""
    patch = f"from pathlib import Path; from cosyserve.host import libpython; libpython.NAMES = {NAMES}; "
    patch += f"libpython.folders = lambda: [Path({str(folder)!r})]; "
    load = "; ".join(f"ctypes.cdll.LoadLibrary({name!r})" for name in names)
    done = subprocess.run(
        [sys.executable, "-c", f"import ctypes; {patch}{before}; {load}"],
        env={**os.environ, "PYTHONPATH": str(ROOT / "src"), "LD_LIBRARY_PATH": libraries},
        capture_output=True,
        text=True,
    )
    return done.stderr


def test_the_library_that_1_0_is_linked_to_is_loaded_before(folder: Path) -> None:
    assert NAMES[0] in imported(folder, "pass", NAMES[:1])
    assert imported(folder, "libpython.load()", NAMES[:1]) == ""


def test_the_name_without_a_version_needs_its_folder_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """1.2 opens it by name, and no library has that name written in it."""
    assert NAMES[1] in imported(folder, "libpython.load()")
    monkeypatch.setattr(libpython, "NAMES", NAMES)
    monkeypatch.setattr(libpython, "folders", lambda: [folder])
    around = cure.Surroundings(None, "", 1, (libpython.folder_to_name(),))
    named = cure.cured(os.environ, around)["LD_LIBRARY_PATH"]
    assert imported(folder, "libpython.load()", libraries=named) == ""


def test_what_is_found_needs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(libpython, "NAMES", ("libc.so.6",))
    assert libpython.folder_to_name() == ""
    monkeypatch.setattr(libpython, "NAMES", ("libpython-nowhere.so",))
    assert libpython.folder_to_name() == ""  # nothing would help
    libpython.load()


def test_the_stand_in_loads_both_names_and_asks_for_a_toolkit(folder: Path) -> None:
    def fails(**variables: str) -> str:
        environ = {**os.environ, **environment(), "STANDIN_MPI": "none", **variables}
        if "CUDA_HOME" not in variables:
            environ.pop("CUDA_HOME", None)
        done = subprocess.run(
            [sys.executable, "-c", "import tensorrt_llm"], env=environ, capture_output=True, text=True
        )
        return done.stderr

    assert "libpython" in fails(STANDIN_LIBPYTHON=VERSION)
    assert fails(STANDIN_LIBPYTHON=VERSION, LD_LIBRARY_PATH=str(folder)) == ""
    assert "CUDA_HOME" in fails(STANDIN_CUDA_HOME="", PATH="")
    assert fails(STANDIN_CUDA_HOME="", PATH="", CUDA_HOME="/anywhere") == ""
