import socket
from pathlib import Path

import pytest

from cosyserve.errors import CosyError
from cosyserve.host import models, network, system
from cosyserve.host.report import Verdict
from cosyserve.server.listening import expect_free
from cosyserve.settings import Settings
from cosyserve.store.manifest import DEFAULT, model_of
from tests.running import Server
from tests.test_machine import machine

V1 = "/sys/fs/cgroup/cpu/cpu.cfs_"


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({}, None),
        ({"/sys/fs/cgroup/cpu.max": "max 100000\n"}, None),
        ({"/sys/fs/cgroup/cpu.max": "150000 100000\n"}, 1.5),
        ({f"{V1}quota_us": "-1\n", f"{V1}period_us": "100000\n"}, None),
        ({f"{V1}quota_us": "800000\n", f"{V1}period_us": "100000\n"}, 8.0),
        ({"/sys/fs/cgroup/cpu.max": "rubbish"}, None),
    ],
)
def test_the_quota_of_a_control_group(tmp_path: Path, files: dict[str, str], cores: float | None) -> None:
    assert system.cpu_quota(machine(tmp_path, files)) == cores


@pytest.mark.parametrize(
    ("files", "limit"),
    [
        ({}, None),
        ({"/sys/fs/cgroup/memory.max": "max\n"}, None),
        ({"/sys/fs/cgroup/memory.max": "2147483648\n"}, 2 << 30),
        ({"/sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n"}, None),
        ({"/sys/fs/cgroup/memory/memory.limit_in_bytes": "1073741824\n"}, 1 << 30),
    ],
)
def test_the_memory_of_a_control_group(tmp_path: Path, files: dict[str, str], limit: int | None) -> None:
    assert system.memory_limit(machine(tmp_path, files)) == limit


def test_little_memory_warns_and_hardly_any_fails(tmp_path: Path) -> None:
    def state(limit: int) -> Verdict:
        return system.memory(machine(tmp_path, {"/sys/fs/cgroup/memory.max": str(limit)})).state

    assert state(2 << 30) is Verdict.WARN
    assert state(100 << 20) is Verdict.FAIL


def test_more_threads_than_cores_are_told(tmp_path: Path) -> None:
    """AutoDL's profile sets them to the host's count."""
    found = system.processor(machine(tmp_path, {"/sys/fs/cgroup/cpu.max": "200000 100000"}, OMP_NUM_THREADS="128"))
    assert found.state is Verdict.WARN
    assert found.remedy == "export OMP_NUM_THREADS=2" or found.facts["cores"] < 2


def test_a_taken_port_names_its_process() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        number = taken.getsockname()[1]
        found = system.port("127.0.0.1", number)
        assert found.state is Verdict.FAIL
        assert "pytest" in found.cause or "python" in found.cause
    assert system.port("127.0.0.1", number).state is Verdict.OK


def test_a_process_that_cannot_be_seen_is_not_to_be_ended_by_its_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(system, "listeners", lambda host: {6008: None})  # what another user than root sees
    found = system.port("127.0.0.1", 6008)
    assert found.state is Verdict.FAIL
    assert found.remedy == "COSYSERVE_PORT=7008, or find it: sudo ss -ltnp"


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "localhost", "0.0.0.0", "::1", "::"])  # noqa: S104
def test_a_port_is_taken_where_a_server_could_not_have_it(host: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        number = taken.getsockname()[1]
        try:
            expect_free(host, number)
        except CosyError:
            really = Verdict.FAIL
        else:
            really = Verdict.OK
        assert system.port(host, number).state is really


def test_weights_are_whole_by_their_size(tmp_path: Path) -> None:
    assert models.weights(Settings(models_dir=tmp_path)).state is Verdict.SKIPPED
    folder = tmp_path / "CosyVoice2-0.5B"
    folder.mkdir()
    for each in model_of(DEFAULT).files:
        (folder / each.path).parent.mkdir(exist_ok=True)
        with (folder / each.path).open("wb") as file:
            file.truncate(each.size or 0)
    assert models.weights(Settings(models_dir=tmp_path)).state is Verdict.OK
    (folder / "flow.pt").write_bytes(b"half")
    assert models.weights(Settings(models_dir=tmp_path)).facts["wrong"] == ["flow.pt"]


def test_engines_name_what_they_were_built_with(tmp_path: Path) -> None:
    assert models.engines(tmp_path).state is Verdict.SKIPPED
    for name, config in (("a", '{"version": "1.0.0"}'), ("b", "rubbish"), ("c", "[]")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(config)
        (tmp_path / name / "rank0.engine").touch()
    assert sorted(models.engines(tmp_path).facts["engines"].values()) == ["1.0.0", "?", "?"]


def test_sources_that_answer_and_that_do_not(server: Server) -> None:
    url = server.url
    found = network.sources({"here": url, "refusing": f"{url}/nowhere", "gone": "http://127.0.0.1:9"})
    assert found.facts["answers"] == {"here": True, "refusing": True, "gone": False}
    assert found.state is Verdict.OK
    assert network.sources({"gone": "http://127.0.0.1:9"}).state is Verdict.WARN


def test_no_proxy_password_in_the_report(tmp_path: Path) -> None:
    found = network.proxies(machine(tmp_path, {"/root/autodl-tmp/x": ""}, https_proxy="http://me:sesame@proxy:1"))
    assert found.state is Verdict.WARN
    assert "sesame" not in found.model_dump_json()
