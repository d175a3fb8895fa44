"""What has been freed is given back to the system while the server runs."""

import psutil
import pytest

from cosyserve.server import memory
from cosyserve.speech.host_memory import give_memory_back
from tests.conftest import Serving
from tests.running import eventually
from tests.standins import ToneSynthesizer


def held() -> int:
    return psutil.Process().memory_info().rss >> 20


def test_what_lies_below_something_that_is_still_in_use_is_given_back(
    serving: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "_SECONDS", 0.01)
    with serving(ToneSynthesizer()):
        give_memory_back()  # of other tests
        before = held()
        pieces = [b"a" * 100_000 for _ in range(2_000)]
        assert held() - before > 150
        last = pieces.pop()  # the C library by itself gives back no more than what lies above
        del pieces
        eventually(lambda: held() - before < 50)
        assert len(last) == 100_000
