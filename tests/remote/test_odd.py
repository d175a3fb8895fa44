"""Instances that are not as they should be: each is named by an error with its remedy, and nothing is lost.

Tests that deploy are slow: each installs a release, with an environment of its own, and waits for its server.
"""

import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.remote.conftest import Rent
from tests.remote.standin import DATA, HOME, MIRROR, StandIn, docker, speaks
from tests.running import ROOT, eventually

pytestmark = pytest.mark.containers


def refused(done: "subprocess.CompletedProcess[str]", fault: str) -> str:
    """What is said, once, in both languages, with status 2 and no stack trace."""
    said = done.stdout + done.stderr
    assert done.returncode == 2, said
    assert said.count(f"{fault}:") == 1, said
    assert said.count("  → ") == 2, said
    assert "Traceback" not in said
    return said


@pytest.fixture(scope="module")
def instance(rent: Rent) -> StandIn:
    """One that is left bare by every test here."""
    return rent()


@pytest.fixture(autouse=True)
def bare(request: pytest.FixtureRequest) -> Iterator[None]:
    """What was installed is taken away, but for downloads and whole releases: to have them again takes its time."""
    yield
    if "instance" in request.fixturenames:
        instance = request.getfixturevalue("instance")
        if instance.current():
            instance.asks("stop")
        instance.runs(f"cd {HOME} 2>/dev/null && rm -rf current run shared; rm -rf /etc/autodl.sh")


@pytest.fixture
def no_release(instance: StandIn) -> None:
    """For tests of the installation itself, which is left out where the release is whole."""
    instance.runs(f"rm -rf {HOME}/releases")


# ---- the way there


def test_wrong_port(instance: StandIn) -> None:
    assert "refused" in refused(instance.deploys(address="root@127.0.0.1:1"), "CS-DEP-004")


def test_unknown_host(instance: StandIn) -> None:
    refused(instance.deploys(address="root@no-such-host.invalid:22"), "CS-DEP-003")


def test_no_address_is_taken_for_an_option(instance: StandIn) -> None:
    refused(instance.deploys(address="-oProxyCommand=touch /tmp/x"), "CS-DEP-001")


def test_another_host_key_is_refused_until_the_user_says_otherwise(instance: StandIn) -> None:
    instance.known_hosts.unlink(missing_ok=True)
    assert "Permanently added" in instance.deploys("--plan").stderr  # the first time, it is told
    assert instance.deploys("--plan").stderr == ""
    lines = instance.known_hosts.read_text().splitlines()
    other = instance.computer / "other"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(other)], check=True)
    key = other.with_suffix(".pub").read_text().split()[1]
    instance.known_hosts.write_text("".join(f"{line.split()[0]} ssh-ed25519 {key}\n" for line in lines))
    said = refused(instance.deploys(), "CS-DEP-005")
    remedy = re.search(r"ssh-keygen -R '(\S+)'", said)
    assert remedy
    subprocess.run(["ssh-keygen", "-q", "-R", remedy[1], "-f", str(instance.known_hosts)], check=True)
    assert instance.deploys("--plan").returncode == 0


def test_a_key_that_is_not_known_there(instance: StandIn, tmp_path: Path) -> None:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / "id")], check=True)
    known, instance.identity = instance.identity, tmp_path / "id"
    refused(instance.deploys(), "CS-DEP-006")
    instance.identity = known


def test_a_password_from_a_file_lets_in_and_a_wrong_one_does_not(instance: StandIn, tmp_path: Path) -> None:
    right, wrong = tmp_path / "right", tmp_path / "wrong"
    right.write_text("open sesame\n")
    wrong.write_text("open barley\n")
    instance.password = True
    done = instance.deploys("--plan", "--password-file", str(right))
    assert done.returncode == 0, done.stderr
    assert "sesame" not in done.stdout + done.stderr
    assert "barley" not in refused(instance.deploys("--password-file", str(wrong)), "CS-DEP-006")
    instance.password = False


def test_at_a_terminal_the_password_is_asked_for_once(instance: StandIn) -> None:
    instance.password = True
    terminal, theirs = os.openpty()
    try:
        command = ["setsid", "--ctty", "--wait", *instance.argv("autodl", "--flavour", "preview", "--plan")]
        with subprocess.Popen(command, cwd=ROOT, stdin=theirs, stdout=theirs, stderr=theirs) as client:
            os.close(theirs)
            said = _read_until(terminal, b"Password of root@127.0.0.1")
            os.write(terminal, b"open sesame\n")
            said += _read_until(terminal, b"install, check, start, switch")
            os.set_blocking(terminal, False)
            eventually(lambda: _drained(terminal) and client.poll() is not None)
        assert client.returncode == 0
        assert b"sesame" not in said
    finally:
        os.close(terminal)
        instance.password = False


def _read_until(terminal: int, mark: bytes) -> bytes:
    said = b""
    while mark not in said:
        said += os.read(terminal, 4096)
    return said


def _drained(terminal: int) -> bool:
    """What is still said is taken, so that nobody waits for us. A terminal whose other end is shut raises."""
    try:
        return not os.read(terminal, 1 << 16)
    except OSError:
        return True


def test_an_agent_is_asked_for_the_key(instance: StandIn, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    agent = subprocess.run(["ssh-agent", "-a", str(tmp_path / "agent")], capture_output=True, text=True, check=True)
    pid = re.search(r"SSH_AGENT_PID=(\d+)", agent.stdout)
    assert pid
    monkeypatch.setenv("SSH_AUTH_SOCK", str(tmp_path / "agent"))
    try:
        subprocess.run(["ssh-add", "-q", str(instance.identity)], check=True)
        instance.password = True  # no --identity
        assert instance.deploys("--plan").returncode == 0
    finally:
        instance.password = False
        os.kill(int(pid[1]), 15)


@pytest.mark.usefixtures("no_release")
def test_who_stops_watching_stops_nothing(instance: StandIn) -> None:
    command = instance.argv("autodl", "--flavour", "preview", "--index", MIRROR)
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as client:
        assert client.stdout is not None
        for line in client.stdout:
            if line.startswith("packages come from"):
                client.send_signal(signal.SIGINT)
        assert client.wait() == 130
        assert client.stderr is not None
        assert "the same command watches on" in client.stderr.read()
    instance.told("autodl")
    assert instance.current() in instance.complete()


# ---- what is there


def test_no_data_disk(instance: StandIn) -> None:
    (computer := instance.computer / "other-computer").mkdir()
    bare = docker(
        "run",
        "--detach",
        "--publish",
        "127.0.0.1::22",
        "cosyserve-test:autodl",
        "bash",
        "-c",
        "rmdir /root/autodl-tmp; exec bash /init/boot/boot.sh",
    )
    try:
        assert DATA in refused(StandIn(bare, computer).deploys(), "CS-DEP-008")
    finally:
        docker("rm", "--force", bare)


def test_a_disk_that_is_too_small_is_found_before_anything_is_sent(rent: Rent) -> None:
    small = rent("--tmpfs", f"{DATA}:exec,size=300m", data=())
    assert "MiB" in refused(small.deploys(), "CS-DEP-009")
    assert small.runs(f"ls -A {DATA}") == ""


def test_a_disk_that_fills_up_meanwhile_and_then_has_room_again(rent: Rent) -> None:
    filling = rent("--tmpfs", f"{DATA}:exec,size=600m", data=())
    docker(
        "exec",
        "--detach",
        filling.name,
        "bash",
        "-c",
        f"until [ -d {HOME}/releases/*/venv ]; do :; done; head -c 600M /dev/zero >{DATA}/filler",
    )
    refused(filling.deploys(), "CS-DEP-009")
    assert filling.current() == ""
    filling.runs(f"rm {DATA}/filler")
    assert filling.deploys().returncode == 0
    assert filling.current() in filling.complete()


@pytest.mark.usefixtures("no_release")
def test_no_network(instance: StandIn) -> None:
    done = instance.asks("autodl", "--flavour", "preview", "--index", "http://127.0.0.1:1/simple")
    refused(done, "CS-DEP-011")
    assert "nothing is left" in instance.told("uninstall", "--all")  # of what was sent


def test_an_installation_whose_command_is_broken_is_taken_away_all_the_same(instance: StandIn) -> None:
    assert instance.deploys().returncode == 0
    instance.runs(f"rm -r {HOME}/current/venv/lib/python*/site-packages/click")
    assert "nothing is left" in instance.told("uninstall", "--all")
    assert instance.runs(f"ls -A {DATA}; ls /etc/autodl.sh || true") == ""
    assert "cosyserve" not in instance.runs("cat /proc/[0-9]*/cmdline | tr '\\0' ' '")


@pytest.mark.usefixtures("no_release")
def test_python_missing(instance: StandIn) -> None:
    instance.runs("chmod -x /usr/bin/python3.11")
    try:
        refused(instance.deploys(), "CS-DEP-010")
    finally:
        instance.runs("chmod +x /usr/bin/python3.11")


@pytest.mark.usefixtures("no_release")
def test_without_uv_pip_does_the_work(instance: StandIn) -> None:
    """Where the base Python cannot make environments, and so brings no uv."""
    instance.runs("mv /usr/local/bin/python3 /usr/local/bin/kept && ln -s /bin/false /usr/local/bin/python3")
    instance.runs(f"mkdir -p {HOME}/tools && rm -rf {HOME}/tools/uv && touch {HOME}/tools/uv")
    try:
        done = instance.deploys()
        assert done.returncode == 0, done.stdout + done.stderr
        assert "there is no uv" in done.stdout
    finally:
        instance.runs(f"rm -f {HOME}/tools/uv; mv /usr/local/bin/kept /usr/local/bin/python3")


def test_a_clock_that_is_off_by_a_year(instance: StandIn) -> None:
    instance.write(
        "/usr/local/bin/date", '#!/bin/sh\n[ "$1" = +%s ] && exec /bin/date -d \'+1 year\' +%s\nexec /bin/date "$@"\n'
    )
    instance.runs("chmod +x /usr/local/bin/date")
    try:
        assert "365 d" in refused(instance.deploys(), "CS-DEP-013")
    finally:
        instance.runs("rm /usr/local/bin/date")


def test_port_6008_taken(instance: StandIn) -> None:
    docker("exec", "--detach", instance.name, "python3.11", "-m", "http.server", "6008", "--bind", "127.0.0.1")
    eventually(lambda: "1778" in instance.runs("grep -i ' 0A ' /proc/net/tcp"))
    assert "http.server" in refused(instance.deploys(), "CS-DEP-015")
    assert instance.current() == ""
    assert instance.runs("ls /etc/autodl.sh || true") == ""
    done = instance.deploys("--port", "6006")
    assert done.returncode == 0, done.stdout + done.stderr
    with instance.tunnel(6006) as url:
        assert speaks(url)
    instance.runs(
        "for p in /proc/[0-9]*; do grep -q http.server $p/cmdline && kill ${p#/proc/}; done; true", check=False
    )


def test_a_boot_file_that_cannot_be_written_is_told_and_the_server_runs(instance: StandIn) -> None:
    instance.runs("mkdir /etc/autodl.sh")
    done = instance.deploys()
    assert done.returncode == 0
    assert done.stdout.count("CS-DEP-022:") == 1
    with instance.tunnel() as url:
        assert speaks(url)
    assert re.search(r"boot +by hand", instance.told("status"))


def test_without_a_card_what_needs_one_waits_for_the_next_boot_that_has_one(instance: StandIn) -> None:
    """AutoDL's no-GPU mode, in which little memory is the mark. The card is a stand-in's answer."""
    assert instance.deploys().returncode == 0
    instance.asks("stop")
    # The preview needs no card, so the release is called what its environment is not.
    instance.runs(f"sed -i 's/preview/slim/' {HOME}/current/release.json")
    instance.runs(f"echo COSYSERVE_SYNTHESIZER=preview >>{HOME}/shared/.env")  # there is no hub to fetch a model from
    limit = "/sys/fs/cgroup/memory.max /sys/fs/cgroup/memory/memory.limit_in_bytes"  # of either version
    docker("update", "--memory", "2g", "--memory-swap", "2g", instance.name)
    assert instance.runs(f"cat {limit} 2>/dev/null || true") == str(2 << 30)
    instance.reboot()
    log = f"cat {HOME}/shared/logs/boot.log"
    eventually(lambda: "no GPU" in instance.runs(log))
    assert re.search(r"state +waits for a GPU", instance.told("status"))
    instance.write("/usr/local/bin/nvidia-smi", "#!/bin/sh\necho 'Stand-in 4090, 550.54, 8.9, 24564, 24000'\n")
    instance.runs("chmod +x /usr/local/bin/nvidia-smi")
    instance.reboot()
    with instance.tunnel() as url:
        eventually(lambda: speaks(url))
    instance.runs(f"rm /usr/local/bin/nvidia-smi; sed -i 's/slim/preview/' {HOME}/current/release.json")


FOREIGN = "#!/bin/bash\necho mine >/tmp/foreign\nexit 0"  # ends early, and without a line's end


def test_a_foreign_boot_file_is_kept_and_both_run(instance: StandIn) -> None:
    instance.write("/etc/autodl.sh", FOREIGN)
    instance.runs("chmod 700 /etc/autodl.sh")
    assert instance.deploys().returncode == 0
    instance.reboot()
    with instance.tunnel() as url:
        eventually(lambda: speaks(url))
    assert instance.runs("cat /tmp/foreign") == "mine"
    assert instance.asks("uninstall", "--all").returncode == 0
    assert instance.runs("cat /etc/autodl.sh; stat -c %a /etc/autodl.sh") == FOREIGN + "700"


@pytest.fixture
def bootstrap(instance: StandIn) -> str:
    """The command, as it is typed in a clone on the instance."""
    instance.runs("mkdir -p /root/clone")
    for name in ("autodl", "requirements", "scripts", "src", "pyproject.toml", "README.md", "LICENSE", "NOTICE"):
        docker("cp", "--quiet", str(ROOT / name), f"{instance.name}:/root/clone/{name}")
    return "cd /root/clone && bash autodl/bootstrap.sh --flavour preview"


def files(instance: StandIn) -> set[str]:
    return set(instance.runs(f"find / {DATA} -xdev -not -path '/proc/*' -not -name '*.log'").splitlines())


@pytest.mark.usefixtures("no_release")
def test_on_the_instance_itself_it_is_bootstrapped_from_a_clone(instance: StandIn, bootstrap: str) -> None:
    before = files(instance)
    assert "release: " in instance.runs(f"{bootstrap} --index {MIRROR} --plan")
    assert files(instance) == before
    began = time.monotonic()
    said = instance.runs(f"{bootstrap} --index {MIRROR} --public")
    print(f"bootstrapped: {time.monotonic() - began:.0f} s")
    assert ": ready (" in said
    assert "ssh -N -L 6008:127.0.0.1:6008 -p PORT root@HOST" in said  # which nobody there knows
    assert re.search(r"key · 密钥: \S{20,}", said)
    assert "It costs money" in said
    guide = (ROOT / "autodl/README.md").read_text(encoding="utf-8")
    named = set(re.findall(rf"{DATA}/[\w./-]+", guide)) - {f"{DATA}/cosyserve-source"}
    assert f"{HOME}/current/venv/bin/cosyserve" in named
    instance.runs(f"ls -d {' '.join(named)}")
    command = f"{HOME}/current/venv/bin/cosyserve deploy"
    assert re.search(r"state +ready", instance.runs(f"{command} status --here"))
    with instance.tunnel() as url:
        eventually(lambda: httpx.get(f"{url}/livez").status_code == 200)
    assert "nothing is left" in instance.runs(f"{command} uninstall --here --all")
    assert {file for file in files(instance) - before if not file.startswith("/root/clone/")} == set()
    assert instance.runs(f"ls -A {DATA}") == ""


@pytest.mark.usefixtures("no_release")
def test_a_bootstrap_without_an_index_ends_at_once_and_leaves_nothing(instance: StandIn, bootstrap: str) -> None:
    command = ["docker", "exec", instance.name, "bash", "-c", f"{bootstrap} --index http://127.0.0.1:1/simple"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert "ERROR" not in refused(done, "CS-DEP-011")  # none of pip's
    assert instance.runs(f"ls -A {DATA}") == ""
