"""Which pages of the flow's past are in use, and by how many.

A page has room for the keys and values of one chunk of 50 frames, in every layer and every Euler step. A stream takes
what it may ever need when it begins, so that it is never cut. A voice's recording is pages that its streams share.
"""

from collections.abc import Sequence


class NoPagesError(RuntimeError):
    """There are not as many free pages as were asked for."""


class Pages:
    """The pages 0 to `count` − 1. Not to be used from two threads."""

    def __init__(self, count: int) -> None:
        self.count = count
        self._free = list(range(count))
        self._users: dict[int, int] = {}

    @property
    def free(self) -> int:
        return len(self._free)

    def users(self, page: int) -> int:
        return self._users.get(page, 0)

    def take(self, count: int) -> list[int]:
        """So many pages with one user each; raises `NoPagesError`."""
        if count > len(self._free):
            raise NoPagesError(f"{count} pages are asked for, and {len(self._free)} are free")
        split = len(self._free) - count
        taken, self._free = self._free[split:], self._free[:split]
        self._users.update(dict.fromkeys(taken, 1))
        return taken

    def share(self, pages: Sequence[int]) -> None:
        """One user more of each."""
        for page in pages:
            self._users[page] += 1

    def give_back(self, pages: Sequence[int]) -> None:
        """One user less of each; a page without any is free."""
        for page in pages:
            self._users[page] -= 1
            if not self._users[page]:
                del self._users[page]
                self._free.append(page)
