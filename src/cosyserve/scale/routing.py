"""Chooses the replica for a segment: the one that has spoken the stream so far, else the less loaded of two."""

import random
from collections import OrderedDict

from ray.serve.request_router import PendingRequest, ReplicaID, RequestRouter, RunningReplica

_STREAMS = 4096  # that are remembered


class StreamRouter(RequestRouter):
    """Serve asks for queue lengths and takes, of each rank, the shortest queue that has room."""

    def initialize_state(self, **kwargs: object) -> None:
        self._speaks: OrderedDict[str, ReplicaID] = OrderedDict()

    async def choose_replicas(
        self, candidate_replicas: list[RunningReplica], pending_request: PendingRequest | None = None
    ) -> list[list[RunningReplica]]:
        two = random.sample(candidate_replicas, min(2, len(candidate_replicas)))
        speaks = self._speaks.get(_stream(pending_request))
        own = [replica for replica in candidate_replicas if replica.replica_id == speaks]
        return [own, two] if own else [two]

    def on_request_routed(self, pending_request: PendingRequest, replica_id: ReplicaID, result: object) -> None:
        if stream := _stream(pending_request):
            self._speaks[stream] = replica_id
            self._speaks.move_to_end(stream)
            if len(self._speaks) > _STREAMS:
                self._speaks.popitem(last=False)


def _stream(request: PendingRequest | None) -> str:
    return request.metadata.session_id if request else ""
