"""A pipeline of Pipecat's says a text: python pipecat_pipeline.py URL TEXT. Samples go to standard output."""

import asyncio
import sys

from pipecat.frames.frames import TTSAudioRawFrame, TTSSpeakFrame
from pipecat.services.openai.tts import VALID_VOICES, OpenAITTSService
from pipecat.tests.utils import run_test


async def main(url: str, text: str) -> None:
    VALID_VOICES["english"] = "english"  # it refuses names that are not OpenAI's
    settings = OpenAITTSService.Settings(voice="english")
    service = OpenAITTSService(base_url=f"{url}/v1", api_key="unused", sample_rate=24_000, settings=settings)
    frames, _ = await run_test(service, frames_to_send=[TTSSpeakFrame(text)])
    for frame in frames:
        if isinstance(frame, TTSAudioRawFrame):
            sys.stdout.buffer.write(frame.audio)


asyncio.run(main(*sys.argv[1:]))
