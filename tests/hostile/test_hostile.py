"""The attacks, in CI. How long others wait is printed and not asserted: the machine may be busy with other things.

`python -m tests.hostile` asserts it. A loop that stands still for half a minute is found here, too: it is restarted.
"""

from pathlib import Path

import pytest

from tests.hostile.run import attacked


@pytest.mark.slow
def test_whatever_is_sent_the_servers_stand(tmp_path: Path) -> None:
    """Slow: every attack on two servers, some of which last as long as the limit that ends them."""
    outcomes = attacked(tmp_path, tell=print)
    assert {name: outcome.problems for name, outcome in outcomes.items()} == {"preview": [], "cosyvoice2": []}
