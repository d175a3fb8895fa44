"""The lexicon: how single words are said, by all voices or by one."""

from typing import Annotated

from anyio.to_thread import run_sync
from fastapi import APIRouter, Path, Query, Request
from pydantic import BaseModel, Field

from cosyserve.server.bodies import BoundedRoute
from cosyserve.server.failures import RESPONSES
from cosyserve.server.fields import Body, ShortText
from cosyserve.server.routes.openai import Deleted
from cosyserve.server.service import Service, service_of
from cosyserve.text.lexicon import Pronunciation

router = APIRouter(route_class=BoundedRoute, responses=RESPONSES, tags=["lexicon"])

_WORD = "/v1/audio/lexicon/{word:path}"  # `AC/DC` is a word, too
Word = Annotated[ShortText, Path(description="The word as it is written, case included.")]
VoiceName = Annotated[ShortText, Query(description="The only voice that the entry is for. Without it, all voices.")]


class Said(Body):
    respelling: ShortText = Field("", description="What is said instead, as if it had been written.")
    pinyin: ShortText = Field("", description="Syllables with their tones: `hang2 zhang3` or `háng zhǎng`.")
    phonemes: ShortText = Field("", description="CMU's phonemes: `HH AH0 L OW1`.")
    voice: ShortText = Field("", description="The same as in the query, which goes first.")


class LexiconEntry(BaseModel):
    """What is empty was not given. An entry without a voice is for all."""

    word: str
    respelling: str
    pinyin: str
    phonemes: str
    voice: str


class LexiconEntries(BaseModel):
    entries: list[LexiconEntry]


@router.get("/v1/audio/lexicon")
async def list_lexicon(request: Request) -> LexiconEntries:
    """All entries, by their words."""
    entries = await run_sync(lambda: service_of(request).lexicon.entries)
    return LexiconEntries(entries=[_shown(entry) for entry in entries])


@router.get(_WORD)
async def get_word(request: Request, word: Word, voice: VoiceName = "") -> LexiconEntry:
    """One entry."""
    service = service_of(request)
    return _shown(await run_sync(service.lexicon.find, word, _voice(service, voice)))


@router.put(_WORD)
async def put_word(request: Request, word: Word, said: Said, voice: VoiceName = "") -> LexiconEntry:
    """Say how a word is said: by a respelling, and by pinyin or phonemes for a model that takes them."""
    service = service_of(request)
    asked = voice.strip() or said.voice.strip()
    name = service.voice(asked).id if asked else ""
    entry = Pronunciation(word, said.respelling, said.pinyin, said.phonemes, name)
    return _shown(await run_sync(service.lexicon.put, entry))


@router.delete(_WORD)
async def delete_word(request: Request, word: Word, voice: VoiceName = "") -> Deleted:
    """Say a word as it is written again."""
    service = service_of(request)
    await run_sync(service.lexicon.remove, word, _voice(service, voice))
    return Deleted(id=word)


def _voice(service: Service, name: str) -> str:
    """The name an entry has, also of a voice that is gone."""
    return service.voice_id(name) or name.strip() if name.strip() else ""


def _shown(entry: Pronunciation) -> LexiconEntry:
    return LexiconEntry.model_validate(entry, from_attributes=True)
