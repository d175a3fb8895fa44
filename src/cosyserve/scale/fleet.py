"""What a server knows about its replicas, and about the other servers in front of them."""

import logging
import threading
from typing import Any

from ray import serve
from ray.exceptions import RayError
from ray.serve.exceptions import RayServeException
from ray.serve.handle import DeploymentHandle

from cosyserve.scale.merge_metrics import merge_metrics
from cosyserve.server.fleet import Load

log = logging.getLogger(__name__)

_LOOK_SECONDS = 0.5
_ANSWER_SECONDS = 2.0
_LEAVING = frozenset(("STOPPING", "STOPPED"))


class ServeFleet:
    """Asks Serve about the replicas in a thread of its own, and the other servers only if there are any."""

    def __init__(self, application: str, deployment: str, servers: DeploymentHandle[Any] | None = None) -> None:
        self._application, self._deployment, self._servers = application, deployment, servers
        self.wanted = self.ready = 0
        self._look()
        self._closing = threading.Event()
        self._watching = threading.Thread(target=self._watch, name="fleet", daemon=True)
        self._watching.start()

    def close(self) -> None:
        """Call it before Ray is shut down, because asking Serve later would start another Ray."""
        self._closing.set()
        self._watching.join()

    async def load(self, own: Load) -> Load:
        loads = [Load(*report["load"]) for report in await self._reports()]
        return sum(loads[1:], loads[0]) if loads else own

    async def metrics(self, own: bytes) -> bytes:
        return await self._merged("metrics", own)

    async def metrics_by_key(self, own: bytes) -> bytes:
        return await self._merged("metrics_by_key", own)

    async def _merged(self, which: str, own: bytes) -> bytes:
        texts = [report[which] for report in await self._reports()]
        return merge_metrics(texts) if texts else own

    async def _reports(self) -> list[dict[str, Any]]:
        """The load of all servers, without one that is just leaving."""
        if self._servers is None:
            return []
        asked = self._servers.broadcast("report")
        try:
            told = await asked.results_async(timeout_s=_ANSWER_SECONDS, return_exceptions=True)
        except (RayError, RayServeException, TimeoutError) as error:
            log.warning("The other servers cannot be reached: %s", type(error).__name__)
            return []
        return [report for report in told if not isinstance(report, BaseException)]

    def _watch(self) -> None:
        while not self._closing.wait(_LOOK_SECONDS):
            try:
                self._look()
            except (RayError, RayServeException) as error:
                log.warning("Serve cannot be asked for its replicas: %s", type(error).__name__)

    def _look(self) -> None:
        application = serve.status().applications.get(self._application)
        deployment = application and application.deployments.get(self._deployment)
        if not deployment:  # while a new configuration is read there are none, and the replicas go on
            return
        states = deployment.replica_states
        self.wanted = sum(count for state, count in states.items() if state not in _LEAVING)
        self.ready = sum(count for state, count in states.items() if state == "RUNNING")
