"""Recordings that come with requests have places of their own, so that speech goes on whatever is uploaded."""

import asyncio
import threading
from collections.abc import AsyncGenerator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import httpx

from cosyserve.server.service import ServerState, Service
from cosyserve.settings import Settings
from cosyserve.speech.audio import Pcm
from cosyserve.speech.choice import Choice
from cosyserve.speech.synthesizer import Capability, Options
from cosyserve.speech.voices import Library, Voice
from tests.conftest import Serving
from tests.running import HANGS, eventually
from tests.speech.recordings import speech
from tests.standins import GatedSynthesizer, ToneSynthesizer

AT_WORK, WAITING = 2, 8


class Listening(GatedSynthesizer):
    """Stands at the recording of a request, and at one that is added, until the test lets it go on."""

    capabilities = frozenset(Capability)

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.go_on = threading.Event()
        self.library = Library(folder, lambda _entry: self.go_on.wait(HANGS))  # type: ignore[assignment]

    async def synthesize(self, segment: str, voice: Voice, options: Options) -> AsyncGenerator[Pcm, None]:
        if options.reference:
            await anyio.to_thread.run_sync(self.go_on.wait, 30)
        async for chunk in super().synthesize(segment, voice, options):
            yield chunk


def upload(url: str, number: int, recording: bytes) -> httpx.Response:
    with httpx.Client(base_url=url, timeout=HANGS) as client:
        if number % 2:
            form = {"name": f"voice {number}", "consent": "a machine spoke it"}
            return client.post("/v1/audio/voices", data=form, files={"audio_sample": recording})
        return client.post("/inference_cross_lingual", data={"tts_text": "hello"}, files={"prompt_wav": recording})


def test_few_recordings_are_listened_to_at_once_and_the_rest_come_back_later(serving: Serving, tmp_path: Path) -> None:
    services: list[Service] = []

    def seen(app: Any) -> Any:
        services.append(app.state.service)
        return app

    synthesizer, recording = Listening(tmp_path), speech()
    with serving(synthesizer, seen) as url, ThreadPoolExecutor(AT_WORK + WAITING) as clients:
        uploads = services[0].uploads
        running = [clients.submit(upload, url, number, recording) for number in range(AT_WORK + WAITING)]
        eventually(lambda: (uploads.active, uploads.waiting) == (AT_WORK, WAITING))
        for number in (0, 1):
            refused = upload(url, number, recording)
            assert refused.status_code == 429
            assert refused.json()["error"]["code"] == "CS-BUSY-003"
            assert 1 <= int(refused.headers["retry-after"]) <= 60
        assert httpx.post(f"{url}/tts", data={"text": "ab"}).content  # the streams are free
        synthesizer.go_on.set()
        assert {done.result().status_code for done in running} <= {200, 201}
        assert (uploads.active, uploads.waiting) == (0, 0)


def test_a_place_is_free_once_the_recording_has_been_heard(serving: Serving, tmp_path: Path) -> None:
    services: list[Service] = []

    def seen(app: Any) -> Any:
        services.append(app.state.service)
        return app

    synthesizer = Listening(tmp_path)
    synthesizer.go_on.set()
    with serving(synthesizer, seen) as url:
        synthesizer.budget = 1
        form, files = {"tts_text": "hello"}, {"prompt_wav": b"RIFF"}
        with httpx.stream("POST", f"{url}/inference_cross_lingual", data=form, files=files) as response:
            pieces = response.iter_raw()
            next(pieces)
            assert (services[0].uploads.active, services[0].admission.active) == (0, 1)


def test_encoding_waits_for_nobody_elses_threads() -> None:
    async def run() -> None:
        service = Service(Settings(), Choice(ToneSynthesizer(), "a test", "测试"))
        service.state = ServerState.READY
        busy = threading.Event()
        threads = anyio.to_thread.current_default_thread_limiter()
        async with anyio.create_task_group() as others:
            for _ in range(int(threads.total_tokens)):
                others.start_soon(anyio.to_thread.run_sync, busy.wait, 30)
            while threads.available_tokens:
                await asyncio.sleep(0)
            try:
                assert await service.encode(bytes) == b""
            finally:
                busy.set()

    asyncio.run(run())
