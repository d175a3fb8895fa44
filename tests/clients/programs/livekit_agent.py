"""LiveKit's plugin says a text: python livekit_agent.py URL TEXT. Samples go to standard output."""

import asyncio
import sys

from livekit.plugins.openai import TTS


async def main(url: str, text: str) -> None:
    for options in ({}, {"voice": "english", "response_format": "pcm"}):
        speaker = TTS(base_url=f"{url}/v1", api_key="unused", **options)
        async for audio in speaker.synthesize(text):
            sys.stdout.buffer.write(bytes(audio.frame.data))
        await speaker.aclose()


asyncio.run(main(*sys.argv[1:]))
