from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cosyserve.host.cure import Surroundings, leftovers
from cosyserve.launch.ladder import RUNG, WITHOUT_MPI, Rung, plan
from cosyserve.machine import Platform
from cosyserve.settings import Settings
from tests.launch.rungs import MPI_RUNGS

SERVER = ["python", "-m", "cosyserve", "serve"]
MPIRUN = ("mpirun", "-n", "1", "--allow-run-as-root", "--bind-to", "none")


def rungs(platform: Platform = Platform.BARE, remembered: str | None = None, **settings: object) -> list[Rung]:
    environ = {"PATH": "/bin", "SLURM_STEP_ID": "0", "OMPI_MCA_btl": "self"}
    chosen = Settings(**{"mpi": "always", **settings})  # type: ignore[arg-type]
    return plan(chosen, platform, SERVER, environ, Surroundings("/shm", "", 3), remembered)


def names(platform: Platform = Platform.BARE, remembered: str | None = None, **settings: object) -> list[str]:
    return [rung.name for rung in rungs(platform, remembered, **settings)]


@pytest.mark.parametrize("platform", Platform)
def test_a_server_that_needs_no_mpi_has_nothing_of_it(platform: Platform) -> None:
    (rung,) = rungs(platform, mpi="auto")
    assert rung.argv == tuple(SERVER)
    assert not any(name.startswith("OMPI_MCA_ess") for name in rung.environ)
    assert rung.environ["TMPDIR"] == "/shm"  # cured it is all the same
    assert rung.environ["OMP_NUM_THREADS"] == "3"
    assert rung.environ[RUNG] == "python"


@pytest.mark.parametrize("platform", [Platform.BARE, Platform.WSL2])
def test_plain_python_leads_on_a_machine_of_ones_own(platform: Platform) -> None:
    assert names(platform) == ["direct", "isolated", "mpirun", "bare", "without-mpi"]


@pytest.mark.parametrize("platform", [Platform.AUTODL, Platform.CONTAINER, Platform.KUBERNETES])
def test_mpirun_leads_in_containers(platform: Platform) -> None:
    assert names(platform) == ["mpirun", "direct", "isolated", "bare", "without-mpi"]


@pytest.mark.parametrize("launch", ["direct", "isolated", "mpirun"])
def test_a_chosen_way_is_tried_alone_and_then_none(launch: str) -> None:
    assert names(launch=launch) == [launch, "without-mpi"]
    assert names(launch=launch, remembered="direct")[0] == launch


@given(
    st.sampled_from(Platform),
    st.sampled_from(["direct", "isolated", "mpirun", "bare", "without-mpi", "nonsense", None]),
)
def test_what_worked_last_time_goes_first_and_nothing_is_lost(platform: Platform, remembered: str | None) -> None:
    order, plain = names(platform, remembered), names(platform)
    assert sorted(order) == sorted(plain)
    assert order[-1] == "without-mpi"
    if remembered in (*MPI_RUNGS, "bare"):
        assert order[0] == remembered
        assert [each for each in order if each != remembered] == [each for each in plain if each != remembered]


def test_every_rung_is_the_same_server_in_a_cured_environment() -> None:
    for platform, rung in product(Platform, rungs()):
        assert platform
        assert list(rung.argv[-len(SERVER) :]) == SERVER
        assert leftovers(rung.environ) == []
        assert rung.environ["HWLOC_COMPONENTS"] == "-gl,-opencl"
        assert rung.environ["TMPDIR"] == "/shm"
        assert rung.environ.get("OMPI_MCA_btl") == (None if rung.name == "bare" else "self")
        assert rung.environ[RUNG] == rung.name
        assert rung.why


def test_what_makes_each_rung() -> None:
    by_name = {rung.name: rung for rung in rungs(mpi_seconds=7)}
    assert by_name["mpirun"].argv == (*MPIRUN, *SERVER)
    assert by_name["mpirun"].environ["OMPI_ALLOW_RUN_AS_ROOT_CONFIRM"] == "1"
    assert by_name["isolated"].environ["OMPI_MCA_ess_singleton_isolated"] == "1"
    assert "OMPI_MCA_ess_singleton_isolated" not in by_name["direct"].environ
    assert by_name["without-mpi"].environ[WITHOUT_MPI] == "1"
    assert {rung.seconds for rung in by_name.values()} == {7}
