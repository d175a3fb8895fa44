"""A text is said as Home Assistant has it said: python wyoming_pieces.py URI TEXT. Samples go to standard output.

First as a whole, then piece by piece, with the whole once more at the end for servers that take no pieces.
"""

import asyncio
import sys
from collections.abc import AsyncIterator

from wyoming.audio import AudioChunk, AudioStart, AudioStop
from wyoming.client import AsyncClient
from wyoming.event import Event
from wyoming.info import Describe, Info
from wyoming.tts import Synthesize, SynthesizeChunk, SynthesizeStart, SynthesizeStop, SynthesizeStopped, SynthesizeVoice


async def main(uri: str, text: str) -> None:
    async with AsyncClient.from_uri(uri) as client:
        await client.write_event(Describe().event())
        info = Info.from_event(await event_of(client))
        (program,) = info.tts
        assert program.installed and program.supports_synthesize_streaming
        voice = SynthesizeVoice(name=next(each.name for each in program.voices if "en" in each.languages))
        await client.write_event(Synthesize(text, voice).event())
        whole = [each async for each in sound(client, AudioStop)]
    async with AsyncClient.from_uri(uri) as client:
        await client.write_event(SynthesizeStart(voice).event())
        for at in range(0, len(text), 3):
            await client.write_event(SynthesizeChunk(text[at : at + 3]).event())
        await client.write_event(Synthesize(text, voice).event())
        await client.write_event(SynthesizeStop().event())
        pieces = [each async for each in sound(client, SynthesizeStopped)]
    assert whole and pieces
    sys.stdout.buffer.write(b"".join(whole + pieces))


async def event_of(client: AsyncClient) -> Event:
    event = await client.read_event()
    assert event is not None
    return event


async def sound(client: AsyncClient, last: type) -> AsyncIterator[bytes]:
    start = AudioStart.from_event(await event_of(client))
    assert (start.rate, start.width, start.channels) == (24_000, 2, 1)
    while not last.is_type((event := await event_of(client)).type):
        if AudioChunk.is_type(event.type):
            yield AudioChunk.from_event(event).audio


asyncio.run(main(*sys.argv[1:]))
