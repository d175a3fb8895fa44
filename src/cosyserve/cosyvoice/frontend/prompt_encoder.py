"""What the model needs of a voice's recording: its speech tokens, its mel and who speaks.

Tokens come from a speech tokenizer of the model's edition, the speaker from CAM++ (`campplus.onnx`); both are run by
onnxruntime.
"""

from dataclasses import dataclass
from pathlib import Path

import kaldi_native_fbank
import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray
from torch import Tensor

from cosyserve.cosyvoice.frontend.features import HIGHEST, TOKENIZER_RATE, mel, tokenizer_mel
from cosyserve.cosyvoice.model.config import FRAMES_PER_TOKEN, MELS, SAMPLE_RATE, SPEECH_TOKENS
from cosyserve.cosyvoice.model.loading import WeightsError

SPEAKER_SIZE = 192

# Element type and shape of every input, as the released files have them. None matches any size.
_Interface = tuple[tuple[str, tuple[int | None, ...]], ...]
_TOKENIZER: _Interface = (("tensor(float)", (None, 128, None)), ("tensor(int32)", (None,)))
_SPEAKER: _Interface = (("tensor(float)", (None, None, 80)),)


@dataclass(frozen=True)
class Ears:
    """How an edition reads a recording: its two networks' files, and the mel's upper limit in Hz."""

    tokenizer: str
    highest: float
    speaker: str = "campplus.onnx"

    @property
    def files(self) -> tuple[str, str]:
        return self.tokenizer, self.speaker


COSYVOICE2 = Ears("speech_tokenizer_v2.onnx", HIGHEST)
COSYVOICE3 = Ears("speech_tokenizer_v3.onnx", SAMPLE_RATE / 2)  # no limit


@dataclass(frozen=True)
class Prompt:
    """A voice as the model takes it: speech tokens (P,), their mel (2P, 80), the speaker's embedding (192,)."""

    speech: Tensor
    mel: Tensor
    speaker: Tensor


class PromptEncoder:
    """Both models of a folder. Threads may share it."""

    def __init__(self, folder: Path, threads: int, ears: Ears = COSYVOICE2) -> None:
        """Raises `WeightsError` where a file is missing, damaged or of another interface."""
        self.ears = ears
        self._tokenizer = _session(folder / ears.tokenizer, _TOKENIZER, threads)
        self._speaker = _session(folder / ears.speaker, _SPEAKER, threads)

    def encode(self, at_24k: Tensor, at_16k: Tensor) -> Prompt:
        """The prompt of a recording, given at both rates (n,)."""
        spectra = tokenizer_mel(at_16k).numpy()
        length = np.array([spectra.shape[2]], dtype=np.int32)
        tokens = self._run(self._tokenizer, spectra, length).reshape(-1)
        if (
            not np.issubdtype(tokens.dtype, np.integer)
            or tokens.min(initial=0) < 0
            or tokens.max(initial=0) >= SPEECH_TOKENS
        ):
            raise WeightsError(f"{self.ears.tokenizer} gives something else than speech tokens")
        loudness = fbank(at_16k)
        speaker = self._run(self._speaker, (loudness - loudness.mean(0))[None]).reshape(-1)
        if speaker.shape != (SPEAKER_SIZE,):
            raise WeightsError(f"{self.ears.speaker} gives {speaker.size} numbers for a speaker, not {SPEAKER_SIZE}")
        frames = mel(at_24k, self.ears.highest)[0]
        # The tokenizer and the mel round differently; upstream cuts both to what they have in common.
        count = min(len(tokens), len(frames) // FRAMES_PER_TOKEN)
        speech = torch.from_numpy(tokens[:count].astype(np.int64))
        return Prompt(speech, frames[: count * FRAMES_PER_TOKEN].contiguous(), torch.from_numpy(speaker))

    @staticmethod
    def _run(session: onnxruntime.InferenceSession, *inputs: NDArray[np.generic]) -> NDArray[np.generic]:
        names = (each.name for each in session.get_inputs())
        try:
            output: NDArray[np.generic] = session.run(None, dict(zip(names, inputs, strict=True)))[0]
        except Exception as error:  # onnxruntime's errors have no common base of their own
            raise WeightsError(f"an ONNX model failed on a recording: {error}") from error
        return output


def fbank(wave: Tensor) -> NDArray[np.float32]:
    """Kaldi's log filter bank (T, 80) of a recording (n,) at 16 kHz: 25 ms windows every 10 ms, no dither."""
    options = kaldi_native_fbank.FbankOptions()
    options.frame_opts.samp_freq = TOKENIZER_RATE
    options.frame_opts.dither = 0
    options.mel_opts.num_bins = MELS
    bank = kaldi_native_fbank.OnlineFbank(options)
    for second in wave.split(TOKENIZER_RATE):  # it holds the interpreter while it works
        bank.accept_waveform(TOKENIZER_RATE, second.tolist())
    bank.input_finished()
    return np.stack([bank.get_frame(frame) for frame in range(bank.num_frames_ready)])


def _session(path: Path, interface: _Interface, threads: int) -> onnxruntime.InferenceSession:
    if not path.is_file():
        raise WeightsError(f"{path} is missing")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # its threads sleep between two recordings
    options.log_severity_level = 3  # errors only: its warnings are about the graph, which is given
    try:
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise WeightsError(f"{path} is damaged or no ONNX model ({path.stat().st_size} bytes): {error}") from error
    inputs = session.get_inputs()
    if len(inputs) != len(interface) or not all(
        each.type == kind and _fits(each.shape, shape) for each, (kind, shape) in zip(inputs, interface, strict=False)
    ):
        found = ", ".join(f"{each.name} {each.type}{each.shape}" for each in inputs)
        raise WeightsError(f"{path} is another model: its inputs are {found}")
    return session


def _fits(found: list[int | str | None], wanted: tuple[int | None, ...]) -> bool:
    """Names and None stand for any size."""
    return len(found) == len(wanted) and all(
        size == like for size, like in zip(found, wanted, strict=True) if isinstance(size, int) and like is not None
    )
