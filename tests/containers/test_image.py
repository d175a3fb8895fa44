"""What is in the image, and what is not."""

import json

import pytest

import docker
from tests.containers.conftest import Start
from tests.running import HANGS

pytestmark = pytest.mark.containers


def test_it_says_what_it_is_and_holds_no_secret(engine: docker.DockerClient, preview: str) -> None:
    config = engine.images.get(preview).attrs["Config"]
    assert config["User"] == "10001:10001"
    assert config["StopSignal"] == "SIGTERM"
    assert "6008/tcp" in config["ExposedPorts"]
    assert config["Entrypoint"][:2] == ["tini", "--"]
    assert config["Labels"]["org.opencontainers.image.licenses"] == "Apache-2.0"
    assert {"version", "revision"} <= {name.rsplit(".", 1)[1] for name in config["Labels"]}
    assert config["Healthcheck"]["StartPeriod"] >= 30 * 60 * 1_000_000_000
    assert not [each for each in config["Env"] if "KEY" in each or "TOKEN" in each]


def test_a_change_of_code_is_a_layer_of_megabytes(engine: docker.DockerClient, preview: str) -> None:
    sizes = {layer["CreatedBy"]: layer["Size"] for layer in engine.images.get(preview).history()}
    ours = next(size for step, size in sizes.items() if "/opt/app" in step and step.startswith("COPY"))
    assert 0 < ours < 8_000_000
    newest_first = list(sizes)
    after = newest_first[: newest_first.index(next(step for step in sizes if "/opt/app /opt/app" in step))]
    assert sum(sizes[step] for step in after) < 8_000_000  # and so is all that comes after it


def test_nothing_of_the_repository_but_its_code_is_inside(preview: str, run: Start) -> None:
    script = (
        "import json, pathlib\n"
        "names = ('.pt', '.onnx', '.env', '.git')\n"
        "found = [str(p) for p in pathlib.Path('/').rglob('*') if p.suffix in names or p.name in names]\n"
        "print(json.dumps([p for p in found if not p.startswith('/proc')]))\n"
    )
    running = run(preview, "python3", "-c", script, user="0")
    assert running.container.wait(timeout=HANGS)["StatusCode"] == 0
    assert json.loads(running.logs().splitlines()[-1]) == []
