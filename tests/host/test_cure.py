from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cosyserve.host.cure import (
    Surroundings,
    bare,
    cured,
    isolated,
    leftovers,
    look_around,
    tmpdir_candidates,
    usable_tmpdir,
)

LEFT = [
    "SLURM_STEP_ID",
    "SLURM_NODELIST",
    "PMI_RANK",
    "PMIX_NAMESPACE",
    "PRTE_LAUNCHED",
    "OPAL_PREFIX",
    "OMPI_COMM_WORLD_SIZE",
    "OMPI_UNIVERSE_SIZE",
    "OMPI_MCA_ess",
    "OMPI_MCA_orte_hnp_uri",
]
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
NOWHERE = Surroundings(None, "", 4)
MEANT = ["OMPI_MCA_btl", "OMPI_MCA_ess_singleton_isolated", "PMIX_MCA_gds", "OMPI_ALLOW_RUN_AS_ROOT", "PATH", "HOME"]


@pytest.mark.parametrize("name", LEFT)
def test_what_other_launchers_leave_is_dropped(name: str) -> None:
    assert leftovers({name: "x", "PATH": "/bin"}) == [name]
    assert name not in cured({name: "x"}, NOWHERE)


@pytest.mark.parametrize("name", MEANT)
def test_what_a_user_sets_stays(name: str) -> None:
    assert cured({name: "x"}, NOWHERE)[name] == "x"


@given(
    st.dictionaries(st.sampled_from([*LEFT, *MEANT, "A", "B_C"]), st.text(max_size=5)), st.sampled_from([None, "/x"])
)
def test_the_cure_adds_few_variables_and_drops_only_leftovers(environ: dict[str, str], tmpdir: str | None) -> None:
    around = Surroundings(tmpdir, "", 4)
    environment = cured(environ, around)
    assert leftovers(environment) == []
    assert environment["HWLOC_COMPONENTS"] == "-gl,-opencl"
    kept = {name: value for name, value in environ.items() if name in MEANT or name in ("A", "B_C")}
    assert kept.items() <= environment.items()
    assert set(environment) - set(environ) <= {"HWLOC_COMPONENTS", "TMPDIR", "CUDA_DEVICE_ORDER", *THREADS}
    assert cured(environment, around) == environment


def test_the_last_resort_keeps_no_setting_of_mpi() -> None:
    own = {"OMPI_MCA_btl": "x", "MPI4PY_RC_INITIALIZE": "0", "HWLOC_XMLFILE": "x", "UCX_TLS": "x", "PATH": "/bin"}
    own |= {"LD_LIBRARY_PATH": "/cuda:/conda"}
    around = Surroundings("/shm", "/cuda", 4)
    kept = bare(own, around)
    assert kept["PATH"] == "/bin"
    assert kept["TMPDIR"] == "/shm"
    assert kept["LD_LIBRARY_PATH"] == "/cuda"
    assert not {"OMPI_MCA_btl", "MPI4PY_RC_INITIALIZE", "HWLOC_XMLFILE", "UCX_TLS"} & kept.keys()
    added = {"OMPI_MCA_ess_singleton_isolated", "OMPI_MCA_mca_base_param_files", "HWLOC_COMPONENTS", "TMPDIR"}
    added |= {"CUDA_DEVICE_ORDER", *THREADS}
    assert kept.keys() - own.keys() == added
    assert isolated(own, around).items() > {**own, "OMPI_MCA_ess_singleton_isolated": "1"}.items()


def test_what_an_import_looks_for_is_named() -> None:
    around = Surroundings(None, "/cuda", 4, ("/wsl/lib", "/python/lib"), "/usr/local/cuda")
    for environment in (cured({"LD_LIBRARY_PATH": "/own"}, around), isolated({"LD_LIBRARY_PATH": "/own"}, around)):
        assert environment["LD_LIBRARY_PATH"] == "/wsl/lib:/python/lib:/own"
        assert environment["CUDA_HOME"] == "/usr/local/cuda"
        assert environment["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID"
    assert bare({"LD_LIBRARY_PATH": "/own"}, around)["LD_LIBRARY_PATH"] == "/wsl/lib:/python/lib:/cuda"
    assert cured({"CUDA_HOME": "/mine"}, around)["CUDA_HOME"] == "/mine"


def test_folders_with_an_mpi_are_told_from_others(tmp_path: Path) -> None:
    conda, cuda = tmp_path / "conda", tmp_path / "cuda"
    for folder, name in ((conda, "libmpi.so.12"), (cuda, "libcudart.so")):
        folder.mkdir()
        (folder / name).touch()
    environ = {"LD_LIBRARY_PATH": f"{cuda}:{conda}::/missing", "TMPDIR": "/dev/shm"}
    assert look_around(environ, 2.5) == Surroundings("/dev/shm", f"{cuda}:/missing", 2)
    assert look_around(environ, 0.5).cores == 1


@pytest.mark.parametrize(
    ("asked", "threads"), [(None, "4"), ("", "4"), ("128", "4"), ("0", "4"), ("many", "4"), ("2", "2"), ("4", "4")]
)
def test_no_more_threads_than_cores(asked: str | None, threads: str) -> None:
    environment = cured({} if asked is None else {"OMP_NUM_THREADS": asked}, NOWHERE)
    assert environment["OMP_NUM_THREADS"] == threads
    assert environment["MKL_NUM_THREADS"] == "4"


def test_the_first_usable_folder_is_taken(tmp_path: Path) -> None:
    short = Path("/dev/shm")
    missing, long = tmp_path / "missing", tmp_path / ("x" * 100)
    long.mkdir()
    assert usable_tmpdir([str(missing), str(long), str(short)]) == str(short)
    assert usable_tmpdir([str(missing)]) is None
    assert tmpdir_candidates({"TMPDIR": "/mine"})[0] == "/mine"
    assert tmpdir_candidates({})[0] == "/tmp"
