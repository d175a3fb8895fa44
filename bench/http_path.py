"""What the server adds to the pipeline it serves: first-chunk latency, and CPU for a second of audio.

Both speak the same text in the same formats, alternately, in one run on one machine. The pipeline is called in
this process; the server is a process of its own, reached over loopback by a client whose CPU does not count.
"""

import argparse
import asyncio
import statistics
import time

import httpx
import psutil

from bench.common.benchmark import Benchmark
from bench.common.results import Results, ms, ratio
from bench.common.serving import cpu_seconds, server
from cosyserve.speech.audio import SAMPLE_RATE
from cosyserve.speech.encoders import FORMATS
from cosyserve.speech.pipeline import SpeechRequest, speak
from cosyserve.speech.preview import PreviewSynthesizer
from cosyserve.text.front_end import whole

TEXT = "今天天气很好，我们一起去公园散步吧。The weather is fine, so let us take a walk in the park. " * 10
ROUNDS = 15


async def pipeline(synthesizer: PreviewSynthesizer, name: str) -> tuple[float, float]:
    """Seconds to the first encoded chunk, and seconds of audio."""
    started, first, samples = time.perf_counter(), 0.0, 0
    encoder = FORMATS[name].encoder()
    async for pcm in speak(synthesizer, SpeechRequest(whole(TEXT), synthesizer.voices["mandarin"]), 3600):
        samples += pcm.size
        if encoder.encode(pcm) and not first:
            first = time.perf_counter() - started
    encoder.finish()
    return first, samples / SAMPLE_RATE


def over_http(client: httpx.Client, name: str) -> float:
    started = time.perf_counter()
    body = {"input": TEXT, "response_format": name}
    with client.stream("POST", "v1/audio/speech", json=body) as response:
        pieces = response.iter_raw()
        next(pieces)
        first = time.perf_counter() - started
        for _ in pieces:
            pass
    return first


def measure(options: argparse.Namespace, results: Results) -> None:
    """The preview voice; medians of alternating rounds."""
    synthesizer = PreviewSynthesizer()
    this_process = psutil.Process()
    with server() as (client, process):
        for name in FORMATS:
            firsts: list[tuple[float, float]] = []
            cpu = [0.0, 0.0]
            sound = 0.0
            for _ in range(ROUNDS):
                before = cpu_seconds(this_process)
                first, sound = asyncio.run(pipeline(synthesizer, name))
                cpu[0] += cpu_seconds(this_process) - before
                before = cpu_seconds(process)
                firsts.append((first, over_http(client, name)))
                cpu[1] += cpu_seconds(process) - before
            alone, served = (statistics.median(column) for column in zip(*firsts, strict=True))
            alone_cpu, served_cpu = (spent / (ROUNDS * sound) for spent in cpu)
            results.add(
                f"{name}, {sound:.0f} s of sound",
                first_chunk=ms(alone, ".2f"),
                over_HTTP=ms(served, ".2f"),
                added=ms(served - alone, ".2f"),
                CPU_a_second_of_sound=ms(alone_cpu, ".2f"),
                CPU_over_HTTP=ms(served_cpu, ".2f"),
                CPU_ratio=ratio(served_cpu / alone_cpu),
            )
    synthesizer.close()


BENCHMARK = Benchmark(measure)


if __name__ == "__main__":
    BENCHMARK.run()
