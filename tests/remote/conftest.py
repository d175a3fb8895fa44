"""Instances for the tests, which are gone at the end."""

import os
from collections.abc import Callable, Iterator

import pytest

from tests.remote import standin
from tests.remote.standin import StandIn

Rent = Callable[..., StandIn]


@pytest.fixture(scope="session")
def rent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rent]:
    """`rent(*docker_options)`: a new instance."""
    names: list[str] = []

    def start(*options: str, **more: tuple[str, ...]) -> StandIn:
        names.append(f"cosyserve-test-autodl-{os.getpid()}-{len(names)}")
        return standin.rent(names[-1], tmp_path_factory.mktemp("computer"), *options, **more)

    yield start
    for name in names:
        standin.give_back(name)
