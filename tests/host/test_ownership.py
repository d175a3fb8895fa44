"""Files of another user, and the line that gives them back."""

import os
from pathlib import Path

import pytest

from cosyserve.host.ownership import mending
from cosyserve.machine import IMAGE, Machine

OURS = os.geteuid()
MOUNTS = """\
21 20 0:19 / / rw - overlay overlay rw
22 21 8:1 /var/lib/docker/volumes/cosyserve/_data /data rw - ext4 /dev/sda1 rw
23 21 8:1 /srv/a\\040b /mine rw - ext4 /dev/sda1 rw
24 21 8:2 / /disk rw - ext4 /dev/sdb1 rw
"""


@pytest.fixture
def container(tmp_path: Path) -> Machine:
    for name, text in {".dockerenv": "", "proc/self/mountinfo": MOUNTS}.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return Machine(tmp_path, {IMAGE: "cosyserve:slim"})


@pytest.mark.parametrize(
    ("place", "line"),
    [
        (
            "/data/state/api_key",
            f"docker run --rm --user 0 --volume cosyserve:/data cosyserve:slim chown -R {OURS} /data",
        ),
        ("/mine/models", f"sudo chown -R {OURS} FOLDER  # the one that is mounted on /mine"),
        ("/disk", f"sudo chown -R {OURS} FOLDER  # the one that is mounted on /disk"),
        ("/opt/models", f"chown -R {OURS} /opt/models"),
    ],
)
def test_the_line_names_the_volume_and_never_more_than_is_known(container: Machine, place: str, line: str) -> None:
    assert mending(Path(place), container) == line


def test_on_the_machine_itself_the_place_is_all_there_is_to_say(tmp_path: Path) -> None:
    assert mending(Path("/srv/models"), Machine(tmp_path, {})) == f"sudo chown -R {OURS} /srv/models"
