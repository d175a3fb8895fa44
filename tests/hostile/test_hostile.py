"""The attacks, in CI. How long others wait is printed and not asserted: the machine may be busy with other things.

`python -m tests.hostile` asserts it. A loop that stands still for half a minute is found here, too: it is restarted.
"""

from pathlib import Path

import pytest

from tests.hostile.run import attacked


@pytest.mark.slow
def test_whatever_is_sent_the_server_stands(tmp_path: Path) -> None:
    lines: list[str] = []
    outcome = attacked(tmp_path, tell=lines.append)
    print(*lines, sep="\n")
    assert outcome.problems == []
