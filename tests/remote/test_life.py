"""The life of an installation on a rented instance, from an empty data disk to a bare one again.

Slow: releases are installed, each with an environment of its own, and servers take each other's place.
"""

import os
import re
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.remote import standin
from tests.remote.conftest import Rent
from tests.remote.standin import HOME, MIRROR, StandIn, docker, speaks
from tests.running import HANGS, ROOT, eventually, meanwhile

pytestmark = pytest.mark.containers

_PIECE_SECONDS = 0.5
LONG = {"input": "This is one of many sentences. " * 400, "response_format": "pcm"}
Sources = Callable[..., Path]


@pytest.fixture
def sources(tmp_path: Path) -> Sources:
    """`sources(version, changes)`: the project in another version."""
    return lambda version, changes=None: standin.another_version(tmp_path / version, version, changes)


@pytest.fixture(scope="module")
def instance(rent: Rent) -> StandIn:
    """As `make deploy-autodl` leaves it."""
    rented = rent()
    before = set(docker("diff", rented.name).splitlines())
    arguments = (
        f"--flavour preview --index {MIRROR} --identity {rented.identity} --ssh-config {rented.computer}/ssh_config"
    )
    began = time.monotonic()
    done = subprocess.run(
        ["make", "deploy-autodl", "HOST=127.0.0.1", f"PORT={rented.port}", f"ARGS={arguments}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=HANGS,
        env={name: value for name, value in os.environ.items() if name != "MAKEFLAGS"},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert ": ready (" in done.stdout
    assert f"ssh -N -L 6008:127.0.0.1:6008 -p {rented.port} root@127.0.0.1" in done.stdout
    assert "https://u1-6008.example.invalid:8443" in done.stdout  # where it could be published
    assert "this-is-a-secret" not in done.stdout + done.stderr
    assert rented.current() in rented.complete()
    print(f"from empty to speech: {time.monotonic() - began:.0f} s")
    # The small system disk has got the one line, and nothing else that stays.
    outside = set(docker("diff", rented.name).splitlines()) - before
    assert {
        line for line in outside if not re.match(r". (/etc$|/etc/autodl\.sh|/tmp|/root$|/root/\.ssh|/var)", line)
    } == set()
    return rented


@contextmanager
def streaming(url: str) -> Iterator[Callable[[], float]]:
    """A long stream that has begun and is listened to; called, the rest is read: seconds of sound. A cut one raises."""
    enough = threading.Event()

    def listen(pieces: Iterator[bytes], received: int) -> float:
        for piece in pieces:
            received += len(piece)
            enough.wait(_PIECE_SECONDS)  # who takes nothing for a minute is cut off, and who takes all at once is done
        return received / 2 / 24_000

    with httpx.stream("POST", f"{url}/v1/audio/speech", json=LONG) as response, ThreadPoolExecutor(1) as listening:
        pieces = response.iter_raw()
        heard = listening.submit(listen, pieces, len(next(pieces)))

        def rest() -> float:
            enough.set()
            return heard.result()

        try:
            yield rest
        finally:
            enough.set()


def test_it_speaks_through_the_tunnel_and_is_shut_to_everybody_else(instance: StandIn) -> None:
    with instance.tunnel() as url:
        assert speaks(url)
        state = httpx.get(f"{url}/readyz").json()
        assert (state["release"], state["synthesizer"]) == (instance.current(), "preview")
    address = docker("inspect", "--format", "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}", instance.name)
    with pytest.raises(httpx.TransportError):
        httpx.get(f"http://{address}:6008/readyz", timeout=5)


def test_the_same_command_again_does_nothing(instance: StandIn) -> None:
    changed = instance.runs(f"stat -c %Y {HOME}/run/job.log")
    said = instance.told("autodl")
    assert "[1/" not in said
    assert ": ready (" in said
    assert instance.runs(f"stat -c %Y {HOME}/run/job.log") == changed


def test_an_upgrade_cuts_no_stream_refuses_no_request_and_keeps_what_is_the_users(
    instance: StandIn, sources: Sources
) -> None:
    old, release = instance.current(), str(sources("9.1"))
    instance.runs(
        f"cd {HOME}/shared && mkdir -p voices pretrained_models state && echo COSYSERVE_MAX_STREAMS=7 >>.env && "
        "touch voices/mine.wav pretrained_models/model && echo a-key-that-was-made-before >state/api_key"
    )
    kept = f"cd {HOME}/shared && cat .env state/api_key && ls voices pretrained_models"
    before = instance.runs(kept)
    planned = instance.told("autodl", "--release", release, "--plan")
    new = re.search(rf"from {old} to (9\.1-\S+) ", planned)
    assert new, planned
    assert f"{HOME}/releases/{new[1]}/" in planned
    assert "has our line" in planned  # in /etc/autodl.sh
    assert "what is there stays: voices" in planned
    with instance.tunnel() as url, streaming(url) as rest, meanwhile(lambda: speaks(url)) as answers:
        began = time.monotonic()
        instance.told("autodl", "--release", release)
        print(f"upgrade: {time.monotonic() - began:.1f} s")
        assert instance.current() == new[1]
        assert httpx.get(f"{url}/readyz").json()["release"] == new[1]
        assert rest() > 300
    assert set(answers) == {True}
    assert old in instance.complete()
    assert instance.runs(kept) == before
    instance.runs(
        f"cd {HOME}/shared && sed -i /MAX_STREAMS/d .env && rm voices/mine.wav pretrained_models/model state/api_key"
    )


BROKEN = {
    "does not start": {"src/cosyserve/cli/__init__.py": "\nraise RuntimeError('broken on purpose')\n"},
    "finds its machine unfit": {
        "src/cosyserve/host/doctor.py": (
            "\n_CHECK = UNANSWERED\n_examine = examine\n\n\ndef examine(*args, **rest):\n"
            "    report = _examine(*args, **rest)\n"
            "    report.findings.append(_CHECK.fail(Text('broken on purpose', 'x'), Text('x', 'x')))\n"
            "    return report\n"
        )
    },
    "fails its warm-up": {"src/cosyserve/server/service.py": "\n_WARM_UP = None\n"},
    "serves, and is mute": {
        "src/cosyserve/speech/pipeline.py": (
            "\n_sounds = sounds_of\n\n\nasync def sounds_of(*args, **rest):\n"
            "    async for sound in _sounds(*args, **rest):\n        yield Sound(sound.segment, sound.pcm * 0)\n"
        )
    },
}


@pytest.mark.parametrize("how", BROKEN)
def test_a_broken_release_is_found_out_and_the_old_one_serves(instance: StandIn, sources: Sources, how: str) -> None:
    before = instance.current()
    done = instance.deploys("--release", str(sources("9.9", BROKEN[how])), "--idle-shutdown", "77")
    assert done.returncode == 2, done.stdout
    assert "CS-DEP-014" in done.stdout + done.stderr
    assert instance.current() == before
    with instance.tunnel() as url:
        eventually(lambda: speaks(url))
        state = httpx.get(f"{url}/readyz").json()
        assert (state["release"], state["seconds_to_shutdown"]) == (before, None)


def test_a_rollback_takes_seconds_and_a_second_one_comes_back(instance: StandIn) -> None:
    first = instance.current()
    with instance.tunnel() as url, streaming(url) as rest, meanwhile(lambda: speaks(url)) as answers:
        began = time.monotonic()
        instance.told("rollback")
        print(f"rollback: {time.monotonic() - began:.1f} s")
        second = instance.current()
        assert second != first
        assert httpx.get(f"{url}/readyz").json()["release"] == second
        assert rest() > 300
    assert set(answers) == {True}
    instance.told("rollback")
    assert instance.current() == first


def test_after_a_reboot_it_serves_by_itself(instance: StandIn) -> None:
    instance.reboot()
    with instance.tunnel() as url:
        eventually(lambda: speaks(url))
        assert httpx.get(f"{url}/readyz").json()["release"] == instance.current()
    assert "boot" in instance.runs(f"cat {HOME}/shared/logs/boot.log")
    assert instance.runs("cat /tmp/autodl.sh.log") == ""
    instance.told("stop")  # it has a folder in /tmp as well
    instance.runs("rm -rf /tmp/cosyserve*")  # what the killed server had; the platform's own /tmp is not tidied
    instance.told("restart")


def test_settings_are_changed_without_a_cut_where_that_can_be(instance: StandIn) -> None:
    instance.told("autodl", "--idle-shutdown", "90")
    with instance.tunnel() as url:
        assert 5000 < httpx.get(f"{url}/readyz").json()["seconds_to_shutdown"] <= 5400
    said = instance.told("autodl", "--public", "--idle-shutdown", "0")
    key = re.search(r"key · 密钥: (\S{20,})", said)
    assert key, said
    assert "public: as asked for" in said
    again = instance.told("autodl")
    assert "public: as before" in again
    assert "--private closes it" in again
    assert f"key · 密钥: {key[1]}" in again
    with instance.tunnel() as url:
        assert not speaks(url)  # who has no key stays outside
        headers = {"Authorization": f"Bearer {key[1]}"}
        body = {"input": "Hello.", "response_format": "wav"}
        assert httpx.post(f"{url}/v1/audio/speech", json=body, headers=headers).status_code == 200
    instance.told("autodl", "--port", "6006")
    with instance.tunnel(6006) as url:
        assert httpx.get(f"{url}/readyz").status_code == 200
    instance.told("autodl", "--port", "6008", "--private")
    with instance.tunnel() as url:
        assert speaks(url)


def test_status_logs_restart_and_stop(instance: StandIn) -> None:
    state = instance.told("status")
    assert re.search(r"state +ready", state)
    assert re.search(r"boot +by itself", state)
    assert "POST /v1/audio/speech" in instance.told("logs", "--lines", "50")
    with instance.tunnel() as url, streaming(url) as rest, meanwhile(lambda: speaks(url)) as answers:
        instance.told("restart")
        assert rest() > 300
    assert set(answers) == {True}
    instance.told("stop")
    assert re.search(r"state +stopped", instance.told("status"))
    instance.told("autodl")
    with instance.tunnel() as url:
        assert speaks(url)


def test_beside_the_platforms_tensorboard_mpi_starts_all_the_same(instance: StandIn) -> None:
    """As TensorRT-LLM would start it, where plain Python hangs. Open MPI comes with the release."""
    assert "6007" in instance.runs("cat /proc/[0-9]*/cmdline | tr '\\0' ' '")
    instance.runs(f"echo COSYSERVE_MPI=always >>{HOME}/shared/.env")
    try:
        instance.told("restart")
        with instance.tunnel() as url:
            assert httpx.get(f"{url}/readyz").json()["rung"] == "mpirun"
            assert speaks(url)
    finally:
        instance.runs(f"sed -i /COSYSERVE_MPI/d {HOME}/shared/.env")
    instance.told("restart")


def test_the_original_guides_script_starts_what_is_installed(instance: StandIn) -> None:
    said = instance.runs(f"{HOME}/current/autodl/start_server_mpi.sh --help")
    assert "mpirun" in said
    assert "--take-over" in said


def test_when_nobody_needs_it_the_instance_is_switched_off(instance: StandIn) -> None:
    instance.write("/usr/bin/shutdown", "#!/bin/sh\ntouch /tmp/switched-off\n")
    instance.runs("chmod +x /usr/bin/shutdown")
    instance.told("autodl", "--idle-shutdown", "0.2")  # less may be over before the new server has been checked
    eventually(lambda: instance.runs("ls /tmp/switched-off || true") != "")
    instance.told("autodl", "--idle-shutdown", "0")
    instance.runs("rm /usr/bin/shutdown /tmp/switched-off")


def test_uninstalled_it_leaves_nothing_but_what_it_says(instance: StandIn) -> None:
    instance.runs(f"mkdir -p {HOME}/shared/voices && touch {HOME}/shared/voices/mine.wav")
    instance.runs(f"mkdir -p {HOME}/shared/state/kernels/card")
    said = instance.told("uninstall")
    assert f"kept: {HOME}/shared" in said
    assert instance.runs(f"ls {HOME}") == "shared"
    assert "mine.wav" in instance.runs(f"ls {HOME}/shared/voices")
    assert "kernels" not in instance.runs(f"ls {HOME}/shared/state")
    assert instance.runs("ls /etc/autodl.sh || true") == ""
    everything = instance.runs("cat /proc/[0-9]*/cmdline | tr '\\0' ' '")
    assert "cosyserve" not in everything
    assert instance.asks("status").returncode == 2
    assert f"kept: {HOME}/shared" in instance.told("uninstall")
    assert "nothing is left" in instance.told("uninstall", "--all")
    assert instance.asks("uninstall", "--all").returncode == 2
    instance.told("autodl")
    assert "nothing is left" in instance.told("uninstall", "--all")
    assert instance.runs("ls -A /root/autodl-tmp") == ""
    assert instance.runs("ls -d /tmp/cosyserve* || true") == ""
