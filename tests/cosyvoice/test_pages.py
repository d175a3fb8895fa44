"""Pages of the flow's past: taken, shared, and given back."""

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from cosyserve.cosyvoice.runtime.pages import NoPagesError, Pages


class Taking(RuleBasedStateMachine):
    """Streams and voices that come and go; each holds a list of pages."""

    @initialize(count=st.integers(0, 30))
    def make(self, count: int) -> None:
        self.pages, self.held = Pages(count), list[list[int]]()

    @rule(count=st.integers(0, 12))
    def take(self, count: int) -> None:
        if count <= self.pages.free:
            self.held.append(self.pages.take(count))
        else:
            with pytest.raises(NoPagesError):
                self.pages.take(count)

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def share(self, data: st.DataObject) -> None:
        pages = data.draw(st.sampled_from(self.held))
        self.pages.share(pages)
        self.held.append(list(pages))

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def give_back(self, data: st.DataObject) -> None:
        self.pages.give_back(self.held.pop(data.draw(st.integers(0, len(self.held) - 1))))

    @invariant()
    def every_page_is_free_or_has_its_users(self) -> None:
        used = [page for pages in self.held for page in pages]
        assert self.pages.free == self.pages.count - len({*used})
        for page in range(self.pages.count):
            assert self.pages.users(page) == used.count(page)


TestTaking = Taking.TestCase
