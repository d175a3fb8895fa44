"""How much each key has used."""

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field

from cosyserve.keys import MAIN, Key
from cosyserve.keys.key import Limits, Priority
from cosyserve.server.failures import RESPONSES
from cosyserve.server.quotas import Quotas
from cosyserve.server.service import key_of, service_of

router = APIRouter(responses={401: RESPONSES[401]})


class Used(BaseModel):
    requests_per_minute: int = Field(description="Within the last 60 seconds.")
    characters_per_minute: int
    requests_per_day: int = Field(description="Since 00:00 UTC.")
    characters_per_day: int


class UsageOfKey(BaseModel):
    key: str = Field(description="The key's name; `main` stands for the server's own keys.")
    priority: Priority
    used: Used
    limits: Limits = Field(description="null means without a limit.")


class UsageOfKeys(BaseModel):
    day: str
    seconds_left: int = Field(description="Until the next day begins.")
    keys: list[UsageOfKey]


@router.get("/v1/usage")
async def get_usage(request: Request) -> UsageOfKeys:
    """What the key of this request has used; with a main key, what every key has used."""
    service, key = service_of(request), key_of(request)
    quotas, named = service.quotas, service.keyring.named
    shown = [MAIN, *named.values()] if key is MAIN else [named.get(key.name, key)]
    left = int(quotas.usage.seconds_left())
    return UsageOfKeys(day=quotas.usage.today(), seconds_left=left, keys=[_of(quotas, each) for each in shown])


def _of(quotas: Quotas, key: Key) -> UsageOfKey:
    used = {each.name: each.used for each in quotas.standings(key)}
    return UsageOfKey(key=key.name, priority=key.priority, used=Used.model_validate(used), limits=key.limits)
