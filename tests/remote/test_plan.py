import io
import re
import subprocess
import tarfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cosyserve import errors
from cosyserve.errors import CosyError
from cosyserve.remote import bundle, survey
from cosyserve.remote.deployment import public_address
from cosyserve.remote.plan import Options, plan
from cosyserve.remote.suitability import choose_flavour
from cosyserve.remote.target import Target
from tests.remote.plans import CASES, PLANS, RECORDED, text_of
from tests.running import ROOT


@pytest.mark.parametrize("case", CASES)
def test_the_plan_for_each_described_instance_is_the_one_on_record(case: str) -> None:
    assert text_of(case) == (PLANS / f"{case}.txt").read_text()


def test_every_plan_on_record_is_one_that_is_made() -> None:
    assert {path.stem for path in PLANS.glob("*.txt")} == set(CASES)


@pytest.mark.parametrize("case", CASES)
def test_every_script_is_one_that_a_shell_can_read(case: str) -> None:
    name, options = CASES[case]
    try:
        instance = survey.parse((RECORDED / f"{name}.txt").read_text())
        chosen, why = choose_flavour(instance)
        steps = plan(instance, bundle.Bundle("1-0", options.flavour or chosen, b""), options, why).steps
    except CosyError:
        return
    for step in steps:
        subprocess.run(["bash", "-n"], input=step.script, text=True, check=True)


@pytest.mark.parametrize("made_on_demand", [True, False])
@pytest.mark.parametrize("shell", ["bash", "dash"])
def test_the_survey_runs_in_any_shell_and_is_understood(shell: str, made_on_demand: bool, tmp_path: Path) -> None:
    script = survey.script(str(tmp_path / "it's new" / "cosyserve"), made_on_demand=made_on_demand)
    answer = subprocess.run([shell, "-c", script], capture_output=True, text=True, check=True).stdout
    instance = survey.parse(answer)
    assert instance.machine.startswith("Linux ")
    assert (instance.free_mib is not None) == made_on_demand
    assert instance.memory_mib > 100
    assert instance.current is None


@given(st.text())
def test_what_is_no_answer_is_an_error_of_ours(answer: str) -> None:
    with pytest.raises(CosyError) as caught:
        survey.parse(answer)
    assert caught.value.fault is errors.UNSUITABLE


ADDRESSES = {
    "connect.region.example:12345": Target("root", "connect.region.example", 12345),
    "root@connect.region.example:12345": Target("root", "connect.region.example", 12345),
    "ssh -p 12345 root@connect.region.example": Target("root", "connect.region.example", 12345),
    "ssh root@connect.region.example -p 12345": Target("root", "connect.region.example", 12345),
    "ssh://me@10.0.0.7:2222/": Target("me", "10.0.0.7", 2222),
    " box ": Target("root", "box", 22),
    "me@[::1]:2222": Target("me", "::1", 2222),
}


@pytest.mark.parametrize("text", ADDRESSES)
def test_an_address_is_read_as_people_write_and_paste_it(text: str) -> None:
    assert Target.parse(text) == ADDRESSES[text]


@given(st.text() | st.from_regex(r"-[a-zA-Z ]+=?[a-z]*@?[a-z.]*:?[0-9]*", fullmatch=True))
def test_nothing_else_gets_to_ssh(text: str) -> None:
    try:
        target = Target.parse(text)
    except CosyError as error:
        assert error.fault is errors.TARGET_UNREADABLE
        return
    assert not target.host.startswith("-")
    assert not target.user.startswith("-")
    assert not set(target.host + target.user) & set(" \t\n\"'$`;&|")
    assert 0 < target.port < 65536


def test_the_same_sources_make_the_same_bundle_and_others_another(tmp_path: Path) -> None:
    first, again = bundle.make(ROOT, "preview"), bundle.make(ROOT, "preview")
    assert (first.name, first.data) == (again.name, again.data)
    assert bundle.make(ROOT, "slim").name != first.name
    assert len(first.data) < 1 << 20


@pytest.mark.parametrize("flavour", ["preview", "slim", "cuda12", "cuda13"])
def test_every_flavour_can_be_bundled(flavour: bundle.Flavour) -> None:
    made = bundle.make(ROOT, flavour)
    assert made.flavour == flavour
    with tarfile.open(fileobj=io.BytesIO(made.data)) as tar:
        programs = [each for each in tar if each.name.startswith("scripts/") or each.name.endswith(".sh")]
        assert "scripts/setup-tensorrt-llm" in {each.name for each in programs}
        assert all(each.mode == 0o755 for each in programs)


def test_whatever_a_script_of_the_bundle_calls_is_in_the_bundle() -> None:
    with tarfile.open(fileobj=io.BytesIO(bundle.make(ROOT, "slim").data)) as tar:
        names = set(tar.getnames())
        for name in names & {
            *(f"autodl/{script}" for script in bundle.SCRIPTS),
            "scripts/setup-torch",
            "scripts/packages",
            "scripts/requirements",
            "scripts/setup-tensorrt-llm",
        }:
            script = tar.extractfile(name)
            assert script is not None
            assert tar.getmember(name).mode & 0o100 or name.endswith(".py"), name
            code = re.sub(r"(^|\s)#.*", "", script.read().decode())
            called = set(re.findall(r"\b(?:scripts|autodl)/[a-z_-]+(?:\.\w+)?", code))
            assert called - {"scripts/run-local"} <= names, name  # which start_server_mpi.sh calls in a clone


def test_a_folder_that_is_no_clone_is_named(tmp_path: Path) -> None:
    with pytest.raises(CosyError) as caught:
        bundle.make(tmp_path, "preview")
    assert caught.value.fault is errors.NO_SOURCES


def test_no_address_with_anything_else_in_it_is_shown() -> None:
    instance = survey.parse((RECORDED / "autodl-gpu.txt").read_text())
    assert public_address(instance, 6008) == "https://u12345-6008.region.example:8443"
    assert public_address(instance, 7000) is None
    instance.public[6008] = "https://x.example/$(touch /tmp/x)"
    assert public_address(instance, 6008) is None


def test_a_release_that_was_left_half_installed_is_installed_again() -> None:
    instance = survey.parse((RECORDED / "autodl-upgrade.txt").read_text())
    steps = plan(instance, bundle.Bundle("1.2.0-0", "cuda12", b""), Options(), choose_flavour(instance)[1]).steps
    assert [step.followed for step in steps] == [False, True]


def test_what_was_downloaded_before_need_not_fit_on_the_disk_again() -> None:
    recorded = (RECORDED / "autodl-small-disk.txt").read_text()
    instance = survey.parse(recorded.replace("end=1", "cached_mib=20000\nend=1"))
    chosen, why = choose_flavour(instance)
    assert plan(instance, bundle.Bundle("1-0", chosen, b""), Options(), why).steps
    with pytest.raises(CosyError) as caught:
        plan(survey.parse(recorded), bundle.Bundle("1-0", chosen, b""), Options(), why)
    assert caught.value.fault is errors.INSTANCE_FULL
