"""A volume that containers of several users have written to: one error, and the line that mends it."""

import re
import shlex
import subprocess
from collections.abc import Callable, Iterator

import pytest

import docker

pytestmark = pytest.mark.containers
Ended = Callable[..., tuple[int, str]]

KEY = "/data/state/api_key"
MODEL = "/data/models/CosyVoice2-0.5B/llm.pt"
VOICE = "/data/voices/anna.flac"
MAKES_A_KEY = {"COSYSERVE_AUTH": "auto"}


@pytest.fixture
def volume(engine: docker.DockerClient) -> Iterator[dict[str, dict[str, str]]]:
    """To be asked for before `ended`, whose containers then are gone before it is."""
    made = engine.volumes.create()
    yield {made.name: {"bind": "/data", "mode": "rw"}}
    made.remove(force=True)


@pytest.mark.parametrize(
    ("before", "after", "file"),
    [("10001:10001", "1000:1000", KEY), ("0", "", MODEL), ("0", "10001:10001", VOICE)],
)
def test_another_users_file_is_named_with_the_line_that_gives_it_back(
    volume: dict[str, dict[str, str]], preview: str, ended: Ended, before: str, after: str, file: str
) -> None:
    writes = f"umask 77; mkdir -p $(dirname {file}); echo sesame >{file}"
    assert ended(preview, "sh", "-c", writes, user=before, volumes=volume)[0] == 0

    status, said = ended(preview, user=after, volumes=volume, environment=MAKES_A_KEY)
    own = after.split(":")[0] or "10001"
    assert status == 2
    assert "Traceback" not in said
    assert said.count("CS-HOST-013") == 1
    named = file if file != MODEL else MODEL.rsplit("/", 1)[0]  # a folder that only its owner can look into
    assert f"{named} belongs to user {before.split(':')[0]}; user {own}, who runs this command, may not read it" in said
    assert "CS-RUN-002" not in said

    line = re.search(r"`(docker run --rm --user 0 [^`]*)`", said)
    assert line
    assert preview in line[1]
    subprocess.run(shlex.split(line[1]), check=True)
    status, said = ended(preview, "doctor", "--quick", user=after, volumes=volume, environment=MAKES_A_KEY)
    assert status in (0, 1)
    assert "/data/state: writable" in said


def test_a_server_on_its_own_says_the_same(volume: dict[str, dict[str, str]], preview: str, ended: Ended) -> None:
    """Without the doctor in front of it."""
    ended(preview, "sh", "-c", f"umask 77; echo sesame >{KEY}", user="0", volumes=volume)
    status, said = ended(
        preview, volumes=volume, environment=MAKES_A_KEY, entrypoint=["tini", "--", "cosyserve", "serve"]
    )
    assert status == 2
    assert "CS-SET-006" in said
    assert f"{KEY} belongs to user 0" in said
    assert "Traceback" not in said


def test_what_everybody_may_read_is_nobodys_concern(
    volume: dict[str, dict[str, str]], preview: str, ended: Ended
) -> None:
    """A model that an image or an init container of another user has brought."""
    ended(preview, "sh", "-c", f"mkdir -p {MODEL.rsplit('/', 1)[0]}; echo x >{MODEL}", user="0", volumes=volume)
    status, said = ended(preview, "doctor", "--quick", volumes=volume, environment=MAKES_A_KEY)
    assert status in (0, 1), said
