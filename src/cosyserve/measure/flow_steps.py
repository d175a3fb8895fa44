"""What fewer Euler steps of the flow save, and how they change its mel. For `cosyserve bench flow-steps`."""

import math
import time
from collections.abc import Iterator
from pathlib import Path

import soxr
import torch
from torch import Tensor

from cosyserve.cosyvoice.frontend.edition import COSYVOICE2, Edition
from cosyserve.cosyvoice.frontend.features import TOKENIZER_RATE
from cosyserve.cosyvoice.frontend.prompt_encoder import PromptEncoder
from cosyserve.cosyvoice.model.config import FRAMES_PER_TOKEN, SAMPLE_RATE
from cosyserve.cosyvoice.model.loading import flow_of, load_flow
from cosyserve.cosyvoice.model.untrained import untrained
from cosyserve.measure.model import UTTERANCE_TOKENS, Voice, deviation, speech, voice
from cosyserve.speech import recording

STEPS = (10, 8, 6, 5)
_DECIBELS = 20 / math.log(10)  # in a unit of the mel, which is the natural logarithm of an amplitude


def flow_steps(folder: Path | None, file: Path, edition: Edition = COSYVOICE2) -> Iterator[tuple[str, object]]:
    """With the model of `folder`, the second half of the recording `file` is spoken again behind its first half.
    Without one, weights and tokens are drawn at random, and how far the mel strays says nothing of speech."""
    if folder is None:
        flow, given, tokens = untrained(flow_of(edition.sizes())), voice(), speech(UTTERANCE_TOKENS)
    else:
        flow, (given, tokens) = load_flow(folder, edition.config(folder)), _halves(folder, file, edition)
    yield "weights", "untrained" if folder is None else str(folder)
    yield "threads", torch.get_num_threads()
    flow.mel(tokens, given.tokens, given.mel, given.embedding, chunked=True)  # warm
    exact: Tensor | None = None
    ten = 0.0
    for steps in STEPS:
        flow.steps = steps
        began = time.process_time()  # of the processor, whatever else is busy
        mel = flow.mel(tokens, given.tokens, given.mel, given.embedding, chunked=True)
        seconds = time.process_time() - began
        exact, ten = (mel, seconds) if exact is None else (exact, ten)
        yield f"{steps} steps: processor time, of that of {STEPS[0]}", round(seconds / ten, 2)
        yield f"{steps} steps: relative deviation of the mel", deviation(mel, exact)
        yield f"{steps} steps: mean deviation in dB", round(_DECIBELS * float((mel - exact).abs().mean()), 2)


def _halves(folder: Path, file: Path, edition: Edition) -> tuple[Voice, Tensor]:
    """A recording's first half as a voice, and the speech tokens (1, T) of the second."""
    pcm = recording.read(file.read_bytes())
    at_16k = soxr.resample(pcm, SAMPLE_RATE, TOKENIZER_RATE)
    prompt = PromptEncoder(folder, torch.get_num_threads(), edition.ears).encode(
        torch.from_numpy(pcm), torch.from_numpy(at_16k)
    )
    half = len(prompt.speech) // 2
    mel = prompt.mel[None, : half * FRAMES_PER_TOKEN]
    return Voice(prompt.speech[None, :half], mel, prompt.speaker[None]), prompt.speech[None, half:]
