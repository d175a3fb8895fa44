"""`cosyserve serve` where no model is: it asks nobody, which `make run-local` does (tests/setup)."""

import pytest

from tests.assets.conftest import User
from tests.running import Server


def test_the_preview_speaks_and_names_the_command(user: User) -> None:
    with Server(user.folder.parent, models_dir=user.folder) as server:
        assert server.says("cosyserve fetch")


@pytest.mark.parametrize("folder_is_there", [False, True])
def test_who_asks_for_cosyvoice2_gets_the_command_and_no_server(user: User, folder_is_there: bool) -> None:
    if folder_is_there:
        user.model.mkdir(parents=True)
    done = user.runs("serve", COSYSERVE_SYNTHESIZER="cosyvoice2", COSYSERVE_PORT="0")
    assert done.returncode == 2
    assert "CS-FETCH-006" in done.stderr
    assert "cosyserve fetch" in done.stderr
