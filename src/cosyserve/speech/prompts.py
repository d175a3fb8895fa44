"""What CosyVoice needs of a voice, worked out of its recording once and kept: in memory, and beside the library."""

import hashlib
import json
import logging
import threading
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import soxr
import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_safetensors
from safetensors.torch import save as save_safetensors
from torch import Tensor

from cosyserve import errors
from cosyserve.cosyvoice.frontend.edition import COSYVOICE2, Edition
from cosyserve.cosyvoice.frontend.features import TOKENIZER_RATE
from cosyserve.cosyvoice.frontend.prompt_encoder import SPEAKER_SIZE, Ears, Prompt, PromptEncoder
from cosyserve.cosyvoice.model.config import FRAMES_PER_TOKEN, MELS, SPEECH_TOKENS, TOKENS_PER_SECOND
from cosyserve.errors import CosyError
from cosyserve.files import write_atomically
from cosyserve.speech import recording
from cosyserve.speech.audio import SAMPLE_RATE
from cosyserve.speech.decoding import LONGEST
from cosyserve.speech.host_memory import give_memory_back
from cosyserve.speech.voices import FEATURES, Entry, digest_of

log = logging.getLogger(__name__)

_HEARD_BY = "edition"  # a name in the file's metadata
_IN_MEMORY = 256  # voices; one of 10 s takes 160 kB
_LONGEST = round((LONGEST + 1) * TOKENS_PER_SECOND)  # of a recording elsewhere, which may have been rounded up


@dataclass(frozen=True)
class VoicePrompt:
    """A voice as a request takes it: what was heard, and the words, as text or (from elsewhere) as ids."""

    prompt: Prompt
    transcript: str = ""
    text: Tensor | None = None


class Prompts:
    """Threads may share it. Recordings are listened to one after the other, in a thread of its own; a voice that has
    been heard is there at once."""

    def __init__(
        self,
        folder: Path,
        model: Path,
        prompt_encoder: PromptEncoder,
        text_ids: int,
        edition: Edition = COSYVOICE2,
    ) -> None:
        """`folder` is the library's; `model` the model's, whose digest goes into the names of what is kept. `text_ids`
        is the number of its text ids, which a voice from elsewhere may come with."""
        self._edition = edition.name
        self._folder, self._prompt_encoder, self._text_ids = folder / FEATURES, prompt_encoder, text_ids
        self._model = _model_digest(model, prompt_encoder.ears)
        self._recent: OrderedDict[str, VoicePrompt] = OrderedDict()
        self._lock = threading.Lock()  # of what is in memory, and never held for long
        self._listening = ThreadPoolExecutor(1, thread_name_prefix="listen")

    def of(self, entry: Entry) -> VoicePrompt:
        """The prompt of a voice of the library; raises `CS-VOICE-…` where its file is no good."""
        return self.encode(entry).result()

    def encode(self, entry: Entry) -> "Future[VoicePrompt]":
        """The same, without waiting for it. Raises `FileNotFoundError` where the voice has been deleted."""
        data = entry.file.read_bytes()
        digest = digest_of(data)
        known = self._recalled(digest)
        if known is None and (known := self._read(entry.file, data, digest)) is not None:
            self._remember(digest, known)
        return self._told(known, entry.transcript, lambda: self._encode(data, digest, keep=True))

    def encode_upload(self, data: bytes, transcript: str) -> "Future[VoicePrompt]":
        """The prompt of a recording that came with a request. Nothing of it is written to disk."""
        digest = hashlib.sha256(data).hexdigest()
        return self._told(self._recalled(digest), transcript, lambda: self._encode(data, digest, keep=False))

    def close(self) -> None:
        self._listening.shutdown(cancel_futures=True)

    def _told(
        self, known: VoicePrompt | None, transcript: str, listen: Callable[[], VoicePrompt]
    ) -> "Future[VoicePrompt]":
        if known is None:
            return self._listening.submit(lambda: replace(listen(), transcript=transcript))
        told: Future[VoicePrompt] = Future()
        told.set_result(replace(known, transcript=transcript))
        return told

    def _recalled(self, digest: str) -> VoicePrompt | None:
        with self._lock:
            if digest in self._recent:
                self._recent.move_to_end(digest)
            return self._recent.get(digest)

    def _remember(self, digest: str, voice: VoicePrompt) -> None:
        with self._lock:
            self._recent[digest] = voice
            if len(self._recent) > _IN_MEMORY:
                self._recent.popitem(last=False)

    def _read(self, file: Path, data: bytes, digest: str) -> VoicePrompt | None:
        """A voice that was heard elsewhere, or by an earlier process."""
        if file.suffix == ".safetensors":
            return unpacked(data, file, self._text_ids, self._edition)
        kept = self._kept_at(digest)
        with suppress(OSError, CosyError):  # not there yet, or damaged: it is computed again
            return unpacked(kept.read_bytes(), kept, self._text_ids, self._edition)
        return None

    def _encode(self, data: bytes, digest: str, *, keep: bool) -> VoicePrompt:
        """In the one thread that listens, where the same may have been asked for just before."""
        if (known := self._recalled(digest)) is not None:
            return known
        try:
            prompt = self._listen(data)
        finally:
            give_memory_back()
        if keep:
            self._keep(self._kept_at(digest), prompt)
        voice = VoicePrompt(prompt)
        self._remember(digest, voice)
        return voice

    def _kept_at(self, digest: str) -> Path:
        return self._folder / f"{digest}-{self._model}.safetensors"

    def _listen(self, data: bytes) -> Prompt:
        pcm = recording.read(data)
        at_16k = soxr.resample(pcm, SAMPLE_RATE, TOKENIZER_RATE)
        return self._prompt_encoder.encode(torch.from_numpy(pcm), torch.from_numpy(at_16k))

    def _keep(self, file: Path, prompt: Prompt) -> None:
        """Whole or absent. A folder that cannot be written to costs the next start a moment, and nothing else."""
        try:
            write_atomically(file, packed(prompt, heard_by=self._edition), mode=0o600)
        except OSError as error:
            log.warning("Features of a voice could not be kept in %s: %s", self._folder, error)


def packed(prompt: Prompt, text: Tensor | None = None, heard_by: str = COSYVOICE2.name) -> bytes:
    """A safetensors file of a prompt and, where a voice came with them, of its text's ids. `heard_by` is the edition
    whose speech tokens and mel they are, which another one cannot take."""
    tensors = {"speech": prompt.speech, "mel": prompt.mel, "speaker": prompt.speaker}
    return save_safetensors(tensors if text is None else {**tensors, "text": text}, {_HEARD_BY: heard_by})


def unpacked(data: bytes, path: Path, text_ids: int, edition: str = COSYVOICE2.name) -> VoicePrompt:
    """Raises `CS-VOICE-105` where it is not what `packed` makes, or not of an edition with so many text ids."""
    try:
        tensors = load_safetensors(data)
        prompt, text = Prompt(tensors["speech"], tensors["mel"], tensors["speaker"]), tensors.get("text")
        check(prompt, text, text_ids)
        heard_by = _heard_by(data)
        if heard_by != edition and len(prompt.speech):
            raise ValueError(f"its speech tokens are of {heard_by}, and {edition} has others")
    except (SafetensorError, KeyError, ValueError) as error:
        raise CosyError(errors.VOICE_FEATURES, path=path.name, reason=error) from error
    return VoicePrompt(prompt, text=text)


def _heard_by(data: bytes) -> str:
    """What `packed` wrote into the table of contents; earlier versions, which knew one edition, wrote nothing."""
    length = int.from_bytes(data[:8], "little")
    return str(json.loads(data[8 : 8 + length]).get("__metadata__", {}).get(_HEARD_BY, COSYVOICE2.name))


def check(prompt: Prompt, text: Tensor | None, text_ids: int) -> None:
    """Raise a ValueError where a voice from elsewhere is none that the model can take.

    An id outside of its table would not fail alone: on a card it is an assertion that ends all that runs there.
    """
    _check_ids("speech tokens", prompt.speech, SPEECH_TOKENS)
    if text is not None:
        _check_ids("text ids", text, text_ids)
    count = len(prompt.speech)
    if prompt.mel.shape != (FRAMES_PER_TOKEN * count, MELS) or prompt.speaker.shape != (SPEAKER_SIZE,):
        raise ValueError("its tensors have other shapes")
    if count > _LONGEST:
        raise ValueError(f"its recording has {count} speech tokens; {_LONGEST} are the most")
    if not all(each.dtype == torch.float32 and each.isfinite().all() for each in (prompt.mel, prompt.speaker)):
        raise ValueError("its mel and its embedding are not all numbers in float32")


def _check_ids(name: str, ids: Tensor, count: int) -> None:
    if ids.dtype != torch.long or ids.dim() != 1:
        raise ValueError(f"its {name} are no list of ids")
    if len(ids) and not 0 <= int(ids.min()) <= int(ids.max()) < count:
        raise ValueError(f"its {name} go from {int(ids.min())} to {int(ids.max())}, and the model has 0 to {count - 1}")


def _model_digest(model: Path, ears: Ears) -> str:
    """Of the files that listen, since they alone decide what is heard; each edition has a tokenizer of its own."""
    digest = hashlib.sha256()
    for name in ears.files:
        with (model / name).open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()[:16]
