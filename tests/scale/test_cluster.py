"""Two hosts: what is lost with a replica or with a host, and how a new configuration takes an old one's place."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from tests.running import HANGS, eventually, meanwhile
from tests.scale.cluster import KEY, Cluster
from tests.scale.test_local import heard

pytestmark = pytest.mark.mpi  # root and iproute2

CONFIGURATION = """
proxy_location: EveryNode
http_options: {host: 0.0.0.0, port: 6008}
applications:
  - name: cosyserve
    import_path: cosyserve.scale.app:build
    route_prefix: /
    args: {most_replicas: 2}
    runtime_env: {env_vars: {COSYSERVE_LOG_LEVEL: %s}}
    deployments:
      - {name: Front, num_replicas: 2, max_replicas_per_node: 1, ray_actor_options: {num_cpus: 0.1}}
      - {name: Replica, num_replicas: 2, max_replicas_per_node: 1, ray_actor_options: {num_cpus: 0.1}}
"""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Cluster(tmp_path_factory.mktemp("cluster"), synthesizer="preview") as running:
        running.deploy(CONFIGURATION % "info")
        running.wait_for(2, running.head, running.other)  # each has a server of its own, which starts when it does
        yield running


def client(url: str) -> httpx.Client:
    return httpx.Client(base_url=url, timeout=HANGS, headers={"Authorization": f"Bearer {KEY}"})


def speaks(url: str) -> str:
    """Empty where it does, else what came instead."""
    with client(url) as asking:
        try:
            response = asking.post("/v1/audio/speech", json={"input": "Hello.", "response_format": "pcm"})
        except httpx.TransportError as error:
            return repr(error)
        return "" if response.status_code == 200 and len(response.content) > 10_000 else response.text


def hears(url: str) -> tuple[float, str]:
    with client(url) as asking:
        try:
            return heard(asking)
        except httpx.RemoteProtocolError:  # it came through a server on the host that was lost
            return 0.0, "cut"


def test_every_host_answers_and_they_count_together(cluster: Cluster) -> None:
    for host in (cluster.head, cluster.other):
        assert cluster.head.inside(speaks, host.url) == ""
        assert len(host.replicas()) == 1

    def metrics() -> str:
        with client(cluster.head.url) as asking:
            return asking.get("/metrics").text

    def readiness() -> dict[str, int]:
        with client(cluster.other.url) as asking:
            return dict(asking.get("/readyz").json())

    state = cluster.head.inside(readiness)
    assert (state["replicas"], state["replicas_ready"], state["max_streams"]) == (2, 2, 32)
    counted = cluster.head.inside(metrics)
    assert 'cosyserve_requests_total{endpoint="/v1/audio/speech",outcome="ok"} 2.0' in counted
    assert 'cosyserve_key_requests_total{key="main",outcome="ok"} 2.0' in counted


def test_nobody_comes_in_without_a_key(cluster: Cluster) -> None:
    def ask() -> int:
        return httpx.post(f"{cluster.other.url}/v1/audio/speech", json={"input": "Hello."}).status_code

    assert cluster.head.inside(ask) == 401


def test_a_new_configuration_takes_over_and_no_request_fails(cluster: Cluster) -> None:
    before = [*cluster.head.replicas(), *cluster.other.replicas()]
    with (
        ThreadPoolExecutor(4) as pool,
        meanwhile(lambda: cluster.head.inside(speaks, cluster.head.url)) as answers,
        meanwhile(lambda: cluster.head.inside(speaks, cluster.other.url)) as answers_of_other,
    ):
        streams = [pool.submit(cluster.head.inside, hears, cluster.head.url) for _ in range(3)]
        cluster.deploy(CONFIGURATION % "debug")
        assert [failed for _, failed in (stream.result() for stream in streams)] == ["", "", ""]
        eventually(lambda: not {*before} & {*cluster.head.replicas(), *cluster.other.replicas()})
        cluster.wait_for(2)
    assert {*answers, *answers_of_other} == {""}
    assert len(answers) > 20


def test_a_host_that_is_lost_takes_only_its_own_streams(cluster: Cluster) -> None:
    with ThreadPoolExecutor(8) as pool, meanwhile(lambda: cluster.head.inside(speaks, cluster.head.url)) as answers:
        streams = [pool.submit(cluster.head.inside, hears, cluster.head.url) for _ in range(7)]
        eventually(lambda: len(answers) > 3 and cluster.streams() >= 7)  # so there are some on either host
        cluster.unplug()
        ends = [stream.result() for stream in streams]
        cluster.wait_for(1)
        known = len(answers)
        eventually(lambda: len(answers) > known + 20)
    assert {failed for _, failed in ends} <= {"", "CS-RAY-003", "cut"}
    assert "" in [failed for _, failed in ends], ends
    assert len([answer for answer in answers if answer]) <= 1
    assert {*answers[known:]} == {""}
