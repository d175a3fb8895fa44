"""Reads the voices of a `spk2info.pt`, as CosyVoice (`add_zero_shot_spk`) and async_cosyvoice save them."""

import pickle
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cosyserve import errors
from cosyserve.cosyvoice.frontend.edition import COSYVOICE2, COSYVOICE3, Edition
from cosyserve.cosyvoice.frontend.marks import END_OF_PROMPT_ID
from cosyserve.cosyvoice.frontend.prompt_encoder import SPEAKER_SIZE, Prompt
from cosyserve.cosyvoice.model.config import FRAMES_PER_TOKEN, MELS
from cosyserve.errors import CosyError
from cosyserve.speech.prompts import check, packed

# What each calls its parts, in the order speech tokens, mel, speaker, text; the first name that is there counts.
_NAMES = (
    ("flow_prompt_speech_token", "speech_token"),
    ("prompt_speech_feat", "speech_feat"),
    ("flow_embedding", "embedding"),
    ("prompt_text", "prompt_text_token"),
)
_NO_IDS = torch.empty(0, dtype=torch.long)


def voices(path: Path, text_ids: int, edition: Edition = COSYVOICE2) -> Iterator[tuple[str, bytes]]:
    """Names, and the features of each as a safetensors file, for a model of an edition with so many text ids.

    The table itself does not say whose it is, but for the words of CosyVoice3's voices, which its lead closes. Nothing
    in the file is executed; raises `CS-VOICE-105`.
    """
    try:
        table = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, OSError, EOFError, ValueError) as error:
        reason = "it is damaged or holds more than tensors; nothing of it was run"
        raise CosyError(errors.VOICE_FEATURES, path=path, reason=reason) from error
    if not isinstance(table, dict) or not table:
        raise CosyError(errors.VOICE_FEATURES, path=path, reason="it is no table of voices")
    for name, voice in table.items():
        try:
            prompt, text = _prompt(voice)
            check(prompt, text, text_ids)
            if not edition.pronounces and END_OF_PROMPT_ID in text:
                raise ValueError(f"it is of {COSYVOICE3.name}, and {edition.name} cannot take it")
        except (TypeError, ValueError, AttributeError, RuntimeError) as error:
            raise CosyError(errors.VOICE_FEATURES, path=path, reason=f"'{name}': {error}") from error
        yield str(name), packed(prompt, text, edition.name)


def _prompt(voice: Mapping[str, Any]) -> tuple[Prompt, Tensor]:
    speech, mel, speaker, text = (next((voice[key] for key in keys if key in voice), None) for keys in _NAMES)
    if speaker is None:
        raise ValueError("it has no embedding")
    if (speech is None) != (mel is None):
        raise ValueError("it has only one of speech tokens and mel")
    # A voice of the older models is an embedding alone, with which CosyVoice2 can speak without a prompt.
    tokens = _NO_IDS if speech is None else _ids(speech)
    frames = torch.empty(0, MELS) if mel is None else mel.reshape(-1, MELS)
    count = min(len(tokens), len(frames) // FRAMES_PER_TOKEN)
    prompt = Prompt(
        tokens[:count].contiguous(),
        frames[: count * FRAMES_PER_TOKEN].float().contiguous(),
        speaker.reshape(SPEAKER_SIZE).float().contiguous(),
    )
    return prompt, _NO_IDS if text is None else _ids(text)


def _ids(given: Tensor) -> Tensor:
    """(T,); what is no integer is not rounded to one."""
    if given.is_floating_point() or given.is_complex():
        raise ValueError(f"ids in {given.dtype}")
    return given.reshape(-1).long().contiguous()
