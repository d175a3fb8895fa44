"""The connection is cut at random moments, by the network and by a user whose computer goes to sleep."""

import random
import subprocess
import time

import pytest

from tests.remote.conftest import Rent
from tests.remote.standin import HOME, MIRROR, speaks
from tests.running import HANGS, ROOT

pytestmark = pytest.mark.containers

CUTS = 4  # the installation is done anew after each, which takes its time
LONGEST = 8.0  # seconds that an installation takes here, about: the moments lie within


def test_whatever_is_cut_the_same_command_again_ends_well(rent: Rent) -> None:
    instance = rent()
    moments = random.Random(7)
    for cut in range(CUTS):
        command = instance.argv("autodl", "--flavour", "preview", "--index", MIRROR)
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as client:
            time.sleep(moments.uniform(0.3, LONGEST))
            instance.cut()
            if cut % 2:
                client.kill()  # and nobody watches any more
            output, _ = client.communicate(timeout=HANGS)
        if not cut % 2:
            # A cut before the first word is told, and nothing has begun then.
            assert client.returncode == 0 or "CS-DEP-004" in output, output
        current = instance.current()
        assert not current or current in instance.complete()
        if current and cut < CUTS - 1:  # from the beginning, with what lies in the cache
            instance.runs(
                f"rm -rf {HOME}/current {HOME}/releases; kill $(cat {HOME}/run/servers.json | grep -o 'pid. [0-9]*' "
                "| grep -o '[0-9]*') || true",
                check=False,
            )
    done = instance.deploys()
    assert done.returncode == 0, done.stdout + done.stderr
    assert instance.current() in instance.complete()
    with instance.tunnel() as url:
        assert speaks(url)
