"""Whoever asks the own server asks it where it listens, whatever address that is."""

import json
import subprocess
import sys

import pytest

from tests.host.hosts import namespace
from tests.running import HANGS, ROOT

WELL = {"health": [True, "ready"], "readiness": "ready", "known": True, "speaks": True}
EVERYWHERE = "0.0.0.0"  # noqa: S104 - in a network of its own
INTERFACE = "ip link set lo up; ip addr add 10.9.8.7/32 dev lo"
WITHOUT_IPV6 = "ip link set lo up; ip addr del ::1/128 dev lo"  # as in many containers


@pytest.mark.parametrize(
    ("wrap", "hosts"),
    [
        pytest.param((), ["127.0.0.2"], id="loopback"),
        pytest.param(
            namespace("-n", INTERFACE), ["::1", "10.9.8.7", EVERYWHERE, "::"], marks=pytest.mark.mpi, id="interfaces"
        ),
        pytest.param(namespace("-n", WITHOUT_IPV6), ["::"], marks=pytest.mark.mpi, id="no IPv6 on loopback"),
    ],
)
def test_a_server_is_asked_where_it_listens(wrap: tuple[str, ...], hosts: list[str]) -> None:
    argv = [*wrap, sys.executable, "-m", "tests.launch.bound", *hosts]
    done = subprocess.run(argv, capture_output=True, text=True, cwd=ROOT, timeout=HANGS)
    assert done.returncode == 0, done.stdout + done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    assert all("is CosyServe's already" in cause for each in told.values() for cause in each.pop("doctor"))
    assert told == dict.fromkeys(hosts, WELL)
