"""The SSH address of an instance, as a user writes it or pastes it from AutoDL's console."""

import re
from dataclasses import dataclass

from cosyserve import errors
from cosyserve.errors import CosyError

_HOST = r"(?P<host>[A-Za-z0-9][A-Za-z0-9.-]*|\[[0-9A-Fa-f:.]+\])"
_USER = r"(?:(?P<user>[A-Za-z_][\w.-]*)@)?"
# root@HOST:PORT, ssh://root@HOST:PORT, and the console's 'ssh -p PORT root@HOST'
_PLAIN = re.compile(rf"(?:ssh://)?{_USER}{_HOST}(?::(?P<port>\d+))?/?")
_PASTED = re.compile(rf"ssh\s+(?:-p\s*(?P<port>\d+)\s+)?{_USER}{_HOST}(?:\s+-p\s*(?P<port_behind>\d+))?")
_SSH_PORT = 22


@dataclass(frozen=True)
class Target:
    user: str
    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> "Target":
        """Raises `CS-DEP-001` if the text is not an address, or contains anything that ssh would take for an option."""
        found = _PLAIN.fullmatch(text.strip()) or _PASTED.fullmatch(text.strip())
        if found is None:
            raise CosyError(errors.TARGET_UNREADABLE, target=text)
        parts = found.groupdict()
        port = int(parts.get("port") or parts.get("port_behind") or _SSH_PORT)
        if not 0 < port < 1 << 16:
            raise CosyError(errors.TARGET_UNREADABLE, target=text)
        return cls(parts["user"] or "root", parts["host"].strip("[]"), port)

    def tunnel(self, port: int) -> str:
        """The command that forwards the server's port to this computer."""
        return tunnel(port, str(self.port), f"{self.user}@{self.host}")


def tunnel(port: int, ssh_port: str = "PORT", login: str = "root@HOST") -> str:
    """An instance does not know its address from outside, so its user fills in what is missing."""
    return f"ssh -N -L {port}:127.0.0.1:{port} -p {ssh_port} {login}"
