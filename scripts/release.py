#!/usr/bin/env python3
"""Make a release of what is committed:  make release VERSION=0.2.0

The version stands in src/cosyserve/__init__.py. `cosyserve --version`, the wheel, the image's label and the name of a
deployed release have it from there. CHANGELOG.md's section "Unreleased" gets the version and today's date. Both go into
one commit, which is tagged; nothing is pushed.
"""

import datetime
import os
import re
import subprocess
import sys
from pathlib import Path

_INIT, _CHANGELOG = Path("src/cosyserve/__init__.py"), Path("CHANGELOG.md")
_VERSION = re.compile(r'(?<=^__version__ = ")[^"]+(?="$)', flags=re.M)
_UNRELEASED = re.compile(r"^## Unreleased\n(?=\s*- )", flags=re.M)


def release(version: str, today: datetime.date) -> None:
    """Commit and tag it, in the working folder; ends the program where something stands against it."""
    init, changelog = _INIT.read_text(), _CHANGELOG.read_text()
    before = _VERSION.search(init)
    if before is None or not _is_next(before[0], version):
        sys.exit(f"release: VERSION is to be a version such as 1.2.3, above {before and before[0]}; it is {version!r}")
    if not _UNRELEASED.search(changelog):
        sys.exit("release: CHANGELOG.md has no section '## Unreleased' that begins with a line for users")
    if _git("status", "--porcelain"):
        sys.exit("release: something is not committed: git status")
    _INIT.write_text(_VERSION.sub(version, init))
    _CHANGELOG.write_text(_UNRELEASED.sub(f"## {version} ({today})\n", changelog))
    _git("commit", "--quiet", "--message", f"Release {version}", str(_INIT), str(_CHANGELOG))
    _git("tag", "--annotate", "--message", f"Release {version}", f"v{version}")
    print(f"release: committed and tagged v{version}. To publish it: git push --follow-tags")


def _is_next(before: str, version: str) -> bool:
    return bool(re.fullmatch(r"\d+\.\d+\.\d+", version)) and _numbers(version) > _numbers(before)


def _numbers(version: str) -> list[int]:
    return [int(number) for number in version.split(".")]


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], capture_output=True, text=True, check=False)  # noqa: S603, S607
    if done.returncode:
        sys.exit(f"release: git {arguments[0]} failed: {done.stderr.strip()}")
    return done.stdout


if __name__ == "__main__":
    os.chdir(Path(__file__).resolve().parent.parent)
    release(os.environ.get("VERSION", ""), datetime.date.today())
