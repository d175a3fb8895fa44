"""A thousand short requests one after another, then sixteen at a time for minutes, to CosyVoice2 with a small model.

Prints the server's memory as it goes, and whether a fixed seed still gives the very same samples, also in the middle of
the crowd:  python -m bench.endurance [MINUTES]
"""

import hashlib
import sys
import tempfile
import threading
import time
from pathlib import Path

import httpx
import psutil

from cosyserve.store.manifest import MODEL_FOLDER
from tests.cosyvoice.folder import make_model
from tests.running import Server

_REQUESTS, _AT_ONCE, _LOOKS = 1000, 16, 8


def speak(client: httpx.Client, text: str, seed: int) -> str:
    """The digest of the samples."""
    response = client.post("/v1/audio/speech", json={"input": text, "seed": seed, "response_format": "pcm"})
    response.raise_for_status()
    return hashlib.sha256(response.content).hexdigest()


def memory(server: Server) -> int:
    """MiB of the server and its supervisor."""
    family = [server.process, *server.process.children(recursive=True)]
    return round(sum(each.memory_info().rss for each in family) / 2**20)


def crowd(url: str, until: float, counts: list[int], problems: list[BaseException]) -> None:
    try:
        with httpx.Client(base_url=url, timeout=300) as client:
            while time.monotonic() < until:
                speak(client, "Hi.", seed=len(counts))
                counts.append(1)
    except BaseException as problem:
        problems.append(problem)


def main() -> None:
    minutes = float(sys.argv[1]) if len(sys.argv) > 1 else 5
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        make_model(folder / "models" / MODEL_FOLDER)
        serving = Server(folder, synthesizer="cosyvoice2", models_dir=folder / "models")
        with serving as server, httpx.Client(base_url=server.url, timeout=300) as client:
            expected = speak(client, "Hello.", seed=1)
            began = time.monotonic()
            for number in range(_REQUESTS):
                if number % (_REQUESTS // _LOOKS) == 0:
                    print(f"{number:5} requests, one after another: {memory(server)} MiB", flush=True)
                speak(client, "Hi.", seed=number)
            print(f"{_REQUESTS:5} requests: {memory(server)} MiB, {time.monotonic() - began:.0f} s", flush=True)
            print(f"the same seed: {'identical' if speak(client, 'Hello.', 1) == expected else 'DIFFERENT'}")
            counts: list[int] = []
            problems: list[BaseException] = []
            until = time.monotonic() + 60 * minutes
            threads = [
                threading.Thread(target=crowd, args=(server.url, until, counts, problems)) for _ in range(_AT_ONCE)
            ]
            for thread in threads:
                thread.start()
            for _ in range(_LOOKS):
                same = speak(client, "Hello.", seed=1) == expected
                print(
                    f"{len(counts):5} requests, {_AT_ONCE} at a time: {memory(server)} MiB; "
                    f"the same seed among them: {'identical' if same else 'DIFFERENT'}",
                    flush=True,
                )
                time.sleep(60 * minutes / _LOOKS)
            for thread in threads:
                thread.join()
            print(f"{len(counts):5} requests: {memory(server)} MiB; failed: {len(problems)}")
            print(f"the same seed: {'identical' if speak(client, 'Hello.', 1) == expected else 'DIFFERENT'}")
            print(
                f"open files of the server: {sum(each.num_fds() for each in psutil.Process().children(recursive=True))}"
            )


if __name__ == "__main__":
    main()
