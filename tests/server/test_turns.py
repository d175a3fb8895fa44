"""Whose job is next."""

from collections.abc import Callable
from itertools import count

from hypothesis import given
from hypothesis import strategies as st

from cosyserve.server.jobs.store import Job, Manner
from cosyserve.server.jobs.turns import in_turn, turn_of

MANNER = Manner(
    voice="tone",
    input_format="text",
    instructions="",
    response_format="mp3",
    speed=1,
    seed=None,
    normalize=True,
    title="",
)
RANKS = {"anna": 1, "bob": 1, "carl": 1, "high": 0}
EVENTS = st.lists(st.sampled_from([*RANKS, "finish", "finish", "delete"]), max_size=60)


class Jobs:
    """A server's list of jobs, the first of which is spoken."""

    def __init__(self) -> None:
        self.waiting: list[Job] = []
        self.begun: list[Job] = []
        self._numbers = count()

    def add(self, owner: str) -> Job:
        number = next(self._numbers)
        job = Job(id=str(number), owner=owner, created=number, characters=1, passages=1, manner=MANNER)
        job.turn = turn_of(job, self.waiting, rank)
        self.waiting.append(job)
        return job

    def begin(self) -> None:
        """If none is spoken, the next one begins."""
        if self.waiting and not (self.begun and self.begun[-1] in self.waiting):
            self.begun.append(in_turn(self.waiting, rank)[0])

    def end(self) -> None:
        if self.begun and self.begun[-1] in self.waiting:
            self.waiting.remove(self.begun[-1])


def rank(job: Job) -> int:
    return RANKS[str(job.owner)]


def played(events: list[str], look: Callable[[Jobs, Job], None]) -> None:
    """Shows each job that comes before any begins after it."""
    jobs = Jobs()
    for event in events:
        if event == "finish":
            jobs.end()
        elif event == "delete" and jobs.waiting:
            jobs.waiting.pop()
        elif event in RANKS:
            look(jobs, jobs.add(event))
        jobs.begin()


@given(EVENTS)
def test_no_key_waits_for_two_jobs_of_an_equal_one(events: list[str]) -> None:
    first: list[tuple[Job, int]] = []  # jobs that came while their key had none, and how many had begun by then
    ends: list[Jobs] = []

    def look(jobs: Jobs, job: Job) -> None:
        if sum(each.owner == job.owner for each in jobs.waiting) == 1:
            first.append((job, len(jobs.begun)))
        ends[:] = [jobs]

    played([*events, *["finish"] * len(events)], look)
    for job, since in first:
        begun = ends[0].begun
        if job in begun:
            before = [each.owner for each in begun[since : begun.index(job)] if rank(each) == rank(job)]
            assert len(before) == len(set(before))


@given(EVENTS)
def test_the_highest_priority_is_next_and_jobs_of_a_key_keep_their_order(events: list[str]) -> None:
    def look(jobs: Jobs, job: Job) -> None:
        order = in_turn(jobs.waiting, rank)
        assert [rank(each) for each in order] == sorted(map(rank, order))
        own = [each.created for each in order if each.owner == job.owner]
        assert own == sorted(own)

    played(events, look)
