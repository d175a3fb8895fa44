"""The ladder: the ways to start a server, and their order. Pure; the supervisor climbs it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cosyserve.host import cure
from cosyserve.host.cure import Surroundings
from cosyserve.machine import Platform
from cosyserve.settings import Settings

# Internal to a launch, so these are not settings: the server's rung, and whether it has to do without MPI.
RUNG = "_COSYSERVE_RUNG"
WITHOUT_MPI = "_COSYSERVE_WITHOUT_MPI"

PLAIN = "python"  # the only rung of a server that needs no MPI
WITHOUT = "without-mpi"

_MPIRUN_FIRST = (Platform.AUTODL, Platform.CONTAINER, Platform.KUBERNETES)


@dataclass(frozen=True)
class Rung:
    """One way to start. The server has `seconds` until its first heartbeat; MPI takes 0.4 to 1.5 on a healthy host."""

    name: str
    argv: tuple[str, ...]
    environ: Mapping[str, str]
    seconds: float
    why: str


def plan(
    settings: Settings,
    platform: Platform,
    server: Sequence[str],
    environ: Mapping[str, str],
    around: Surroundings,
    remembered: str | None = None,
) -> list[Rung]:
    """The rungs for `server`, an argv, in the order in which to try them. The last one needs no MPI.

    Users of a container expect mpirun, users of their own machine plain Python. The rung that worked here last time
    comes first. The environment is cured on every rung.
    """
    cured = cure.cured(environ, around)
    if settings.mpi == "auto":
        return [Rung(PLAIN, tuple(server), {**cured, RUNG: PLAIN}, settings.ready_seconds, "plain Python, no MPI")]
    under_mpirun = {**cured, **cure.MPIRUN_AS_ROOT}

    def rung(name: str, why: str, environment: Mapping[str, str], before: tuple[str, ...] = ()) -> Rung:
        return Rung(name, (*before, *server), {**environment, RUNG: name}, settings.mpi_seconds, why)

    rungs = {
        "direct": rung("direct", "plain Python in the cured environment", cured),
        "isolated": rung("isolated", "an MPI singleton that starts no daemon", cure.isolated(environ, around)),
        "mpirun": rung("mpirun", "a launcher of its own for MPI", under_mpirun, cure.MPIRUN),
        "bare": rung("bare", "an MPI singleton that ignores all MPI settings of this host", cure.bare(environ, around)),
    }
    if settings.launch != "auto":
        order: list[str] = [settings.launch]
    elif platform in _MPIRUN_FIRST:
        order = ["mpirun", "direct", "isolated", "bare"]
    else:
        order = ["direct", "isolated", "mpirun", "bare"]
    if remembered in order:
        order.sort(key=lambda name: name != remembered)  # stable: the others keep their order
    last = rung(WITHOUT, "no MPI, because it could not be started here", {**cured, WITHOUT_MPI: "1"})
    return [*(rungs[name] for name in order), last]
