"""An image: what its layers weigh, and how long a container takes to be ready, with an empty volume and a full one.

    python -m bench.image IMAGE [NAME=VALUE…]

needs a Docker engine; NAME=VALUE go into the container's environment.
"""

import sys
import time
import uuid

import docker

_SECOND = 1_000_000_000
_HEALTH = {"interval": _SECOND // 5, "timeout": 5 * _SECOND, "retries": 3, "start_period": 600 * _SECOND}


def main(image: str, environment: list[str]) -> None:
    client = docker.from_env()
    layers = [layer for layer in client.images.get(image).history() if layer["Size"] > 1000]
    for layer in reversed(layers):
        print(f"{layer['Size'] / 1e6:10.1f} MB  {' '.join(layer['CreatedBy'].split())[:90] or 'the base'}")
    print(f"{sum(layer['Size'] for layer in layers) / 1e6:10.1f} MB  {image}")
    volume = client.volumes.create(f"cosyserve-bench-{uuid.uuid4().hex[:8]}")
    try:
        for start in ("cold", "warm"):
            print(f"{start}: ready after {_seconds(client, image, volume.name, environment):.1f} s")
    finally:
        volume.remove(force=True)


def _seconds(client: docker.DockerClient, image: str, volume: str, environment: list[str]) -> float:
    began = time.monotonic()
    container = client.containers.run(
        image, detach=True, environment=environment, volumes={volume: {"bind": "/data"}}, healthcheck=_HEALTH
    )
    try:
        while container.attrs["State"].get("Health", {}).get("Status") != "healthy":
            time.sleep(0.05)
            container.reload()
            if container.status == "exited":
                raise SystemExit(container.logs().decode())
        return time.monotonic() - began
    finally:
        container.remove(force=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
