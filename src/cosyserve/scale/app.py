"""The application for Ray Serve: servers before, replicas behind.

`build` is what deploy/ray/cosyserve.yaml names; numbers, resources and autoscaling of both deployments are set there.
Every setting of CosyServe comes from the environment of the nodes, or of `runtime_env`.
"""

import sys
from typing import Any

from fastapi import FastAPI
from prometheus_client import generate_latest
from ray import serve
from ray.serve.config import RequestRouterConfig
from ray.serve.handle import DeploymentHandle
from ray.serve.schema import LoggingConfig

from cosyserve import errors
from cosyserve.errors import CosyError
from cosyserve.scale.fleet import ServeFleet
from cosyserve.scale.replica import Replica
from cosyserve.scale.routing import StreamRouter
from cosyserve.scale.synthesizer import ScaledSynthesizer
from cosyserve.scale.wire import Description
from cosyserve.server.app import create_app
from cosyserve.server.fleet import Load
from cosyserve.server.service import Service
from cosyserve.settings import Settings, load_settings
from cosyserve.speech.choice import Choice
from cosyserve.traces import start as traces

APPLICATION = "cosyserve"
REPLICA, FRONT = "Replica", "Front"
_ROUTING = RequestRouterConfig.model_validate(
    {"request_router_class": f"{StreamRouter.__module__}.{StreamRouter.__name__}"}
)
QUIET = LoggingConfig(log_level="WARNING", enable_access_log=False)  # a line for every segment helps nobody

_EVERYBODY = "0.0.0.0"  # noqa: S104 - what the proxies of a cluster listen on, whatever this node's setting says
_UNLIMITED = 100_000  # requests of a front: its own admission decides
_DRAIN_SECONDS = 600  # the longest that a segment or a stream may go on on a replica or a front that is to go
_LOOK_SECONDS = 2.0  # between two looks at whether one that drains is done


def replicas(settings: Settings, folder: str = ".", **options: Any) -> serve.Application:
    """Replicas whose launches run in `folder`; `options` are those of a Serve deployment."""
    deployment: serve.Deployment = serve.deployment(
        name=REPLICA,
        max_ongoing_requests=settings.max_streams,
        request_router_config=_ROUTING,
        graceful_shutdown_timeout_s=_DRAIN_SECONDS,
        graceful_shutdown_wait_loop_s=_LOOK_SECONDS,
        logging_config=QUIET,
        health_check_period_s=5,
        health_check_timeout_s=30,
        **options,
    )(Replica)
    application: serve.Application = deployment.bind(str(settings.replica_python or sys.executable), folder)
    return application


def scaled(settings: Settings, replicas: DeploymentHandle[Any], described: Description, most: int) -> Choice:
    """The synthesizer of a server in front of at most `most` replicas."""
    by = f" Spoken by replicas on Ray Serve, each with launch method '{described.rung}'."
    by_zh = f"由 Ray Serve 上的副本合成，副本的启动方式为“{described.rung}”。"
    synthesizer = ScaledSynthesizer(replicas, described, settings.voices_dir, most)
    return Choice(synthesizer, described.why + by, described.why_zh + by_zh)


@serve.ingress()
class Front:
    """The usual CosyServe application, behind Serve's proxies."""

    async def __init__(  # type: ignore[misc] # as Serve has it
        self, replicas: DeploymentHandle[Any], most: int
    ) -> None:
        traces.start()
        settings = load_settings(host=_EVERYBODY)
        if settings.auth == "auto" and not settings.key_list():
            raise CosyError(errors.CLUSTER_KEY_MISSING)
        described = Description.decode(await replicas.describe.remote())
        choice = scaled(settings, replicas, described, most)
        servers = serve.get_deployment_handle(FRONT, APPLICATION)
        self._app = create_app(settings, choice, warm_first=True, fleet=ServeFleet(APPLICATION, REPLICA, servers))

    def __serve_build_asgi_app__(self) -> FastAPI:
        return self._app

    async def report(self) -> dict[str, Any]:
        """The load and the metrics of this server alone."""
        service: Service = self._app.state.service
        load = Load(service.admission.active, service.admission.waiting, service.capacity.streams)
        return {
            "load": (load.active, load.waiting, load.streams),
            "metrics": generate_latest(service.metrics.registry),
            "metrics_by_key": generate_latest(service.metrics.registry_by_key),
        }


def build(args: dict[str, Any]) -> serve.Application:
    """`args`: `most_replicas`, for which the fronts let requests in together; the default is 1."""
    settings = load_settings()
    most = int(args.get("most_replicas", 1))
    front: serve.Deployment = serve.deployment(
        name=FRONT,
        max_ongoing_requests=_UNLIMITED,
        graceful_shutdown_timeout_s=_DRAIN_SECONDS,
        graceful_shutdown_wait_loop_s=_LOOK_SECONDS,
        logging_config=QUIET,
    )(Front)
    application: serve.Application = front.bind(replicas(settings), most)
    return application
