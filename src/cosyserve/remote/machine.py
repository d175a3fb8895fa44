"""Runs scripts on an instance: over the system's OpenSSH, or directly if this is the instance."""

import getpass
import os
import re
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from cosyserve import errors
from cosyserve.errors import CosyError
from cosyserve.remote.target import Target

_SSH_FAILED = 255  # ssh's own status; none of our scripts ends with it
_PATIENCE = 120  # seconds in which a connection that was there has to come back
_PAUSE = 1.0  # seconds between two attempts
_BUFFER = 1 << 16


class Machine(Protocol):
    def run(self, script: str, data: bytes = b"", take: Callable[[bytes], None] | None = None) -> tuple[int, bytes]:
        """Run a bash script with `data` on its standard input; returns its status and its output.

        If `take` is given, output goes to it as it comes. Raises a CosyError if the machine cannot be reached, and
        `BrokenOffError` if the connection broke off; the script may then have run, or may still be running.
        """

    def reconnect(self) -> None:
        """Wait until it can be reached again; raises `CS-DEP-007` if that takes too long."""

    def close(self) -> None: ...


class BrokenOffError(Exception):
    """The connection broke off."""


class Here:
    """This machine itself."""

    def run(self, script: str, data: bytes = b"", take: Callable[[bytes], None] | None = None) -> tuple[int, bytes]:
        status, output, _ = _ran(["bash", "-c", script], data, take, dict(os.environ))
        return status, output

    def reconnect(self) -> None:
        pass

    def close(self) -> None:
        pass


class Ssh:
    """One multiplexed connection, which ssh opens when needed and keeps for a while.

    The user's own ~/.ssh/config applies. An unknown host is remembered; a host with a different key is refused.
    """

    def __init__(
        self,
        target: Target,
        *,
        identity: Path | None = None,
        password_file: Path | None = None,
        config: Path | None = None,
    ) -> None:
        self._target = target
        self._folder = tempfile.TemporaryDirectory(prefix="cosyserve-")
        self._reached = False
        self._password = password_file
        self._options = [
            *(["-F", str(config)] if config else []),
            *(["-i", str(identity), "-o", "IdentitiesOnly=yes"] if identity else []),
            *("-p", str(target.port), "-l", target.user),
            *("-o", "StrictHostKeyChecking=accept-new"),
            *("-o", "ControlMaster=auto", "-o", f"ControlPath={self._folder.name}/%C", "-o", "ControlPersist=60"),
            *("-o", "ServerAliveInterval=5", "-o", "ServerAliveCountMax=3", "-o", "ConnectTimeout=15"),
        ]

    def run(self, script: str, data: bytes = b"", take: Callable[[bytes], None] | None = None) -> tuple[int, bytes]:
        while True:
            status, output, complaint = self._run(script, data, take)
            if status != _SSH_FAILED:
                if not self._reached and "Permanently added" in complaint:
                    print(complaint.strip().splitlines()[0], "· 已记住该主机密钥", file=sys.stderr)
                self._reached = True
                return status, output
            try:
                self._explain(complaint)
            except CosyError as error:
                if error.fault is not errors.LOGIN_REFUSED or self._password or not self._ask_for_password():
                    raise
            else:
                raise BrokenOffError

    def reconnect(self) -> None:
        """Ignores ssh's error text, because a machine that boots refuses, resets and stays silent in turn."""
        deadline = time.monotonic() + _PATIENCE
        while time.monotonic() < deadline:
            time.sleep(_PAUSE)
            self._end_connection()
            if self._run("true", b"", None)[0] == 0:
                return
        raise CosyError(errors.CONNECTION_LOST, host=self._target.host, seconds=_PATIENCE)

    def close(self) -> None:
        self._end_connection()
        self._folder.cleanup()

    def _run(self, script: str, data: bytes, take: Callable[[bytes], None] | None) -> tuple[int, bytes, str]:
        argv = [
            "ssh",
            *self._options,
            *self._authentication(),
            self._target.host,
            f"exec bash -c {shlex.quote(script)}",
        ]
        environ = {**os.environ, "LC_ALL": "C"}
        if self._password:
            environ |= {"SSH_ASKPASS": str(self._asker()), "SSH_ASKPASS_REQUIRE": "force", "DISPLAY": ":0"}
        try:
            return _ran(argv, data, take, environ)
        except FileNotFoundError:
            raise CosyError(errors.NO_SSH_CLIENT) from None

    def _authentication(self) -> list[str]:
        if not self._password:
            return ["-o", "BatchMode=yes"]
        only = "keyboard-interactive,password"
        return ["-o", f"PreferredAuthentications={only}", "-o", "NumberOfPasswordPrompts=1"]

    def _asker(self) -> Path:
        """The program that gives ssh the password: from a file, because other users can see arguments and variables."""
        asker = Path(self._folder.name) / "asker"
        asker.write_text(f"#!/bin/sh\nexec cat {shlex.quote(str(self._password))}\n", encoding="utf-8")
        asker.chmod(0o700)
        return asker

    def _ask_for_password(self) -> bool:
        """Whether the user entered a password. It is asked for once, however often the connection is made."""
        if not (sys.stdin and sys.stdin.isatty()):
            return False
        password = getpass.getpass(f"Password of {self._target.user}@{self._target.host} · 密码: ")
        file = Path(self._folder.name) / "password"
        file.touch(mode=0o600)
        file.write_text(password + "\n", encoding="utf-8")
        self._password = file
        return True

    def _explain(self, complaint: str) -> None:
        """Raise if trying again would not help; a connection that worked once may come back."""
        host, port, user = self._target.host, self._target.port, self._target.user
        last = complaint.strip().rpartition("\n")[2]
        if "Could not resolve hostname" in complaint and not self._reached:
            raise CosyError(errors.HOST_UNKNOWN, host=host)
        if "HOST IDENTIFICATION HAS CHANGED" in complaint or "Host key verification failed" in complaint:
            raise CosyError(errors.HOST_KEY_CHANGED, host=host, port=port)
        if re.search(r"Permission denied|Too many authentication failures", complaint):
            raise CosyError(errors.LOGIN_REFUSED, user=user, host=host, reason=last.rpartition(": ")[2].rstrip("."))
        # Of a connection that is lost after the login ssh says nothing at all.
        if complaint.strip() and not self._reached:
            raise CosyError(errors.NO_ANSWER, host=host, port=port, reason=last.strip().rpartition(": ")[2])

    def _end_connection(self) -> None:
        with suppress(OSError):
            subprocess.run(  # noqa: S603
                ["ssh", *self._options, "-O", "exit", self._target.host],  # noqa: S607
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                check=False,
            )


def _ran(
    argv: list[str], data: bytes, take: Callable[[bytes], None] | None, environ: dict[str, str]
) -> tuple[int, bytes, str]:
    """Status, output and error output of a command. Errors go to a file, because ssh's master keeps the pipe open."""
    with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as complaints:
        given.write(data)
        given.seek(0)
        process = subprocess.Popen(  # noqa: S603 - argv is ssh's or bash's, with a script of ours
            argv, env=environ, stdin=given, stdout=subprocess.PIPE, stderr=complaints, start_new_session=True
        )
        assert process.stdout is not None  # noqa: S101 - a pipe was asked for
        output = b""
        try:
            while piece := os.read(process.stdout.fileno(), _BUFFER):
                if take is None:
                    output += piece
                else:
                    take(piece)
            process.wait()
        finally:
            process.kill()
            process.wait()
            process.stdout.close()
        complaints.seek(0)
        return process.returncode, output, complaints.read().decode(errors="replace")
