"""Servers on the addresses that are given, each asked in every way in which this machine asks its own server.

Prints what came, in JSON. Inside a network namespace, nobody else reaches those that listen on all addresses.
"""

import json
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

from cosyserve.addresses import addresses_of
from cosyserve.host import system
from cosyserve.instance import servers
from cosyserve.settings import Settings
from tests.running import ROOT, Server

sys.path.insert(0, str(ROOT / "docker"))

from health import health


def asked(server: Server, host: str, state: Path) -> dict[str, object]:
    key = servers.key_of(Settings(host=host, state_dir=state))
    told = servers.readiness(host, server.port, key)
    return {
        "health": health(host, server.port, processes=state / "none"),
        "readiness": told["status"],
        "known": "rung" in told,
        "doctor": [system.port(each, server.port).cause for each in addresses_of(host)],
        "speaks": servers.speak(host, server.port, key)[1] > 0.5,
    }


def main(*hosts: str) -> None:
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        states = {host: Path(folder) / str(number) for number, host in enumerate(hosts)}
        for state in states.values():
            state.mkdir()
        running = {
            host: Server(state, synthesizer="preview", host=host, state_dir=state) for host, state in states.items()
        }
        for server in running.values():
            stack.callback(server.close)
        for server in running.values():
            server.wait_until_it_stands()
        print(json.dumps({host: asked(server, host, states[host]) for host, server in running.items()}))


if __name__ == "__main__":
    main(*sys.argv[1:])
