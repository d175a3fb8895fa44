"""Text and speech in turns: what the model reads, whenever its text comes."""

from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cosyserve.cosyvoice.model.config import SPEECH_TOKENS
from cosyserve.cosyvoice.model.qwen2 import Llm
from cosyserve.cosyvoice.model.sampling import length_limits, sample
from cosyserve.cosyvoice.runtime.generation import Generator
from cosyserve.cosyvoice.runtime.interleaving import SPEECH, TEXT, LiveText, Turn, Turns, drawn_in_turns
from cosyserve.cosyvoice.runtime.request import NoRoomError, Request
from tests.cosyvoice.seeded import SIZES3, TINY
from tests.cosyvoice.test_generation import model, request

_LENGTH = 400
_COMPARED = 3 * SPEECH  # tokens: two turns, and what follows


@pytest.fixture(scope="module", params=["CosyVoice2", "CosyVoice3"])
def llm(request: pytest.FixtureRequest) -> Llm:
    small3 = replace(SIZES3["tiny3"].llm, vocabulary=TINY.llm.vocabulary)
    return model(TINY.llm if request.param == "CosyVoice2" else small3)


def ids(seed: int, count: int, high: int = 1024) -> list[int]:
    return torch.randint(0, high, (count,), generator=torch.Generator().manual_seed(seed)).tolist()


def live_request(seed: int, words: int, recorded: int, lead: int = 0, temperature: float = 1.0) -> Request:
    parts = [torch.tensor(ids(seed + number, count), dtype=torch.long) for number, count in enumerate((words, lead))]
    speech = torch.tensor(ids(seed + 2, recorded, SPEECH_TOKENS), dtype=torch.long)
    return Request(parts[0][:0], parts[0], speech, seed, temperature, lead=parts[1], live=LiveText())


class Writer:
    """Brings the text of a request in given pieces, each when the model waits for text."""

    def __init__(self, generator: Generator, asked: Request, pieces: list[list[int]]) -> None:
        assert asked.live is not None
        self._live, self._pieces = asked.live, iter(pieces)
        self.spoken: list[int] = []
        self.slot = generator.add(asked)

    def write(self) -> None:
        while self.slot.waits:
            piece = next(self._pieces, None)
            if piece is None:
                self._live.end()
            else:
                self._live.add(piece)


def run(generator: Generator, writers: list[Writer]) -> None:
    while not all(each.slot.done for each in writers):
        for each in writers:
            each.write()
        for slot, token in generator.advance():
            next(each for each in writers if each.slot is slot).spoken.append(token)


def read(llm: Llm, asked: Request, text: list[int], spoken: list[int], *, turns: bool) -> tuple[torch.Tensor, bool]:
    """All that stands before the next token, from the definition, and whether only speech follows."""
    both, speech = asked.prompt_text.tolist() + text, asked.prompt_speech.tolist() + spoken
    rows = [llm.sos, llm.text(asked.lead)]
    for number in range(len(both) // TEXT if turns else 0):
        drawn = speech[number * SPEECH : (number + 1) * SPEECH]
        rows += [llm.text(tensor(both[number * TEXT : (number + 1) * TEXT])), llm.speech(tensor(drawn))]
        if len(drawn) < SPEECH:
            return torch.cat(rows), False
    done = len(both) // TEXT if turns else 0
    rows += [llm.text(tensor(both[done * TEXT :])), llm.task, llm.speech(tensor(speech[done * SPEECH :]))]
    return torch.cat(rows), True


def tensor(numbers: list[int]) -> torch.Tensor:
    return torch.tensor(numbers, dtype=torch.long)


def alone(llm: Llm, asked: Request, text: list[int], *, turns: bool = True) -> list[int]:
    """What is to be spoken, the first of it: for each token the model reads all from the beginning."""
    spoken: list[int] = []
    least, most = length_limits(len(text))
    while len(spoken) < _COMPARED:
        rows, last = read(llm, asked, text, spoken, turns=turns)
        scores, step = llm.prefill(rows, llm.cache(1, len(rows)), 0), len(spoken)
        window = torch.full((1, 10), -1)
        for at in range(max(0, step - 10), step):
            window[0, at % 10] = spoken[at]
        may_stop, temperature = torch.tensor([last and step >= least]), torch.tensor([asked.temperature])
        token = int(sample(scores[None], window, tensor([asked.seed]), tensor([step]), may_stop, temperature))
        if token >= SPEECH_TOKENS or (last and step >= most):
            break
        spoken.append(token)
    return spoken


def cut(text: list[int], places: list[int]) -> list[list[int]]:
    bounds = [0, *sorted(place % (len(text) + 1) for place in places), len(text)]
    return [text[begin:end] for begin, end in pairwise(bounds)]


def enough(asked: Request, text: list[int]) -> bool:
    """Whether the text lasts for all that was recorded."""
    return len(asked.prompt_text) + len(text) >= TEXT * (len(asked.prompt_speech) // SPEECH + 1)


@settings(max_examples=10)
@given(
    seed=st.integers(0, 1000),
    words=st.integers(0, 12),
    recorded=st.sampled_from([0, 1, 14, 15, 16, 30, 37]),
    lead=st.sampled_from([0, 3]),
    length=st.integers(1, 14),
    places=st.lists(st.integers(0, 50), max_size=6),
    piece=st.sampled_from([None, 4, 16]),
)
def test_text_is_read_in_turns_whenever_it_comes(
    llm: Llm, seed: int, words: int, recorded: int, lead: int, length: int, places: list[int], piece: int | None
) -> None:
    asked, text = live_request(seed, words, recorded, lead), ids(seed + 3, length)
    writer = Writer(generator := Generator(llm, 1, _LENGTH, piece=piece), asked, cut(text, places))
    run(generator, [writer])
    assert not generator.busy
    assert writer.spoken[:_COMPARED] == alone(llm, asked, text, turns=enough(asked, text))


@settings(max_examples=4)
@given(seeds=st.lists(st.integers(0, 1000), min_size=2, max_size=4, unique=True), piece=st.sampled_from([None, 8]))
def test_requests_that_wait_for_text_are_not_disturbed_by_others(llm: Llm, seeds: list[int], piece: int | None) -> None:
    """Some in turns, whose text comes late, and one whose text is there from the beginning."""
    texts = [ids(seed + 3, 7 + seed % 9) for seed in seeds]

    def asked(number: int) -> Request:
        return live_request(seeds[number], words=2, recorded=seeds[number] % 20)

    generator = Generator(llm, len(seeds) + 1, _LENGTH, piece=piece)
    writers = [Writer(generator, asked(number), [text[:6], text[6:]]) for number, text in enumerate(texts)]
    for writer in writers:
        writer.write()
    beside = generator.add(request(5, text=9))
    spoken: list[int] = []
    while not beside.done:  # nobody writes meanwhile
        for slot, token in generator.advance():
            next((each.spoken for each in writers if each.slot is slot), spoken).append(token)
    run(generator, writers)
    for number, (writer, text) in enumerate(zip(writers, texts, strict=True)):
        by_itself = Writer(single := Generator(llm, 1, _LENGTH), asked(number), [text[:6], text[6:]])
        run(single, [by_itself])
        assert writer.spoken == by_itself.spoken
    single = Generator(llm, 1, _LENGTH)
    slot = single.add(request(5, text=9))
    expected: list[int] = []
    while not slot.done:
        expected += [token for _, token in single.advance()]
    assert spoken == expected


def test_a_text_that_is_complete_is_spoken_as_any_other(llm: Llm) -> None:
    asked, text = live_request(1, words=4, recorded=9), ids(4, 6)
    assert asked.live is not None
    asked.live.add(text)
    asked.live.end()
    writer = Writer(generator := Generator(llm, 1, _LENGTH), asked, [])
    run(generator, [writer])
    usual = Generator(llm, 1, _LENGTH)
    slot = usual.add(Request(tensor(text), asked.prompt_text, asked.prompt_speech, asked.seed))
    expected: list[int] = []
    while not slot.done:
        expected += [token for _, token in usual.advance()]
    assert writer.spoken == expected


def test_a_turn_is_spoken_before_the_next_text_comes(llm: Llm) -> None:
    """Five ids are enough for fifteen tokens, and nothing is drawn beyond them."""
    generator, asked = Generator(llm, 1, _LENGTH), live_request(2, words=0, recorded=0)
    assert asked.live is not None
    asked.live.add(ids(1, TEXT - 1))
    slot = generator.add(asked)
    assert slot.waits and generator.advance() == []
    asked.live.add(ids(2, 1))
    spoken = 0
    while not slot.waits:
        spoken += len(generator.advance())
    assert spoken == SPEECH and not slot.done


def test_who_leaves_while_text_is_waited_for_frees_the_slot(llm: Llm) -> None:
    generator, asked = Generator(llm, 1, _LENGTH), live_request(2, words=0, recorded=0)
    slot = generator.add(asked)
    assert generator.busy
    generator.remove(slot)
    assert not generator.busy
    writer = Writer(generator, live_request(3, words=1, recorded=3), [ids(1, 11)])
    run(generator, [writer])
    assert writer.spoken[:_COMPARED] == alone(llm, live_request(3, words=1, recorded=3), ids(1, 11))


def test_a_text_that_outgrows_its_slot_ends_with_an_error_and_frees_it(llm: Llm) -> None:
    generator = Generator(llm, 1, 60)
    writer = Writer(generator, live_request(2, words=0, recorded=0), [ids(1, 40)])
    run(generator, [writer])
    assert isinstance(writer.slot.problem, NoRoomError)
    assert not generator.busy


@pytest.mark.parametrize("piece", [None, 4])
def test_a_text_that_just_fits_or_not_never_leaves_its_slot(llm: Llm, piece: int | None) -> None:
    """Twelve ids are two turns and a rest, which ends at every place around the end of a slot. What is accepted, by
    `drawn_in_turns`, always fits."""
    ends, accepted = [], 2 + 12 + drawn_in_turns(12, recorded=0)
    for length in range(40, 64):
        writer = Writer(generator := Generator(llm, 1, length, piece=piece), live_request(2, 0, 0), [ids(1, 12)])
        run(generator, [writer])
        assert not generator.busy
        assert writer.slot.problem is None or isinstance(writer.slot.problem, NoRoomError)
        ends.append(writer.slot.problem is None)
        assert ends[-1] or length <= accepted
    assert ends == sorted(ends)
    assert len({*ends}) == 2


@given(words=st.integers(0, 40), recorded=st.integers(0, 80), pieces=st.lists(st.integers(0, 9), max_size=20))
def test_turns_read_every_id_once_and_in_order(words: int, recorded: int, pieces: list[int]) -> None:
    live = LiveText()
    turns = Turns(range(words), range(recorded), live)
    text = iter(range(words, 10_000))
    read: list[Turn] = []
    for count in [*pieces, None]:
        if count is None:
            live.end()
        else:
            live.add(next(text) for _ in range(count))
        while turns.due is not None and turns.ready:
            read += turns.next()
    assert [each for turn in read for each in turn.text] == list(range(words + sum(pieces)))
    assert [each for turn in read for each in turn.speech] == list(range(recorded))
    assert [turn.last for turn in read] == [False] * (len(read) - 1) + [True]
    assert all(len(turn.text) == TEXT and len(turn.speech) <= SPEECH for turn in read[:-1])
