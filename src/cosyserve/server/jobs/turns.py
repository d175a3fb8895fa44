"""Whose job is next: the one of the highest priority, and among equal priorities the keys take turns.

A job gets the number of its turn when it comes, and the number is kept with it. So a restart changes nothing, and a key
gains nothing by deleting jobs and sending them again.
"""

from collections.abc import Callable, Iterable, Mapping

from cosyserve.keys.key import MAIN, NamedKey
from cosyserve.server.jobs.store import Job

Rank = Callable[[Job], int]


def ranks(named: Mapping[str, NamedKey]) -> Rank:
    """The rank of a job is that of its key as it is now; see `Key.rank`."""
    return lambda job: named.get(job.key, MAIN).rank


def turn_of(job: Job, waiting: Iterable[Job], rank: Rank) -> int:
    """Behind the last one of its own key, and in the first round of those that wait with the same priority."""
    equals = [each for each in waiting if rank(each) == rank(job)]
    own = [each.turn + 1 for each in equals if each.owner == job.owner]
    return max(own) if own else min((each.turn for each in equals), default=0)


def in_turn(waiting: Iterable[Job], rank: Rank) -> list[Job]:
    """In the order in which they are spoken."""
    return sorted(waiting, key=lambda job: (rank(job), job.turn, job.created, job.id))
