"""The environment in which MPI starts wherever it can.

Each line cures a measured cause: hwloc's gl plugin asks X displays :0 to :9, which are the TCP ports 6000 to 6009,
and waits forever for an answer; what another launcher left behind sends Open MPI to a daemon that is not there;
a TMPDIR that is read-only, full or long cannot hold its session folder. Numbers of threads are made to fit, too, and
what TensorRT-LLM's import looks for is named.

Other MPI settings of the user are kept, except by the last resort, `bare`.
"""

import os
import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

# Set by Slurm, PMI, PMIx, and Open MPI's launchers for their own children; meaningless to other processes. What a
# user sets (…_MCA_…) stays, except the parameters by which mpirun tells its child who it is.
_LEFTOVER = re.compile(
    r"SLURM_|PMI_|PMI2_|PMIX_(?!MCA_)|PRTE_(?!MCA_|ALLOW_)|ORTE_|OPAL_PREFIX$|OPAL_PKG|OPAL_LIBDIR$|OPAL_BINDIR$"
    r"|OMPI_COMM_|OMPI_UNIVERSE_|OMPI_APP_|OMPI_FILE_|OMPI_FIRST_|OMPI_NUM_APP|OMPI_MCA_ess(?:$|_base)|OMPI_MCA_orte_"
)
_OF_MPI = re.compile(r"OMPI_|OPAL_|ORTE_|PMIX_|PRTE_|MPI4PY_|HWLOC_|UCX_|FI_")
# Libraries count the processors of the host and not the container's share: 128 threads on 12 cores crawl.
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
_NO_PLUGINS = "-gl,-opencl"
_SINGLETON_ISOLATED = "OMPI_MCA_ess_singleton_isolated"
_LONGEST_TMPDIR = 60  # Open MPI appends about 40 characters, and a Unix socket's path ends at 108
_SESSION_BYTES = 1 << 20


@dataclass(frozen=True)
class Surroundings:
    """What the cures need to know of the machine."""

    tmpdir: str | None  # a usable one
    libraries: str  # LD_LIBRARY_PATH without the folders that hold an MPI
    cores: int  # as many as affinity and quota leave
    named: tuple[str, ...] = ()  # folders of libraries that no linker finds by itself
    cuda_home: str = ""  # where a CUDA toolkit would be, for an import that only wants to hear of one


def look_around(
    environ: Mapping[str, str], cores: float, named: tuple[str, ...] = (), cuda_home: str = ""
) -> Surroundings:
    folders = environ.get("LD_LIBRARY_PATH", "").split(":")
    kept = ":".join(folder for folder in folders if folder and not _holds_mpi(Path(folder)))
    tmpdir = usable_tmpdir(tmpdir_candidates(environ))
    return Surroundings(tmpdir, kept, max(1, int(cores)), named, cuda_home)


def _holds_mpi(folder: Path) -> bool:
    try:
        return any(folder.glob("libmpi*.so*"))
    except OSError:
        return False


def leftovers(environ: Mapping[str, str]) -> list[str]:
    """The variables in `environ` that another launcher left behind."""
    return sorted(name for name in environ if _LEFTOVER.match(name))


def usable_tmpdir(candidates: list[str]) -> str | None:
    """The first folder that is short, writable and has room."""
    for folder in candidates:
        try:
            if len(folder) > _LONGEST_TMPDIR:
                continue
            with tempfile.TemporaryFile(dir=folder) as file:
                file.write(b"\0" * 4096)
                file.flush()
            space = os.statvfs(folder)
            if space.f_bavail * space.f_frsize >= _SESSION_BYTES:
                return folder
        except OSError:
            continue
    return None


def tmpdir_candidates(environ: Mapping[str, str]) -> list[str]:
    # Looked at, not used blindly; a user without an entry in passwd may have no home.
    folders = [environ.get("TMPDIR"), "/tmp", "/var/tmp", "/dev/shm", environ.get("HOME")]  # noqa: S108
    return [folder for folder in folders if folder]


def cured(environ: Mapping[str, str], around: Surroundings) -> dict[str, str]:
    """`environ` without everything that keeps MPI from starting. Pure, like all functions here."""
    dropped = set(leftovers(environ))
    environment = {name: value for name, value in environ.items() if name not in dropped}
    environment["HWLOC_COMPONENTS"] = _NO_PLUGINS
    environment["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"  # nvidia-smi's, by which an engine is chosen
    _name_folders(environment, around)
    if around.cuda_home:
        environment.setdefault("CUDA_HOME", around.cuda_home)
    if around.tmpdir is not None:
        environment["TMPDIR"] = around.tmpdir
    for name in _THREADS:
        asked = environ.get(name, "")
        if not asked.isdecimal() or not 0 < int(asked) <= around.cores:
            environment[name] = str(around.cores)
    return environment


def isolated(environ: Mapping[str, str], around: Surroundings) -> dict[str, str]:
    """The same for a singleton that starts no daemon. It cannot use MPI_Comm_spawn."""
    return {**cured(environ, around), _SINGLETON_ISOLATED: "1"}


def bare(environ: Mapping[str, str], around: Surroundings) -> dict[str, str]:
    """The same without any MPI setting from variables or files, and without MPI libraries that come before the
    system's. A cluster may need these, so this comes last."""
    environment = {
        name: value
        for name, value in isolated(environ, around).items()
        if not _OF_MPI.match(name) or name == _SINGLETON_ISOLATED
    }
    environment |= {"HWLOC_COMPONENTS": _NO_PLUGINS, "OMPI_MCA_mca_base_param_files": os.devnull}
    if "LD_LIBRARY_PATH" in environment:
        environment["LD_LIBRARY_PATH"] = around.libraries
    _name_folders(environment, around)
    return environment


def _name_folders(environment: dict[str, str], around: Surroundings) -> None:
    folders = [folder for folder in environment.get("LD_LIBRARY_PATH", "").split(":") if folder]
    if missing := [folder for folder in around.named if folder not in folders]:
        environment["LD_LIBRARY_PATH"] = ":".join((*missing, *folders))


# Open MPI 4 and 5 refuse root unless it is told twice.
MPIRUN_AS_ROOT = {
    f"{family}_ALLOW_RUN_AS_ROOT{suffix}": "1" for family in ("OMPI", "PRTE") for suffix in ("", "_CONFIRM")
}
# Without --bind-to none the whole server is bound to one core.
MPIRUN = ("mpirun", "-n", "1", "--allow-run-as-root", "--bind-to", "none")
