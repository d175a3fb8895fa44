"""The entrypoint's table: what is typed after the image's name, and what comes of it."""

import json
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from tests.containers.conftest import Start

pytestmark = pytest.mark.containers
Ended = Callable[..., tuple[int, str]]


def test_it_serves_unasked_and_its_log_is_text(preview: str, run: Start) -> None:
    running = run(preview)
    running.wait_for("healthy")
    assert running.speaks()
    assert "CS-HOST-001" in running.logs()  # the doctor has looked
    assert '{"' not in running.logs()


def test_flags_alone_are_flags_of_the_server_which_speaks_without_a_network(preview: str, run: Start) -> None:
    """Its log is JSON from the first line on, where that is asked for."""
    running = run(preview, "--port", "7000", network_mode="none", environment={"COSYSERVE_LOG_FORMAT": "json"})
    running.wait_for("healthy")
    said = [json.loads(line)["message"] for line in running.logs().splitlines()]
    assert any("CS-HOST-001" in message for message in said)
    assert any("http://127.0.0.1:7000/" in message for message in said)
    script = (
        "import urllib.request as u, json\n"
        "body = json.dumps({'input': 'Hello.', 'response_format': 'wav'}).encode()\n"
        "r = u.Request('http://127.0.0.1:7000/v1/audio/speech', body, {'Content-Type': 'application/json'})\n"
        "print(len(u.urlopen(r).read()))\n"
    )
    assert int(running.runs("python3", "-c", script)) > 10_000


def test_one_step_alone(preview: str, ended: Ended) -> None:
    status, said = ended(preview, "doctor", "--quick")
    assert status in (0, 1)
    assert "CS-HOST-014" in said
    status, said = ended(preview, "fetch", "--if-wanted")
    assert (status, f"{preview} has no PyTorch" in said) == (0, True)
    status, said = ended(preview, "build")
    assert status == 2
    assert "CS-FETCH-006" in said


def test_help_prepares_nothing(preview: str, ended: Ended) -> None:
    status, said = ended(preview, "--help")
    assert status == 0
    assert "Serve the page" in said
    assert "CS-HOST-001" not in said


def test_any_other_command_runs_as_it_is(preview: str, ended: Ended) -> None:
    assert ended(preview, "sh", "-c", "id -u; cat /proc/1/comm") == (0, "10001\ntini\n")
    assert ended(preview, "sh", "-c", "exit 7")[0] == 7


def secret(folder: Path, text: str) -> dict[str, dict[str, str]]:
    (folder / "secret").write_text(text)
    (folder / "secret").chmod(0o644)
    return {str(folder): {"bind": "/run/secrets", "mode": "ro"}}


def test_a_secret_may_come_from_a_file(preview: str, run: Start, folder: Path) -> None:
    running = run(
        preview,
        volumes=secret(folder, "sesame\n"),
        environment={"COSYSERVE_AUTH": "auto", "COSYSERVE_API_KEYS_FILE": "/run/secrets/secret"},
    )
    running.wait_for("healthy")
    models = f"{running.url}/v1/models"
    assert httpx.get(models).status_code == 401
    assert httpx.get(models, headers={"Authorization": "Bearer sesame"}).status_code == 200
    assert "sesame" not in running.logs()


def test_a_hubs_token_may_come_from_a_file(preview: str, ended: Ended, folder: Path) -> None:
    volumes = secret(folder, "hf_sesame")
    (folder / "show.sh").write_text('printf "length %s\\n" "${#HF_TOKEN}"\n')
    volumes[str(folder / "show.sh")] = {"bind": "/docker-entrypoint.d/show.sh", "mode": "ro"}
    environment = {"HF_TOKEN_FILE": "/run/secrets/secret"}
    status, said = ended(preview, "models", "list", volumes=volumes, environment=environment)
    assert status == 0
    assert "length 9" in said  # an extension has run, and saw it
    assert "sesame" not in said


@pytest.mark.parametrize(
    ("name", "command"), [("HF_TOKEN", ("models", "list")), ("COSYSERVE_API_KEYS", ("doctor", "--quick"))]
)
def test_a_secret_from_both_is_refused(
    preview: str, ended: Ended, folder: Path, name: str, command: tuple[str, ...]
) -> None:
    environment = {name: "a", f"{name}_FILE": "/run/secrets/secret"}
    status, said = ended(preview, *command, volumes=secret(folder, "b"), environment=environment)
    assert status == 2
    assert f"{name}_FILE" in said
    assert "Traceback" not in said


@pytest.mark.parametrize("place", ["/nowhere", "/etc", "/dev/zero", "/run/secrets/secret"])
def test_a_secret_that_cannot_be_read_is_refused(preview: str, ended: Ended, folder: Path, place: str) -> None:
    volumes = secret(folder, "")
    status, said = ended(preview, "models", "list", volumes=volumes, environment={"HF_TOKEN_FILE": place})
    assert (status, place in said) == (2, True)


def test_without_a_volume_it_speaks_says_what_is_lost_and_makes_a_key_that_it_never_prints(
    preview: str, run: Start
) -> None:
    running = run(preview, volumes={}, environment={"COSYSERVE_AUTH": "auto"})
    running.wait_for("healthy")
    assert "CS-HOST-014" in running.logs()
    assert "docker run -v cosyserve:/data" in running.logs()
    key = running.runs("cat", "/data/state/api_key").strip()
    assert key
    assert key not in running.logs()
    assert f"docker exec {running.container.short_id} cat /data/state/api_key" in running.logs()
    assert not running.speaks()  # nobody has said where it is published, so all need the key
    assert running.speaks(key)


def test_a_volume_of_somebody_else_is_refused_with_a_remedy(preview: str, ended: Ended, folder: Path) -> None:
    theirs = folder / "theirs"
    theirs.mkdir(mode=0o700)
    volumes = {str(theirs): {"bind": "/data", "mode": "rw"}}
    status, said = ended(preview, volumes=volumes, environment={"COSYSERVE_AUTH": "auto"})
    assert status == 2
    assert "CS-HOST-013" in said
    assert "chown -R 10001" in said
    assert "Traceback" not in said
