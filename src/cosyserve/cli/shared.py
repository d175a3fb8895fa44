"""What several commands share."""

import logging
import os
from collections.abc import Callable

import click

from cosyserve.host import system
from cosyserve.machine import Machine
from cosyserve.settings import unknown_keys

log = logging.getLogger(__name__)


def listens(command: Callable[..., None]) -> Callable[..., None]:
    """The options that say where a server listens."""
    port = click.option("--port", type=int, help="Port to listen on.")
    return click.option("--host", help="Address to listen on.")(port(command))


def threads() -> int:
    """The number of cores, or fewer if the environment limits them."""
    cores = max(1, int(system.usable_cores(Machine())))
    share = os.environ.get("OMP_NUM_THREADS", "")
    return min(cores, int(share)) if share.isdecimal() and int(share) else cores


def warn_of_unknown_keys() -> None:
    for name, nearest in unknown_keys().items():
        hint = f"; did you mean {nearest}?" if nearest else ""
        log.warning("%s is not a setting%s / 没有这个配置项", name, hint)
