"""`cosyserve say`: the pipeline without a server, into a file, a pipe or a loudspeaker."""

import contextlib
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, cast

from cosyserve import errors
from cosyserve.errors import CosyError
from cosyserve.files import writing_atomically
from cosyserve.settings import Settings
from cosyserve.speech.audio import SAMPLE_RATE
from cosyserve.speech.captions import expect_writable, write
from cosyserve.speech.choice import Choice
from cosyserve.speech.encoders import FORMATS
from cosyserve.speech.label import Label, label_of
from cosyserve.speech.lexicon import Lexicon
from cosyserve.speech.output import Output
from cosyserve.speech.pipeline import SpeechRequest, sounds_of
from cosyserve.speech.synthesizer import pronounces, voice_of
from cosyserve.text.checks import checked
from cosyserve.text.front_end import whole

_RATE = str(SAMPLE_RATE)
# Programs that play raw 16-bit mono samples from standard input, in order of preference.
_PLAYERS: tuple[tuple[str, ...], ...] = (
    ("paplay", "--raw", "--format=s16le", f"--rate={_RATE}", "--channels=1"),
    ("aplay", "-q", "-t", "raw", "-f", "S16_LE", "-r", _RATE, "-c", "1"),
    ("play", "-q", "-t", "raw", "-e", "signed", "-b", "16", "-r", _RATE, "-c", "1", "-"),
    ("ffplay", "-loglevel", "error", "-nodisp", "-autoexit", "-f", "s16le", "-ar", _RATE, "-i", "-"),
)


async def say(
    settings: Settings,
    choice: Choice,
    text: str,
    voice: str,
    speed: float,
    output: str | None,
    *,
    normalize: bool = True,
    ssml: bool = False,
    captions: Path | None = None,
) -> None:
    """Speak `text` into the file `output`, standard output (`-`) or, where it is None, a player. The file `captions`
    says what was said when."""
    # Checked before anything is spoken.
    caption_format = expect_writable(captions) if captions else None
    synthesizer = choice.synthesizer
    with contextlib.closing(synthesizer):
        text, speaker = checked(text, settings.max_text_chars), voice_of(synthesizer, voice or settings.voice)
        pronounced = pronounces(synthesizer)
        segments = whole(
            text,
            normalize=normalize,
            first_alone=output is None,
            pronounced=pronounced,
            words=Lexicon(settings.voices_dir).words(speaker.id, pronounced=pronounced),
            ssml=ssml,
        )
        speech = SpeechRequest(segments, speaker, speed)
        with _sink(output, speed, label_of(settings)) as (sink, audio):
            segment = None
            async for sound in sounds_of(synthesizer, speech, settings.max_audio_seconds):
                if sound.segment is not segment:
                    segment = sound.segment
                    sink.write(audio.begin_segment(segment.written))
                sink.write(audio.push(sound.pcm))
                sink.flush()
            sink.write(audio.finish())
        if captions and caption_format:
            write(captions, caption_format.written(audio.captions))


def read(source: BinaryIO, most: int) -> str:
    """Reads the input, but only enough to tell that it is longer than `most` characters."""
    return source.read(4 * most + 4).decode(errors="replace")


@contextlib.contextmanager
def _sink(output: str | None, speed: float, label: Label | None) -> Iterator[tuple[BinaryIO, Output]]:
    if output is None:
        with _player() as pipe:
            yield pipe, Output(FORMATS["pcm"], speed, label=label)
    elif output == "-":
        yield sys.stdout.buffer, Output(FORMATS["wav"], speed, label=label)
    else:
        yield from _file(Path(output), speed, label)


def _file(path: Path, speed: float, label: Label | None) -> Iterator[tuple[BinaryIO, Output]]:
    """Writes the file atomically."""
    fmt = FORMATS.get(path.suffix[1:].lower())
    endings = ", ".join(f".{name}" for name in FORMATS)
    if fmt is None:
        raise CosyError(errors.OUTPUT_UNUSABLE, path=path, reason="unknown ending", endings=endings)
    try:
        with writing_atomically(path) as file:
            yield file, Output(fmt, speed, file, label)
    except OSError as error:
        raise CosyError(errors.OUTPUT_UNUSABLE, path=path, reason=error.strerror, endings=endings) from error


@contextlib.contextmanager
def _player() -> Iterator[BinaryIO]:
    command = next((command for command in _PLAYERS if shutil.which(command[0])), None)
    if command is None:
        raise CosyError(errors.NO_PLAYER, players=", ".join(command[0] for command in _PLAYERS))
    with subprocess.Popen(command, stdin=subprocess.PIPE) as player:  # noqa: S603 - argv is the table above
        assert player.stdin is not None  # noqa: S101 - a pipe was asked for
        with contextlib.suppress(BrokenPipeError):  # its exit status below says more
            yield cast("BinaryIO", player.stdin)
    if player.returncode:
        raise CosyError(errors.PLAYER_FAILED, player=command[0], status=player.returncode)
