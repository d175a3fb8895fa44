"""The line in the file that AutoDL's platform runs at every boot.

The file may be missing, or somebody else's: one line is added and taken out again, and nothing else is touched. It
stands at the top, since a script may end early, and does nothing once the data disk is gone.
"""

import os
import shlex
from pathlib import Path

from cosyserve.files import writing_atomically

BOOT_FILE = Path("/etc/autodl.sh")
_MARK = "# CosyServe"
_SHEBANG = "#!/bin/bash\n"


def line(script: Path) -> str:
    path = shlex.quote(str(script))
    return f"[ ! -f {path} ] || bash {path}  {_MARK}\n"


def install(script: Path, file: Path = BOOT_FILE) -> None:
    """Make the platform run `script` at boot. Raises OSError if the file cannot be written."""
    before = _read(file)
    lines = [each for each in before.splitlines(keepends=True) if not _is_ours(each)]
    if not lines:
        lines = [_SHEBANG]
    lines.insert(1 if lines[0].startswith("#!") else 0, line(script))
    if not lines[0].endswith("\n"):
        lines[0] += "\n"
    _write(file, "".join(lines), before)


def remove(file: Path = BOOT_FILE) -> None:
    """Restore the file as it would be without CosyServe; remove it if CosyServe created it."""
    before = _read(file)
    lines = before.splitlines(keepends=True)
    after = "".join(each for each in lines if not _is_ours(each))
    if after == before:
        return
    if after in ("", _SHEBANG):
        file.unlink()
    else:
        _write(file, after, before)


def _is_ours(text: str) -> bool:
    """Whether CosyServe wrote a line, for any place; a user's comment about it does not count."""
    return text.startswith("[ ! -f ") and text.rstrip("\n").endswith(f"  {_MARK}")


def installed(script: Path, file: Path = BOOT_FILE) -> bool:
    return line(script) in _read(file)


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8", errors="surrogateescape")
    except (FileNotFoundError, IsADirectoryError):  # the second cannot be written either, which is told then
        return ""


def _write(file: Path, text: str, before: str) -> None:
    """Writes the file atomically; a link stays a link, and the mode is kept."""
    if text == before:
        return
    target = file.resolve()
    mode = target.stat().st_mode & 0o777 if target.exists() else 0o755
    with writing_atomically(target, mode) as whole:
        os.fchmod(whole.fileno(), mode)  # whatever the umask
        whole.write(text.encode(errors="surrogateescape"))
