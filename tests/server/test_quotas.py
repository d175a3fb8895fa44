"""The limiter by itself, with clocks of the tests' own."""

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cosyserve.errors import CosyError
from cosyserve.keys import MAIN, Key
from cosyserve.keys.key import Limits
from cosyserve.keys.keyring import Keyring
from cosyserve.server.quotas import QuotaError, Quotas, Taken, headers_of
from cosyserve.server.usage import Usage
from cosyserve.server.window import Entry, Window
from cosyserve.settings import Settings

MINUTE, DAY = 60.0, 24 * 60 * 60
MORNING = 1_800_000_000 // DAY * DAY  # 00:00 UTC of some day


@given(
    st.integers(1, 30),
    st.integers(0, 9),
    st.lists(st.tuples(st.integers(0, 6), st.integers(1, 9), st.booleans()), max_size=60),
)
def test_a_window_lets_through_what_fits_and_nothing_else(
    limit: int, span: int, asked: list[tuple[int, int, bool]]
) -> None:
    """Against all that was taken and not given back, added up from scratch."""
    window, now, taken = Window(span), 0, list[Entry]()
    for passed, amount, returned in asked:
        now += passed
        amount = min(amount, limit)
        counted = [each for each in taken if now - each.time <= span]
        assert window.used(now) == sum(each.amount for each in counted)
        fits = window.used(now) + amount <= limit
        free = window.free_at(amount, limit, now)
        assert (free == now) is fits
        left = [sum(each.amount for each in taken if time - each.time <= span) for time in (free - 1, free)]
        assert left[1] + amount <= limit
        assert fits or left[0] + amount > limit  # not a tick later than needed
        assert not any(each.amount for each in taken if window.empty_at(now) - each.time <= span)
        if fits:
            entry = window.take(amount, now)
            if returned:
                window.give_back(entry, amount)
            else:
                taken.append(Entry(now, amount))


class Clocks:
    """A stand-in for the clocks of a machine."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds

    def wall(self) -> float:
        return MORNING + self.seconds


def quotas_in(folder: Path, clocks: Clocks) -> Quotas:
    settings = Settings(state_dir=folder)
    return Quotas(Keyring(settings), Usage(folder, clocks.wall), clock=clocks)


_LIMIT = st.one_of(st.none(), st.integers(1, 12))
LIMITS = st.builds(
    Limits,
    requests_per_minute=_LIMIT,
    characters_per_minute=_LIMIT,
    requests_per_day=_LIMIT,
    characters_per_day=_LIMIT,
)
PASSED = st.one_of(st.sampled_from([0.0, 0.01, 30.0, MINUTE, DAY / 4, DAY]), st.floats(0, 100))


class Told:
    """The requests that were let through: when, and how many characters."""

    def __init__(self, limits: Limits) -> None:
        self.limits, self.taken = limits, list[tuple[float, int]]()

    def fits(self, now: float, characters: int) -> bool:
        """Whether no window that ends now would have more than its limit."""
        # The limiter's clock has ticks of 10 ms: within one, it may count a request as long as it likes.
        lately = [each for time, each in self.taken if int(now * 100) - int(time * 100) <= MINUTE * 100]
        today = [each for time, each in self.taken if time // DAY == now // DAY]
        return all(
            limit is None or used <= limit
            for limit, used in (
                (self.limits.requests_per_minute, len(lately) + 1),
                (self.limits.characters_per_minute, sum(lately) + characters),
                (self.limits.requests_per_day, len(today) + 1),
                (self.limits.characters_per_day, sum(today) + characters),
            )
        )

    def most_within(self, seconds: float) -> tuple[int, int]:
        """Requests and characters of the fullest window."""
        windows = [[each for time, each in self.taken if 0 <= time - begin <= seconds] for begin, _ in self.taken]
        return max(map(len, windows), default=0), max(map(sum, windows), default=0)


@given(LIMITS, st.lists(st.tuples(PASSED, st.integers(0, 9), st.booleans()), max_size=30))
def test_never_more_than_a_limit_in_any_window_and_no_refusal_below_it(
    limits: Limits, asked: list[tuple[float, int, bool]]
) -> None:
    clocks, told, key = Clocks(), Told(limits), Key(name="anna", limits=limits)
    most = min(limits.characters_per_minute or 9, limits.characters_per_day or 9)
    with TemporaryDirectory() as folder:
        quotas = quotas_in(Path(folder), clocks)
        for passed, characters, returned in asked:
            clocks.seconds += passed
            characters = min(characters, most)
            now = clocks.seconds
            if not told.fits(now, characters):
                with pytest.raises(QuotaError) as refused:
                    quotas.take(key, characters)
                assert told.fits(now + (refused.value.retry_after or 0), characters)
                continue
            taken = quotas.take(key, characters)
            if returned:
                taken.give_back()
            else:
                told.taken.append((now, characters))
    requests, characters = told.most_within(MINUTE)
    assert requests <= (limits.requests_per_minute or requests)
    assert characters <= (limits.characters_per_minute or characters)


def refusal(quotas: Quotas, key: Key, characters: int) -> QuotaError:
    with pytest.raises(QuotaError) as refused:
        quotas.take(key, characters)
    return refused.value


def test_a_refusal_says_which_limit_and_when(tmp_path: Path) -> None:
    clocks = Clocks()
    quotas = quotas_in(tmp_path, clocks)
    key = Key(name="anna", limits=Limits(requests_per_minute=2, characters_per_minute=100, characters_per_day=150))
    quotas.take(key, 60)
    clocks.seconds += 12.5
    error = refusal(quotas, key, 50)
    assert (error.fault.id, error.retry_after) == ("CS-QUOTA-002", 48)  # 60 s after the first, less 12.5 s
    assert "anna" in error.cause and "40 are left" in error.cause and "48 s" in error.remedy
    assert "剩余 40 个" in error.cause_zh and "48 秒" in error.remedy_zh
    assert error.headers == {
        "x-ratelimit-limit-requests": "2",
        "x-ratelimit-remaining-requests": "1",
        "x-ratelimit-reset-requests": "48s",
        "x-ratelimit-limit-tokens": "100",
        "x-ratelimit-remaining-tokens": "40",
        "x-ratelimit-reset-tokens": "48s",
    }
    quotas.take(key, 40)
    assert refusal(quotas, key, 0).fault.id == "CS-QUOTA-001"
    clocks.seconds += MINUTE + 1
    error = refusal(quotas, key, 60)
    assert (error.fault.id, error.retry_after) == ("CS-QUOTA-004", DAY - 73)
    assert error.headers["x-should-retry"] == "false"  # a client would not wait so long, and ask at once
    assert "23 h 58 min 47 s" in error.remedy
    clocks.seconds = DAY
    quotas.take(key, 60)


def test_of_several_limits_the_last_to_free_is_named(tmp_path: Path) -> None:
    quotas = quotas_in(tmp_path, Clocks())
    key = Key(name="anna", limits=Limits(requests_per_minute=1, requests_per_day=1))
    quotas.take(key, 1)
    assert refusal(quotas, key, 1).fault.id == "CS-QUOTA-003"


@pytest.mark.parametrize(
    ("limits", "window"), [({"characters_per_minute": 9}, "minute"), ({"characters_per_day": 9}, "day")]
)
def test_a_text_that_can_never_be_spoken_is_no_429(tmp_path: Path, limits: dict[str, int], window: str) -> None:
    quotas = quotas_in(tmp_path, Clocks())
    key = Key(name="anna", limits=Limits(**limits))
    with pytest.raises(CosyError, match=window) as refused:
        quotas.take(key, 10)
    assert (refused.value.fault.id, refused.value.fault.status) == ("CS-QUOTA-005", 400)
    quotas.take(key, 9)


def test_a_text_that_arrives_takes_as_it_comes_and_gives_all_of_it_back(tmp_path: Path) -> None:
    clocks = Clocks()
    quotas = quotas_in(tmp_path, clocks)
    key = Key(name="anna", limits=Limits(requests_per_minute=1, characters_per_minute=10, characters_per_day=20))
    taken = quotas.take(key, 4)
    clocks.seconds += 1
    taken.more(6)
    with pytest.raises(QuotaError):
        taken.more(1)
    assert used(quotas, key) == [1, 10, 1, 10]
    taken.give_back()
    taken.give_back()  # once is enough
    assert used(quotas, key) == [0, 0, 0, 0]
    with pytest.raises(RuntimeError), quotas.take(key, 10):
        raise RuntimeError
    assert used(quotas, key) == [0, 0, 0, 0]


def test_what_was_taken_yesterday_is_not_given_back_today(tmp_path: Path) -> None:
    clocks = Clocks()
    quotas = quotas_in(tmp_path, clocks)
    taken = quotas.take(MAIN, 5)
    clocks.seconds = DAY
    quotas.take(MAIN, 3)
    taken.give_back()
    assert used(quotas, MAIN)[2:] == [1, 3]


def test_what_a_text_without_a_request_takes_is_nothing(tmp_path: Path) -> None:
    quotas = quotas_in(tmp_path, Clocks())
    Taken(quotas, MAIN).give_back()
    assert used(quotas, MAIN) == [0, 0, 0, 0]


def test_a_key_without_limits_has_no_headers(tmp_path: Path) -> None:
    quotas = quotas_in(tmp_path, Clocks())
    quotas.take(MAIN, 10**6)
    assert headers_of(quotas.standings(MAIN)) == {}


def used(quotas: Quotas, key: Key) -> Sequence[int]:
    return [each.used for each in quotas.standings(key)]
