"""Which source is asked first, and in what environment."""

import json
import subprocess
import sys
from pathlib import Path
from subprocess import PIPE

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cosyserve.assets import probe, sources
from cosyserve.machine import Machine
from tests.assets.hub import COMMIT, REPOSITORY, Behaviour, Hub
from tests.running import HANGS

MIRROR = "https://mirror.example"
TURBO = "export no_proxy=localhost\nexport http_proxy=http://turbo:1 && export https_proxy=http://turbo:1\necho ready\n"
FOUND = sources.sources({}, MIRROR)


def machine(root: Path, *, autodl: bool = False, **environ: str) -> Machine:
    if autodl:
        (root / "root/autodl-tmp").mkdir(parents=True)
        (root / "etc").mkdir()
        (root / "etc/network_turbo").write_text(TURBO)
    return Machine(root, environ)


@pytest.mark.parametrize(
    ("autodl", "speeds", "first"),
    [
        (False, {"huggingface": 10, "hf-mirror": 15, "modelscope": 12}, "huggingface"),
        (False, {"huggingface": 1, "hf-mirror": 15, "modelscope": 12}, "hf-mirror"),
        (False, {"huggingface": 0, "hf-mirror": 0, "modelscope": 12}, "modelscope"),
        (True, {"huggingface": 15, "hf-mirror": 10, "modelscope": 8}, "modelscope"),
        (True, {"huggingface": 20, "hf-mirror": 10, "modelscope": 8}, "huggingface"),
        (True, {"huggingface": 0, "hf-mirror": 3, "modelscope": 0}, "hf-mirror"),
    ],
)
def test_the_first_source(tmp_path: Path, autodl: bool, speeds: dict[sources.Name, float], first: str) -> None:
    assert sources.order(machine(tmp_path, autodl=autodl), speeds)[0] == first


@given(st.dictionaries(st.sampled_from(["huggingface", "hf-mirror", "modelscope"]), st.floats(0, 1e9), min_size=1))
def test_every_source_stays_in_the_order_and_the_dead_come_last(speeds: dict[sources.Name, float]) -> None:
    ordered = sources.order(Machine(Path("/nowhere"), {}), speeds)
    assert sorted(ordered) == sorted(speeds)
    alive = [speeds[name] > 0 for name in ordered]
    assert alive == sorted(alive, reverse=True)


def test_the_variables_of_the_clients_are_respected() -> None:
    found = sources.sources(
        {"HF_ENDPOINT": "http://here:1", "MODELSCOPE_DOMAIN": "scope.example"}, "https://mirror.example/"
    )
    assert [found[name].endpoint for name in ("huggingface", "hf-mirror", "modelscope")] == [
        "http://here:1",
        "https://mirror.example",
        "https://scope.example",
    ]
    assert sources.offline({"HF_HUB_OFFLINE": "1"}) == "HF_HUB_OFFLINE"
    assert sources.offline({"HF_HUB_OFFLINE": "0"}) is None


def test_autodl_proxies_are_used_where_they_help_and_nowhere_else(tmp_path: Path) -> None:
    here = machine(tmp_path, autodl=True, https_proxy="http://turbo:1", PATH="/bin")
    assert sources.environment(FOUND["huggingface"], here)["http_proxy"] == "http://turbo:1"
    for name in ("hf-mirror", "modelscope"):
        assert "https_proxy" not in sources.environment(FOUND[name], here)
        assert sources.environment(FOUND[name], here)["PATH"] == "/bin"


def test_a_proxy_of_the_users_own_is_used_everywhere(tmp_path: Path) -> None:
    here = machine(tmp_path, autodl=True, https_proxy="http://company:2")
    for source in FOUND.values():
        assert sources.environment(source, here)["https_proxy"] == "http://company:2"


@pytest.mark.parametrize(
    ("said", "token"),
    [
        ({}, "/home/a/.cache/huggingface/token"),
        ({"XDG_CACHE_HOME": "/c"}, "/c/huggingface/token"),
        ({"HF_HOME": "/h"}, "/h/token"),
        ({"HF_HOME": "/h", "HF_TOKEN_PATH": "/t"}, "/t"),
    ],
)
def test_a_login_is_found_where_it_was_left(tmp_path: Path, said: dict[str, str], token: str) -> None:
    user = Machine(tmp_path, {"HOME": "/home/a", **said})
    environ = sources.environment(FOUND["huggingface"], user, tmp_path / "caches")
    assert environ["HF_TOKEN_PATH"] == token
    assert environ["HF_HOME"] == said.get("HF_HOME", str(tmp_path / "caches"))


def test_no_secret_of_ours_reaches_a_transfer(tmp_path: Path) -> None:
    here = machine(tmp_path, COSYSERVE_API_KEYS="sesame", HF_TOKEN="hf_x")  # noqa: S106
    environ = sources.environment(FOUND["huggingface"], here)
    assert "COSYSERVE_API_KEYS" not in environ
    assert environ["HF_TOKEN"] == "hf_x"  # noqa: S105


def test_what_answers_is_known_to_be_there_before_it_brings_anything() -> None:
    """On a busy machine nobody may be left to wait for the rest."""
    with Hub({"flow.pt": b"x" * 100_000}, Behaviour(pause=HANGS)) as hub:
        address = f"{hub.url}/{REPOSITORY}/resolve/{COMMIT}/flow.pt"
        question = json.dumps({"address": address, "seconds": HANGS, "bytes": 100_000})
        with subprocess.Popen([sys.executable, "-S", probe.__file__], stdin=PIPE, stdout=PIPE, text=True) as process:
            assert process.stdin and process.stdout
            process.stdin.write(question)
            process.stdin.close()
            assert process.stdout.readline() == "0.0\n"
            process.kill()
