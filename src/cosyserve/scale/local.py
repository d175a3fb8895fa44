"""Replicas on this machine: Ray for this server alone, on loopback, gone with it."""

import logging
import os
from collections.abc import Iterator
from contextlib import closing, contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import ray
from ray import serve
from ray.exceptions import RayError
from ray.serve.handle import DeploymentHandle

from cosyserve import errors
from cosyserve.errors import CosyError
from cosyserve.launch.heartbeat import folder_of_start
from cosyserve.scale import app, sweeper
from cosyserve.scale.app import APPLICATION, QUIET, REPLICA, scaled
from cosyserve.scale.capacity import share_of_card
from cosyserve.scale.fleet import ServeFleet
from cosyserve.scale.wire import Description
from cosyserve.settings import Settings
from cosyserve.speech.choice import Choice

log = logging.getLogger(__name__)

_OBJECT_STORE = 100 * 2**20  # bytes; what Serve passes is small and seldom stored


@contextmanager
def replicas(settings: Settings, cores: int) -> Iterator[tuple[Choice, ServeFleet]]:
    """Starts Ray and `settings.replicas` replicas, all of them warm, for a server in front of them. Raises `CS-RAY-002`
    if they do not start."""
    with sweeper.at_hand(), _ray_ended():
        try:
            handle = _deployed(settings, cores)
            described = Description.decode(handle.describe.remote().result())
        except (RuntimeError, RayError) as error:
            raise CosyError(errors.REPLICAS_FAILED, reason=str(error).strip().partition("\n")[0]) from error
        choice = scaled(settings, handle, described, settings.replicas)
        with closing(ServeFleet(APPLICATION, REPLICA)) as fleet:
            yield choice, fleet


@contextmanager
def _ray_ended() -> Iterator[None]:
    """Ray ends with the body, even if the body fails."""
    try:
        yield
    finally:
        # While it ends, Ray reports failed tasks that it will retry forever. These lines alarm and mean nothing.
        with Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):
            if ray.is_initialized():  # else to end Serve would start one
                serve.shutdown()  # type: ignore[no-untyped-call]
                ray.shutdown()


def _deployed(settings: Settings, cores: int) -> DeploymentHandle[Any]:
    _start_ray(cores)
    serve.start(proxy_location="Disabled", logging_config=QUIET)
    cards = int(ray.cluster_resources().get("GPU", 0))  # type: ignore[no-untyped-call]
    cores_of_each = int(100 * cores / settings.replicas) / 100
    resources = {"num_gpus": share_of_card(cards, settings.replicas), "num_cpus": cores_of_each}
    application = app.replicas(
        settings,
        str(Path.cwd()),
        num_replicas=settings.replicas,
        ray_actor_options=resources,
        max_constructor_retry_count=settings.replicas,  # tries of all together; each takes all launch methods
    )
    return serve.run(application, name=APPLICATION, route_prefix=None, logging_config=QUIET)


def _start_ray(cores: int) -> None:
    ray.init(
        address="local",
        num_cpus=cores,
        include_dashboard=False,
        object_store_memory=_OBJECT_STORE,
        logging_level=logging.WARNING,
        _temp_dir=str(folder_of_start() / "ray"),
    )
