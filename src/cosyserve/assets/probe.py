"""How fast an address gives its first bytes: reads a question from standard input, prints bytes a second, and nothing
where the address cannot be reached. As soon as it answers a 0 says so, in case nobody waits for the rest.

A program of its own that needs nothing but the standard library, so that it starts in no time.
"""

import json
import sys
import time
import urllib.error
import urllib.request


def speed(address: str, seconds: float, most: int) -> float:
    request = urllib.request.Request(address, headers={"Range": f"bytes=0-{most - 1}"})  # noqa: S310 - ours
    began = time.monotonic()
    got = 0
    with urllib.request.urlopen(request, timeout=seconds) as answer:  # noqa: S310
        print(0.0, flush=True)
        while got < most and time.monotonic() - began < seconds and (block := answer.read1(1 << 16)):
            got += len(block)
    return got / (time.monotonic() - began)


if __name__ == "__main__":
    question = json.load(sys.stdin)
    try:
        print(speed(question["address"], question["seconds"], question["bytes"]))
    except (urllib.error.HTTPError, TimeoutError):
        print(0.0)  # it was reached; the transfer will say what is the matter
    except urllib.error.URLError:
        pass
