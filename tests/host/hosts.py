"""Stand-in hosts on which Open MPI starts badly, each in a way that was met on a real one.

They are made of namespaces and loopback listeners inside them, and need root; nothing outside them is changed or used.
"""

import contextlib
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field


def namespace(flags: str, script: str) -> tuple[str, ...]:
    return ("unshare", flags, "sh", "-ec", script + '; exec "$@"', "sh")


def instead_of(tool: str, body: str) -> tuple[str, ...]:
    """`tool` is a shell script with this body."""
    stand_in = f"/dev/shm/stand-in-{tool}-{os.getpid()}"
    script = (
        f"printf '#!/bin/sh\\n{body}\\n' > {stand_in}; chmod +x {stand_in}; "
        f"mount --bind {stand_in} $(readlink -f /usr/bin/{tool})"
    )
    return namespace("-m", script)


def beside(port: int, banner: str = "") -> tuple[str, ...]:
    """In a network of its own, where something listens on `port`, says `banner` and no more."""
    return (*namespace("-n", "ip link set lo up"), sys.executable, "-m", "tests.host.hosts", str(port), banner)


@dataclass(frozen=True)
class Host:
    """`wrap` stands before the command, `environ` is added to its environment.

    `attempt` is the plainest that has to work, `says` what the doctor has to say of why the plainest does not.
    """

    attempt: str
    says: str = ""
    wrap: tuple[str, ...] = ()
    environ: dict[str, str] = field(default_factory=dict)


SSH = "SSH-2.0-OpenSSH_9.2p1\r\n"
FULL = "mount -t tmpfs -o size=16k none /var/tmp; export TMPDIR=/var/tmp"
READ_ONLY = "mount -t tmpfs -o ro none /var/tmp; export TMPDIR=/var/tmp"
SWALLOW = "ip link set lo up; iptables -A INPUT -i lo -p tcp --dport 6000:6009 -j DROP"
NO_RESET = "ip link set lo up; iptables -A OUTPUT -o lo -p tcp --tcp-flags RST RST -j DROP"
NO_SSH = "for f in ssh rsh; do [ -e /usr/bin/$f ] && mount --bind /dev/null $(readlink -f /usr/bin/$f); done; :"
STEP = {"SLURM_JOBID": "7", "SLURM_JOB_ID": "7", "SLURM_STEP_ID": "0", "SLURM_PROCID": "0", "SLURM_NTASKS": "1"}
STEP |= {"SLURM_NODELIST": "vm", "SLURM_STEP_NODELIST": "vm", "SLURM_NNODES": "1", "SLURM_TASKS_PER_NODE": "1"}

HANGING = {tool: instead_of(tool, "sleep 1000") for tool in ("mpirun", "orted")}
BROKEN_LIBRARY = f"""
export LD_LIBRARY_PATH=/dev/shm/stand-in-library-{os.getpid()}
mkdir -p $LD_LIBRARY_PATH; echo no library | tee $LD_LIBRARY_PATH/libmpi.so.40 > $LD_LIBRARY_PATH/libmpi.so
exec "$@"
"""

HOSTS = {
    "healthy": Host("direct"),
    "something on 6006": Host("cured", "port 6006", beside(6006)),
    "something on 6003": Host("cured", "port 6003", beside(6003)),
    "SSH on 6003": Host("cured", "port 6003", beside(6003, SSH)),
    "loopback swallows packets": Host("cured", "drops its packets", namespace("-n", SWALLOW)),
    "loopback sends no reset": Host("cured", "X display", namespace("-n", NO_RESET)),
    "no loopback": Host("isolated", "not even loopback", namespace("-n", ":")),
    "orted hangs": Host("isolated", "orted does not answer", HANGING["orted"]),
    "orted missing": Host("isolated", "orted is missing", instead_of("orted", "exit 127")),
    "no ssh": Host("isolated", "ssh or rsh", namespace("-m", NO_SSH)),
    "mpirun hangs": Host("direct", wrap=HANGING["mpirun"]),
    "mpirun fails": Host("direct", wrap=instead_of("mpirun", "exit 1")),
    "left by Slurm": Host("cured", "SLURM", environ=STEP),
    "left OPAL_PREFIX": Host("cured", "OPAL_PREFIX", environ={"OPAL_PREFIX": "/opt/hpcx/ompi"}),
    "TMPDIR full": Host("cured", "no room", namespace("-m", FULL)),
    "host name of 63 letters": Host("isolated", "host name", namespace("-u", "hostname " + "a" * 63)),
    "mpirun and orted hang": Host("isolated", "orted", (*HANGING["mpirun"], *HANGING["orted"])),
    "a user's own MPI settings": Host(
        "bare", "OMPI_MCA", environ={"OMPI_MCA_pml": "ucx", "OMPI_MCA_plm": "slurm", "OMPI_MCA_btl": "self"}
    ),
    "a user's own mpi4py settings": Host("bare", "MPI4PY_RC_INITIALIZE", environ={"MPI4PY_RC_INITIALIZE": "0"}),
    "a libmpi that is none": Host("bare", "no MPI library", ("sh", "-ec", BROKEN_LIBRARY, "sh")),
    "TMPDIR read-only": Host("cured", "session folder", namespace("-m", READ_ONLY)),
}


@contextlib.contextmanager
def listener(port: int, banner: str) -> Iterator[None]:
    """Accepts, and never answers: what an idle HTTP server is to an X client."""
    server = socket.create_server(("127.0.0.1", port), backlog=64)
    held: list[socket.socket] = []

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                held.append(server.accept()[0])
                held[-1].sendall(banner.encode())

    thread = threading.Thread(target=accept)
    thread.start()
    try:
        yield
    finally:
        server.shutdown(socket.SHUT_RDWR)
        thread.join()
        for each in (server, *held):
            each.close()


if __name__ == "__main__":
    with listener(int(sys.argv[1]), sys.argv[2]):
        status = subprocess.run(sys.argv[3:]).returncode
    raise SystemExit(status)
