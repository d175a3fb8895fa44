"""The script that chooses a package index, with indexes that answer, dawdle, and do not answer."""

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from tests.running import HANGS, ROOT

NOBODY = "http://127.0.0.1:1/simple"


@contextmanager
def index(
    status: int = 200, after: threading.Event | None = None, answered: threading.Event | None = None
) -> Iterator[str]:
    """One that answers `after` something, or tells that it has `answered`."""

    class Index(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if after is not None:
                after.wait(HANGS)
                time.sleep(0.5)  # its own pace
            self.send_response(status)
            self.end_headers()
            if answered is not None:
                answered.set()

        def log_message(self, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Index)
    threading.Thread(target=server.serve_forever).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/simple"
    finally:
        server.shutdown()
        server.server_close()


def chosen(*candidates: str, **environ: str) -> tuple[int, str]:
    script = ROOT / "autodl" / "fastest_index.py"
    done = subprocess.run(
        [sys.executable, str(script), *candidates], capture_output=True, text=True, env=environ or None
    )
    assert done.stderr == ""
    return done.returncode, done.stdout.strip()


def test_the_one_that_answers_first_is_taken() -> None:
    first = threading.Event()
    with index(after=first) as slow, index(answered=first) as fast, index(status=404) as without:
        assert chosen(NOBODY, slow, without, fast) == (0, fast)


def test_where_none_answers_that_is_its_status() -> None:
    assert chosen(NOBODY, "nonsense") == (1, "")


def test_without_candidates_it_is_what_the_machine_is_set_up_for() -> None:
    with index() as own:  # and pip's own is out of reach
        assert chosen(PIP_INDEX_URL=own, PATH="/usr/bin:/bin", PIP_NO_INPUT="1", https_proxy=NOBODY) == (0, own)
