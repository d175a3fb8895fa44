"""How a server that needs MPI starts on hosts whose MPI is broken: plain Python, bare mpirun, and CosyServe.

Needs root and Debian's Open MPI. The hosts are the stand-ins of the tests; each figure is one start: seconds
until MPI stands, or until CosyServe is ready and with which launch method.
"""

import argparse
import json
import os
import subprocess
import sys
import time

from bench.common.benchmark import Benchmark
from bench.common.results import Results, words
from cosyserve.host import cure, probe
from cosyserve.host.probe import Outcome
from tests.host.hosts import HOSTS, Host

_LIMIT = 8  # seconds
_INITIALISE = (sys.executable, "-c", "from mpi4py import MPI; MPI.COMM_WORLD.Split_type(MPI.COMM_TYPE_SHARED)")


def plain(host: Host, before: tuple[str, ...]) -> str:
    environ = {**os.environ, **host.environ}
    if before:
        environ |= cure.MPIRUN_AS_ROOT
    result = probe.run([*host.wrap, *before, *_INITIALISE], environ, _LIMIT)
    return f"{result.seconds:.1f} s" if result.outcome is Outcome.OK else result.outcome.value


def supervised(host: Host) -> str:
    began = time.monotonic()
    done = subprocess.run(
        [*host.wrap, sys.executable, "-m", "tests.launch.supervised"],
        capture_output=True,
        text=True,
        env={**os.environ, **host.environ},
    )
    if done.returncode:
        return f"did not start ({time.monotonic() - began:.0f} s)"
    came = json.loads(done.stdout.splitlines()[-1])
    return f"{came['rung']}, {came['seconds']:.1f} s"


def measure(options: argparse.Namespace, results: Results) -> None:
    for name, host in HOSTS.items():
        results.add(
            name,
            plain_Python=words(plain(host, ())),
            bare_mpirun=words(plain(host, cure.MPIRUN)),
            CosyServe=words(supervised(host)),
        )


BENCHMARK = Benchmark(measure, needs="root and Debian's Open MPI")


if __name__ == "__main__":
    BENCHMARK.run()
