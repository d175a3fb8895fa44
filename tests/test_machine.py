from pathlib import Path

import pytest

from cosyserve.machine import Machine, Platform, platform_of


def machine(root: Path, files: dict[str, str], **environ: str) -> Machine:
    """A stand-in machine: a folder with the given files, and nothing in its environment but what is given."""
    for name, text in files.items():
        path = root / name.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return Machine(root, environ)


WSL_KERNEL = {"/proc/sys/kernel/osrelease": "5.15.167.4-microsoft-standard-WSL2\n"}


@pytest.mark.parametrize(
    ("files", "environ", "platform"),
    [
        ({}, {}, Platform.BARE),
        ({"/proc/sys/kernel/osrelease": "6.8.0-generic\n"}, {}, Platform.BARE),
        ({"/.dockerenv": ""}, {}, Platform.CONTAINER),
        ({"/run/.containerenv": ""}, {}, Platform.CONTAINER),
        ({"/.dockerenv": ""}, {"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, Platform.KUBERNETES),
        (WSL_KERNEL, {}, Platform.WSL2),
        ({}, {"WSL_DISTRO_NAME": "Ubuntu"}, Platform.WSL2),
        ({**WSL_KERNEL, "/.dockerenv": ""}, {}, Platform.WSL2),
        ({"/.dockerenv": ""}, {"AutoDLContainerUUID": "x"}, Platform.AUTODL),
        ({"/.dockerenv": "", "/etc/profile.d/autodl.env.sh": ""}, {}, Platform.AUTODL),
        ({"/root/autodl-tmp/x": ""}, {}, Platform.AUTODL),
    ],
)
def test_platforms(tmp_path: Path, files: dict[str, str], environ: dict[str, str], platform: Platform) -> None:
    assert platform_of(machine(tmp_path, files, **environ)) is platform


def test_what_cannot_be_read_is_empty(tmp_path: Path) -> None:
    empty = Machine(tmp_path, {})
    assert empty.read("/etc/os-release") == ""
    assert empty.read("/") == ""
    assert not empty.exists("/a" * 3000)
