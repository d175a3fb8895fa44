"""Who has no use for Ray has nothing of it, and is told what to install where he asks for replicas."""

import subprocess
import sys
from pathlib import Path

from tests.running import Server

LOADED = """
import sys
from cosyserve.cli import main
main(["serve", "--help"], standalone_mode=False)
print(sorted(name for name in sys.modules if name.split(".")[0] == "ray" or name.startswith("cosyserve.scale")))
"""
WITHOUT = "import sys; sys.modules['ray'] = None; from cosyserve.cli import main; main()"


def test_nothing_of_ray_is_loaded_by_a_server_of_its_own(tmp_path: Path) -> None:
    with Server(tmp_path, synthesizer="preview") as server:
        (child,) = server.process.children()
        loaded = Path(f"/proc/{child.pid}/maps").read_text()
        assert "espeak" in loaded
        assert "/ray/" not in loaded
    done = subprocess.run([sys.executable, "-c", LOADED], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "['cosyserve.scale', 'cosyserve.scale.ray_env']"


def test_replicas_without_ray_say_what_to_install(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT, "serve", "--replicas", "2"], capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == 2
    assert "CS-RAY-001" in done.stderr
    assert "scripts/setup .venv main scale" in done.stderr
