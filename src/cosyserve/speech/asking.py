"""From a segment, a voice and what a request asks for to the ids that the language model is given."""

import secrets
import zlib

import torch
from torch import Tensor

from cosyserve import errors
from cosyserve.cosyvoice.frontend.edition import Edition
from cosyserve.cosyvoice.frontend.marks import END_OF_PROMPT, LEAD
from cosyserve.cosyvoice.frontend.tokenizer import TextTokenizer
from cosyserve.cosyvoice.model.sampling import length_limits
from cosyserve.cosyvoice.runtime.interleaving import LiveText, drawn_in_turns
from cosyserve.cosyvoice.runtime.request import Request
from cosyserve.errors import CosyError
from cosyserve.speech.prompts import VoicePrompt
from cosyserve.speech.synthesizer import Options
from cosyserve.text.checks import checked_field
from cosyserve.text.front_end import uncut

_NOTHING = torch.empty(0, dtype=torch.long)


class Asker:
    """Threads may share it. `positions` is what a slot of the language model has room for."""

    def __init__(self, edition: Edition, tokenizer: TextTokenizer, positions: int) -> None:
        self._edition, self._tokenizer, self._positions = edition, tokenizer, positions

    def request(self, segment: str, voice: VoicePrompt, options: Options) -> Request:
        """Raises `CS-TEXT-…`."""
        text = self._tokenizer.encode(segment)
        lead, speech = self._lead(voice, checked_field("instructions", options.instructions))
        return self._fitting(Request(text, lead, speech, _seed(options, segment)))

    def live(self, first: str, voice: VoicePrompt, options: Options) -> Request:
        """For a text that comes in pieces, see `piece`, of which the first is there. Raises `CS-TEXT-…`."""
        ids, speech = self._lead(voice, checked_field("instructions", options.instructions))
        ends = (ids == self._tokenizer.end_of_prompt).nonzero()
        lead, live = int(ends[-1]) + 1 if len(ends) else 0, LiveText()
        request = Request(_NOTHING, ids[lead:], speech, _seed(options, first), lead=ids[:lead], live=live)
        live.add(self.piece(request, first))
        return request

    def piece(self, request: Request, text: str) -> list[int]:
        """The ids of the next piece of a live text, which are not added to it; raises `CS-TEXT-…`."""
        ids: list[int] = self._tokenizer.encode(text).tolist()
        self._fitting(request, len(ids))
        return ids

    def _fitting(self, request: Request, more: int = 0) -> Request:
        """The same, if a slot has room for it and `more` ids; raises `CS-TEXT-…`."""
        text = more + len(request.text if request.live is None else request.live.ids)
        positions, (least, _) = text - len(request.text) + request.prompt_positions, length_limits(text)
        if request.live is not None:
            least = max(least, drawn_in_turns(text + len(request.prompt_text), len(request.prompt_speech)))
        if positions + least >= self._positions:
            raise CosyError(errors.PROMPT_TOO_LONG, positions=positions, limit=self._positions)
        return request

    def _lead(self, voice: VoicePrompt, instructions: str) -> tuple[Tensor, Tensor]:
        """What is read before the text, and before the answer: an instruction (instruct2), the words of the recording
        and the recording itself (zero-shot), or neither where the words are unknown (cross-lingual)."""
        wording = self._edition.wording
        if instruction := _unmarked(instructions):
            return wording.instruction(self._tokenizer, instruction), _NOTHING
        words = voice.text
        if words is None:
            transcript = voice.transcript.strip().removeprefix(LEAD)
            words = self._tokenizer.encode(uncut(transcript, pronounced=self._edition.pronounces))
        if not len(words):
            return wording.nothing(self._tokenizer), _NOTHING
        return wording.words(self._tokenizer, words), voice.prompt.speech


def _seed(options: Options, text: str) -> int:
    """Every segment of a request has random numbers of its own."""
    seed = secrets.randbits(63) if options.seed is None else options.seed
    return seed ^ zlib.crc32(text.encode())


def _unmarked(instructions: str) -> str:
    """As they were written, without the mark that upstream's clients put at their end: the tokenizer sets it."""
    instructions = instructions.strip()
    while instructions.endswith(END_OF_PROMPT):
        instructions = instructions.removesuffix(END_OF_PROMPT).rstrip()
    return instructions
