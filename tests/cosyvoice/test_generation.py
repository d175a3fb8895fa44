"""Several requests in slots: each gets what it would get alone."""

import copy
from dataclasses import replace
from functools import cache

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cosyserve.cosyvoice.model.config import SPEECH_TOKENS, LlmConfig
from cosyserve.cosyvoice.model.qwen2 import Llm
from cosyserve.cosyvoice.model.sampling import length_limits
from cosyserve.cosyvoice.runtime.generation import Generator
from cosyserve.cosyvoice.runtime.request import Request, Slot
from tests.cosyvoice.seeded import SIZES3, TINY, fill

_LENGTH = 400


@cache
def model(config: LlmConfig) -> Llm:
    return fill("llm", Llm(config)).double()  # so that no sum rounds to another token


@pytest.fixture(scope="module", params=["CosyVoice2", "CosyVoice3"])
def llm(request: pytest.FixtureRequest) -> Llm:
    small3 = replace(SIZES3["tiny3"].llm, vocabulary=TINY.llm.vocabulary)
    return model(TINY.llm if request.param == "CosyVoice2" else small3)


def request(seed: int, text: int = 3, temperature: float = 1.0) -> Request:
    generator = torch.Generator().manual_seed(seed)
    ids = [
        torch.randint(0, high, (count,), generator=generator) for high, count in ((1024, text), (1024, 4), (6561, 9))
    ]
    return Request(ids[0], ids[1], ids[2], seed, temperature)


def run(generator: Generator, requests: list[Request]) -> list[list[int]]:
    """Each request's tokens; as many at once as there are slots, the others as soon as one is free."""
    waiting = list(enumerate(requests))
    heard: list[list[int]] = [[] for _ in requests]
    running: dict[int, Slot] = {}
    while waiting or any(not slot.done for slot in running.values()):
        while waiting and sum(not slot.done for slot in running.values()) < generator.slots:
            number, each = waiting.pop(0)
            running[number] = generator.add(each)
        for slot, token in generator.advance():
            heard[next(number for number, each in running.items() if each is slot)].append(token)
    return heard


@settings(max_examples=8)
@given(seeds=st.lists(st.integers(0, 1000), min_size=1, max_size=6), slots=st.integers(1, 4))
def test_a_request_says_the_same_whatever_runs_beside_it(llm: Llm, seeds: list[int], slots: int) -> None:
    requests = [request(seed, text=1 + seed % 5) for seed in seeds]
    together = run(Generator(llm, slots, _LENGTH), requests)
    assert together == [run(Generator(llm, 1, _LENGTH), [each])[0] for each in requests]


@settings(max_examples=8)
@given(
    seeds=st.lists(st.integers(0, 1000), min_size=1, max_size=5),
    slots=st.integers(1, 3),
    piece=st.sampled_from([4, 7, 16]),
)
def test_a_prompt_that_is_read_in_pieces_says_the_same(llm: Llm, seeds: list[int], slots: int, piece: int) -> None:
    """As a GPU reads it."""
    requests = [request(seed, text=1 + seed % 5) for seed in seeds]
    assert run(Generator(llm, slots, _LENGTH, piece=piece), requests) == run(Generator(llm, slots, _LENGTH), requests)


def test_the_tokens_of_others_go_on_while_a_prompt_is_read(llm: Llm) -> None:
    generator = Generator(llm, 2, _LENGTH, piece=4)
    first = generator.add(request(1, text=8))
    while not generator.advance():
        pass
    generator.add(request(2, text=8))  # 23 positions, which are six pieces
    told = [generator.advance() for _ in range(2)]
    assert [[slot is first for slot, _ in each] for each in told] == 2 * [[True]]


def test_a_request_that_is_given_up_while_it_is_read_frees_its_slot(llm: Llm) -> None:
    generator = Generator(llm, 1, _LENGTH, piece=4)
    slot = generator.add(request(1))
    generator.advance()
    generator.remove(slot)
    assert not generator.busy
    assert run(generator, [request(2)]) == run(Generator(llm, 1, _LENGTH), [request(2)])


def test_what_ends_an_utterance_is_never_said_and_never_ends_it_too_early(llm: Llm) -> None:
    """Every row behind the speech tokens ends it: three of CosyVoice2's, two hundred of CosyVoice3's."""
    with_stops = copy.deepcopy(llm)
    with torch.no_grad():  # in most steps one of them is likelier than any speech token
        with_stops.llm_decoder.weight[list(llm.config.stops)] *= 100
    for seed in range(3):
        (spoken,) = run(Generator(with_stops, 1, _LENGTH), [request(seed, text=4)])
        assert length_limits(4)[0] <= len(spoken) < length_limits(4)[0] + 12
        assert max(spoken) < SPEECH_TOKENS


def test_lengths_are_within_their_limits(llm: Llm) -> None:
    for seed in range(6):
        (spoken,) = run(Generator(llm, 1, _LENGTH), [request(seed, text=4)])
        least, most = length_limits(4)
        assert least <= len(spoken) <= most


def test_greedy_takes_the_best_of_each_step_from_the_first_on(llm: Llm) -> None:
    given = request(5, temperature=0.0)
    (spoken,) = run(Generator(llm, 2, _LENGTH), [given])
    prompt = llm.prompt(torch.cat((given.prompt_text, given.text)), given.prompt_speech)
    cache = llm.cache(1, _LENGTH)
    scores = llm.prefill(prompt, cache, 0)[None]
    expected = []
    for place in range(len(prompt), len(prompt) + length_limits(len(given.text))[0]):  # until it may stop
        expected.append(int(scores[:, :SPEECH_TOKENS].argmax(1)))
        scores = llm.decode(torch.tensor(expected[-1:]), torch.tensor([place]), cache)
    assert spoken[: len(expected)] == expected


def test_a_request_that_is_given_up_frees_its_slot_at_once(llm: Llm) -> None:
    generator = Generator(llm, 1, _LENGTH)
    slot = generator.add(request(1))
    generator.advance()
    assert generator.busy
    generator.remove(slot)
    assert not generator.busy
    assert generator.advance() == []
    assert run(generator, [request(2)]) == run(Generator(llm, 1, _LENGTH), [request(2)])


def test_a_request_that_cannot_fit_is_refused(llm: Llm) -> None:
    with pytest.raises(ValueError, match="leave no room in a slot of 20"):
        Generator(llm, 1, 20).add(request(1))
