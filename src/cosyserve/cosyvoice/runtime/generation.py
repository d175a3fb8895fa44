"""Speech tokens for several requests at once: slots that are filled, advanced together, and freed.

One step advances every slot by one token, on the device alone: scores, draw, and what the next step needs. The host
reads tokens while the next step runs, so that the device never waits for it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from cosyserve.cosyvoice.model.config import SPEECH_TOKENS
from cosyserve.cosyvoice.model.qwen2 import Llm
from cosyserve.cosyvoice.model.sampling import Draws, Nucleus, length_limits
from cosyserve.cosyvoice.runtime.graphs import Make, Pool, captured, new_pool
from cosyserve.cosyvoice.runtime.interleaving import LiveText, Turn, Turns
from cosyserve.cosyvoice.runtime.prefill import KernelPrefill, Piece, Prefill, TorchPrefill
from cosyserve.cosyvoice.runtime.request import NoRoomError, Request, Slot
from cosyserve.cosyvoice.runtime.steps import KernelSteps, Steps, TorchSteps

if TYPE_CHECKING:
    from cosyserve.cosyvoice.kernels.kernels import Kernels

PIECE = 256  # positions of a prompt that a GPU reads at once, so that the tokens of others do not stop
_PIECES = 2  # of a prompt that are read before a step


_NEVER = 1 << 30  # steps


@dataclass(eq=False)  # lists find it by identity
class _Speaker:
    """A request in its slot."""

    request: Request
    slot: Slot
    number: int
    turns: Turns
    until: int | None = None  # tokens after which text is read; None once all is read
    token: int = -1  # the last
    recent: Tensor | None = None  # the window of its last tokens, while it waits for the next turn


@dataclass(eq=False)
class _Reading:
    """What a request reads next: its prompt, or a turn."""

    speaker: _Speaker
    rows: Tensor  # (T, W)
    begin: int  # its first position
    least: int  # tokens before a stop
    read: int = 0
    into: int = -1  # the prefill's slot, −1 before the first piece

    @property
    def end(self) -> int:
        return self.begin + len(self.rows)

    def piece(self, size: int) -> Piece:
        """The next one. What comes after the rows is overwritten token by token."""
        rows = self.rows[self.read : self.read + size]
        return Piece(F.pad(rows, (0, 0, 0, size - len(rows))), self.into, self.begin + self.read, len(rows) - 1)


class Generator:
    """`slots` requests of at most `length` positions each, whose prompts are read in pieces of `piece` positions: by
    default on a GPU alone. Without `kernels` PyTorch makes the steps. Not to be used from two threads."""

    def __init__(
        self,
        llm: Llm,
        slots: int,
        length: int,
        nucleus: Nucleus = Nucleus(),
        piece: int | None = None,
        kernels: "Kernels | None" = None,
    ) -> None:
        self._llm = llm
        llm.fuse()
        self._cache = llm.cache(slots, length)
        self._device = llm.speech_embedding.weight.device
        self._speakers: dict[int, _Speaker] = {}  # those that draw
        self._held: list[_Speaker] = []  # those that wait for text
        self._positions = [0] * slots  # as the host counts them, so that it need not ask
        self._graphs: dict[int, torch.cuda.CUDAGraph] = {}
        self._piece = PIECE if piece is None and self._device.type == "cuda" else piece
        self._reading: list[_Reading] = []  # the first of them have a slot of the prefill's
        self._pool = new_pool()
        self._prefill = None if self._piece is None else _prefill(llm, length, self._piece, self._pool, kernels)
        self._draws = Draws.of(slots, nucleus.window, self._device)
        parts = llm, self._cache, self._draws, nucleus
        self._steps: Steps = TorchSteps(*parts) if kernels is None else KernelSteps(*parts, kernels)

    @property
    def slots(self) -> int:
        return self._cache.slots

    @property
    def busy(self) -> bool:
        return bool(self._taken)

    @property
    def _taken(self) -> set[int]:
        return {*self._speakers, *(each.number for each in self._paused)}

    @property
    def _paused(self) -> list[_Speaker]:
        """Those that have a slot and draw nothing now."""
        return [*self._held, *(each.speaker for each in self._reading)]

    def graphs(self) -> list[Make]:
        if self._device.type != "cuda":
            return []
        prompts = [] if self._prefill is None else self._prefill.graphs()
        return [*(partial(self._graph, size) for size in self._steps.sizes), *prompts]

    @torch.inference_mode()
    def add(self, request: Request) -> Slot:
        """Begin to read a request's prompt into a free slot. The first `advance` after its last piece, if it is read in
        pieces, tells its first token.

        A request may grow as long as its text allows and its slot has room; raises `NoRoomError`.
        """
        number = next(number for number in range(self._cache.slots) if number not in self._taken)
        self._positions[number] = 0
        speaker = _Speaker(request, Slot(0), number, _turns(request))
        if speaker.turns.ready:
            self._read_on(speaker)
        else:
            self._hold(speaker)
        return speaker.slot

    def _read_on(self, speaker: _Speaker) -> None:
        """Begin to read its next turn, or its prompt; raises `NoRoomError`."""
        slot, turns, begin = speaker.slot, speaker.turns, self._positions[speaker.number]
        rows = self._rows(speaker, turns.next())
        room = self._cache.length - begin - len(rows)
        least, most = (_NEVER, slot.spoken + turns.due) if turns.due is not None else length_limits(turns.length)
        # Of an utterance in turns more may have been spoken by now than its text asks for.
        if room <= (max(0, least - slot.spoken) if turns.due is None else turns.due):
            raise NoRoomError(f"{begin + len(rows)} positions leave no room in a slot of {self._cache.length}")
        slot.held_by, slot.most = None, min(most, slot.spoken + room)
        speaker.until = None if turns.due is None else slot.most
        reading = _Reading(speaker, rows, begin, least)
        if self._piece is not None:
            self._reading.append(reading)
        elif not begin:
            self._begin(reading, self._llm.prefill(rows, self._cache, speaker.number))
        else:
            at, last = torch.tensor([begin]), torch.tensor([len(rows) - 1])
            self._begin(reading, self._llm.extend(rows, at, last, self._cache, reading.end, speaker.number))

    def _rows(self, speaker: _Speaker, turns: Sequence[Turn]) -> Tensor:
        """Embeddings (T, W) of what is read: at first what stands before all turns, later the last token."""
        llm, request = self._llm, speaker.request
        parts = [llm.sos, llm.text(request.lead.to(self._device))]
        if speaker.token >= 0:
            parts = [llm.speech(self._ids([speaker.token]))]
        for turn in turns:
            parts.append(llm.text(self._ids(turn.text)))
            if turn.last:
                parts.append(llm.task)
            parts.append(llm.speech(self._ids(turn.speech)))
        return torch.cat(parts)

    def _ids(self, ids: Sequence[int]) -> Tensor:
        tensor = torch.tensor(ids, dtype=torch.long)
        if self._device.type != "cuda":
            return tensor
        # From pinned memory, because any other copy would wait for the device.
        return tensor.pin_memory().to(self._device, non_blocking=True)

    def _hold(self, speaker: _Speaker) -> None:
        """Until there is the text for its next turn."""
        speaker.slot.held_by = speaker.turns
        self._held.append(speaker)

    def _begin(self, reading: _Reading, scores: Tensor) -> None:
        """Draw the first token of a request whose prompt or turn has been read."""
        speaker, request = reading.speaker, reading.speaker.request
        number, draws = speaker.number, self._draws
        self._positions[number] = reading.end
        # Filled, not assigned: that would copy from the host's memory and wait for the device.
        for tensor, value in (
            (draws.step, speaker.slot.spoken),
            (draws.seed, request.seed),
            (draws.least, reading.least),
            (draws.temperature, request.temperature),
        ):
            tensor[number].fill_(value)
        if speaker.recent is None:
            draws.recent[number].fill_(-1)
        else:
            draws.recent[number].copy_(speaker.recent)
        self._steps.draw(scores, number)
        draws.position[number].fill_(reading.end)
        self._speakers[number] = speaker

    def _read(self, prefill: Prefill, size: int) -> None:
        """The next piece of each of the first in the queue. One that is there is copied to its slot, and begins."""
        together = self._reading[: prefill.cache.slots]
        free = set(range(prefill.cache.slots)) - {each.into for each in together}
        for each in together:
            if each.into < 0:
                each.into = free.pop()
                prefill.cache.copy(self._cache, each.speaker.number, each.into, slice(each.begin))
        for each, scores in zip(together, prefill.read([each.piece(size) for each in together]), strict=True):
            each.read += size
            if each.read >= len(each.rows):
                self._cache.copy(prefill.cache, each.into, each.speaker.number, slice(each.begin, each.end))
                self._reading.remove(each)
                self._begin(each, scores)

    def remove(self, slot: Slot) -> None:
        """A request that is done, or that nobody waits for any more, frees its slot."""
        slot.done = True
        for speaker in [each for each in (*self._speakers.values(), *self._paused) if each.slot is slot]:
            self._speakers.pop(speaker.number, None)
            self._draws.position[speaker.number].fill_(0)  # so that the kernels see nothing behind it
        self._held = [each for each in self._held if each.slot is not slot]
        self._reading = [each for each in self._reading if each.speaker.slot is not slot]

    @torch.inference_mode()
    def advance(self, patience: float = 0) -> list[tuple[Slot, int]]:
        """The token that each slot has drawn, if it is none that stops; the next ones are being drawn meanwhile. Of the
        prompts that came first a few pieces are read.

        Where memory runs out nothing has happened, and the next call goes on from there.
        """
        self._take_turns()
        for _ in range(_PIECES):
            if self._reading and self._prefill is not None and self._piece is not None:
                self._read(self._prefill, self._piece)
        spoken = dict(self._speakers)
        if not spoken:
            return []
        # The copy stands before the next step in the device's queue: waiting for it leaves that step running.
        tokens = self._draws.token.to("cpu", non_blocking=True, copy=True)
        copied = torch.cuda.Event() if self._device.type == "cuda" else None
        if copied is not None:
            copied.record()
        self._pause_full_turns()
        if self._speakers:
            self._decode()
        if copied is not None:
            copied.synchronize()
        told = []
        for number, token in enumerate(tokens.tolist()):
            if (speaker := spoken.get(number)) is None:
                continue
            slot, speaker.token = speaker.slot, token
            slot.spoken += 1
            if token >= SPEECH_TOKENS or slot.spoken > slot.most:
                self.remove(slot)
            else:
                told.append((slot, token))
        return told

    def _take_turns(self) -> None:
        """Those that were held begin to read what has come."""
        ready = [each for each in self._held if each.turns.ready]
        for speaker in ready:
            self._held.remove(speaker)
            try:
                self._read_on(speaker)
            except NoRoomError as problem:
                speaker.slot.problem = problem
                self._held.append(speaker)
                self.remove(speaker.slot)

    def _pause_full_turns(self) -> None:
        """Hold those whose turn is full with the token that has been drawn: it is read together with the text."""
        for speaker in list(self._speakers.values()):
            if speaker.until is not None and speaker.slot.spoken + 1 == speaker.until:
                del self._speakers[speaker.number]
                speaker.recent = self._draws.recent[speaker.number].clone()
                self._hold(speaker)

    def close(self) -> None:
        """Nothing to let go of but memory."""

    def _decode(self) -> None:
        """One step of all slots up to the last that is in use; what free ones compute is never looked at. Those that
        pause write behind what they have."""
        for speaker in self._paused:
            self._draws.position[speaker.number].fill_(self._positions[speaker.number])
        furthest = max(self._positions[number] for number in self._taken)
        size = self._steps.size(max(self._speakers) + 1, furthest)
        if self._device.type != "cuda":
            self._steps.step(size)
        else:
            self._graph(size).replay()
        for number in self._speakers:
            self._positions[number] += 1

    def _graph(self, size: int) -> torch.cuda.CUDAGraph:
        if size not in self._graphs:
            self._graphs[size] = self._captured(size)
        return self._graphs[size]

    def _captured(self, size: int) -> torch.cuda.CUDAGraph:
        """The step as a graph. What the rehearsals change is put back."""
        kept = [each.clone() for each in self._state]
        try:
            return captured(lambda: self._steps.step(size), self._pool)
        finally:
            for each, before in zip(self._state, kept, strict=True):
                each.copy_(before)

    @property
    def _state(self) -> tuple[Tensor, ...]:
        return self._draws.token, self._draws.position, self._draws.step, self._draws.recent


def _turns(request: Request) -> Turns:
    """A text that is complete is not read in turns."""
    if request.live is not None:
        return Turns(request.prompt_text.tolist(), request.prompt_speech.tolist(), request.live)
    return Turns(request.prompt_text.tolist(), request.prompt_speech.tolist(), LiveText.of(request.text.tolist()))


def _prefill(llm: Llm, length: int, size: int, pool: Pool | None, kernels: "Kernels | None") -> Prefill:
    if kernels is None:
        return TorchPrefill(llm, length, size, pool)
    return KernelPrefill(llm, length, size, pool, kernels)
