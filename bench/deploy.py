"""From `cosyserve deploy autodl` to the first sound, on the tests' stand-in for an instance: cold, warm, and again.

    . <(scripts/container-engine start .cache/containers) && python -m bench.deploy

The preview voice, and an index in the same container: what is measured is everything but a real network.
"""

import argparse
import subprocess
import tempfile
import time
from pathlib import Path

from bench.common.benchmark import Benchmark
from bench.common.results import Results, seconds, share
from tests.remote import standin
from tests.remote.standin import MIRROR, StandIn
from tests.running import ROOT

_NAME = "cosyserve-bench-autodl"
# What is said when packages begin to be sought, and when they are there.
_PACKAGES = ("packages come from", "the environment is whole")


def deployed(instance: StandIn, *arguments: str) -> tuple[float, float]:
    """Seconds until it has spoken, or said that it serves already; and how many of them went into packages."""
    command = instance.argv("autodl", "--flavour", "preview", "--index", MIRROR, *arguments)
    began, at = time.monotonic(), dict.fromkeys(_PACKAGES, 0.0)
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as client:
        assert client.stdout is not None  # noqa: S101
        for line in client.stdout:
            for mark in _PACKAGES:
                if line.startswith(mark):
                    at[mark] = time.monotonic() - began
            if line.startswith("it speaks") or ": ready (" in line:
                return time.monotonic() - began, at[_PACKAGES[1]] - at[_PACKAGES[0]]
    raise SystemExit("the deployment failed")


def measure(options: argparse.Namespace, results: Results) -> None:
    with tempfile.TemporaryDirectory() as computer, tempfile.TemporaryDirectory() as sources:
        try:
            instance = standin.rent(_NAME, Path(computer))
            release = str(standin.another_version(Path(sources) / "9.1", "9.1"))
            for title, arguments in (
                ("cold: an empty data disk", ()),
                ("again: nothing to do", ()),
                ("warm: another release", ("--release", release)),
            ):
                took, packages = deployed(instance, *arguments)
                results.add(title, to_the_first_sound=seconds(took, ".1f"), of_them_packages=share(packages / took))
            began = time.monotonic()
            instance.told("rollback")
            results.add("rollback: the old one serves", took=seconds(time.monotonic() - began, ".1f"))
        finally:
            standin.give_back(_NAME)


BENCHMARK = Benchmark(measure, needs="a Docker engine")


if __name__ == "__main__":
    BENCHMARK.run()
