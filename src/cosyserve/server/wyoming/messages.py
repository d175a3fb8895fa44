"""What clients ask for in the data of their events, and what the server says of itself."""

from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import Field

from cosyserve import __version__
from cosyserve.server.fields import Body, InputFormat, ShortText
from cosyserve.speech.synthesizer import Synthesizer
from cosyserve.speech.voices import Voice


class AskedVoice(Body):
    """A name goes before a language. CosyServe's voices have no speakers, so `speaker` is ignored."""

    name: ShortText = ""
    language: ShortText = ""


class Start(Body):
    """`synthesize-start`: a text that comes piece by piece, and how it is to be spoken."""

    voice: AskedVoice = Field(default_factory=AskedVoice)
    text_format: InputFormat = "text"

    @property
    def ssml(self) -> bool:
        return self.text_format == "ssml"


class Synthesize(Start):
    """`synthesize`: a whole text."""

    text: str


class Piece(Body):
    """`synthesize-chunk`."""

    text: str


class Ping(Body):
    text: ShortText = ""


def voice_name(asked: AskedVoice, default: Voice, voices: Iterable[Voice]) -> str:
    """The voice by that name, else the one that speaks the language best: it is the earliest of its languages. Empty
    for the default voice, which also comes first among equals."""
    if asked.name or not asked.language:
        return asked.name
    language = asked.language.replace("_", "-").partition("-")[0].lower()
    speaking = [voice for voice in (default, *voices) if language in voice.languages]
    return min(speaking, key=lambda voice: voice.languages.index(language)).id if speaking else ""


def info(synthesizer: Synthesizer, default: Voice) -> Mapping[str, Any]:
    """The data of `info`: one program that speaks, with the default voice first."""
    others = [voice for voice in synthesizer.voices.values() if voice.id != default.id]
    program = {
        **_artifact("cosyserve", f"CosyServe ({synthesizer.name})"),
        "voices": [_voice(voice) for voice in (default, *others)],
        "supports_synthesize_streaming": True,
    }
    return {"tts": [program], **{kind: [] for kind in ("asr", "handle", "intent", "wake", "mic", "snd")}}


def _voice(voice: Voice) -> dict[str, Any]:
    return {**_artifact(voice.id, voice.name), "languages": list(voice.languages), "speakers": None}


def _artifact(name: str, description: str) -> dict[str, Any]:
    attribution = {"name": "CosyServe", "url": ""}
    return {
        "name": name,
        "description": description,
        "version": __version__,
        "installed": True,
        "attribution": attribution,
    }
