"""Which synthesizer speaks, and why."""

from dataclasses import dataclass

from cosyserve.settings import Settings
from cosyserve.speech.preview import PreviewSynthesizer
from cosyserve.speech.synthesizer import Synthesizer


@dataclass(frozen=True)
class Choice:
    """What was chosen, and the reason as a user should read it, with the way to something better."""

    synthesizer: Synthesizer
    why: str
    why_zh: str


def choose(settings: Settings) -> Choice:
    """The synthesizer that `settings.synthesizer` asks for. Nothing is guessed silently: `why` says it."""
    if settings.synthesizer == "preview":
        return Choice(
            PreviewSynthesizer(),
            "The preview voice (eSpeak NG), because COSYSERVE_SYNTHESIZER=preview asks for it.",
            "预览语音（eSpeak NG），因为设置了 COSYSERVE_SYNTHESIZER=preview。",
        )
    return Choice(
        PreviewSynthesizer(),
        "The preview voice (eSpeak NG): this version does not bring CosyVoice2 yet. "
        "`git pull && make run-local` brings it once it is out.",
        "预览语音（eSpeak NG）：本版本尚未包含 CosyVoice2，发布后执行 `git pull && make run-local` 即可获得。",
    )
