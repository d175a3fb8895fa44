"""`cosyserve say`: the pipeline without a server, into a file, a pipe or a loudspeaker."""

import contextlib
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

import click

from cosyserve import errors
from cosyserve.client.call import Call
from cosyserve.client.speech import spoken
from cosyserve.errors import CosyError
from cosyserve.files import writing_atomically
from cosyserve.settings import Settings
from cosyserve.speech.audio import SAMPLE_RATE
from cosyserve.speech.captions import expect_writable, write
from cosyserve.speech.choice import Choice
from cosyserve.speech.encoders import FORMATS, Format
from cosyserve.speech.label import label_of
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
        with _sink(output) as sink:
            file = sink.stream if sink.is_file else None
            audio, segment = Output(sink.format, speed, file, label_of(settings)), None
            async for sound in sounds_of(synthesizer, speech, settings.max_audio_seconds):
                if sound.segment is not segment:
                    segment = sound.segment
                    sink.stream.write(audio.begin_segment(segment.written))
                sink.stream.write(audio.push(sound.pcm))
                sink.stream.flush()
            sink.stream.write(audio.finish())
        if captions and caption_format:
            write(captions, caption_format.written(audio.captions))


def say_by(
    settings: Settings,
    call: Call,
    text: str,
    voice: str,
    speed: float,
    output: str | None,
    *,
    normalize: bool = True,
    ssml: bool = False,
    captions: Path | None = None,
) -> None:
    """The same, spoken by the server that `call` asks, which makes the file and its label."""
    caption_format = expect_writable(captions) if captions else None
    with _sink(output) as sink:
        fields = {
            "input": text,
            "input_format": "ssml" if ssml else "text",
            "voice": voice,
            "speed": speed,
            "normalize": normalize,
            "response_format": sink.format.name,
            "stream": not sink.is_file,
            "captions": caption_format.name if caption_format else "",
        }
        with spoken(call, fields, _tell) as speech:
            for piece in speech.pieces(settings.max_audio_seconds):
                sink.stream.write(piece)
                sink.stream.flush()
            said = speech.captions() if captions else ""
    if captions:
        write(captions, said)


def _tell(error: CosyError, seconds: int) -> None:
    click.echo(f"{error.cause} It is asked again in {seconds} s.\n{error.cause_zh}{seconds} 秒后重试。", err=True)


def read(source: BinaryIO, most: int) -> str:
    """Reads the input, but only enough to tell that it is longer than `most` characters."""
    return source.read(4 * most + 4).decode(errors="replace")


@dataclass(frozen=True)
class _Sink:
    """Where the sound goes, and in which format. Only a file is complete before anybody hears it."""

    stream: BinaryIO
    format: Format
    is_file: bool = False


@contextlib.contextmanager
def _sink(output: str | None) -> Iterator[_Sink]:
    if output is None:
        with _player() as pipe:
            yield _Sink(pipe, FORMATS["pcm"])
    elif output == "-":
        yield _Sink(sys.stdout.buffer, FORMATS["wav"])
    else:
        yield from _file(Path(output))


def _file(path: Path) -> Iterator[_Sink]:
    """Writes the file atomically."""
    fmt = FORMATS.get(path.suffix[1:].lower())
    endings = ", ".join(f".{name}" for name in FORMATS)
    if fmt is None:
        raise CosyError(errors.OUTPUT_UNUSABLE, path=path, reason="unknown ending", endings=endings)
    try:
        with writing_atomically(path) as file:
            yield _Sink(file, fmt, is_file=True)
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
