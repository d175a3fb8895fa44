"""Schemathesis over the server's own description: everything it can think of sending, and every check it has.

Slow, as that is thousands of requests.
"""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.running import Server

pytestmark = pytest.mark.slow

CONFIG = """
[checks]
# Text that is valid by its schema may still have nothing to speak (400), a name may be unknown (404), a job may not be
# done yet (409), and as many may wait as the server takes (429).
positive_data_acceptance.expected-statuses = ["2xx", "400", "404", "409", "429"]
"""


def test_the_server_keeps_to_its_own_description(tmp_path: Path) -> None:
    (tmp_path / "schemathesis.toml").write_text(CONFIG)
    with Server(tmp_path, max_text_chars=500) as server:
        run = subprocess.run(
            [str(Path(sys.executable).with_name("schemathesis")), "run", f"{server.url}/openapi.json"]
            + ["--checks", "all", "--max-examples", "25", "--seed", "1", "--no-color"],
            cwd=tmp_path,
            capture_output=True,
            text=True,
        )
        assert server.stop() == 0
    assert run.returncode == 0, run.stdout[-6000:]
    assert "Traceback" not in server.text()
