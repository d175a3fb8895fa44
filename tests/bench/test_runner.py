"""The runner of the benchmarks, and the one form of what they find."""

import json
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from bench.common import plot
from bench.common.benchmark import Benchmark
from bench.common.index import FOLDER, entries
from bench.common.load_report import by_case
from bench.common.results import Figure, Results, count, distance, mib, ms, words
from tests.running import ROOT

NAMES = [entry.name for entry in entries()]


def test_every_module_is_a_benchmark_that_says_what_it_measures() -> None:
    modules = sorted(path.stem for path in FOLDER.glob("*.py") if not path.stem.startswith("__"))
    assert modules == NAMES
    assert all(20 < len(entry.about) < 160 for entry in entries())


@pytest.mark.parametrize("name", NAMES)
def test_each_knows_its_name_and_has_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    benchmark: Benchmark = import_module(f"bench.{name}").BENCHMARK
    assert benchmark.name == name
    with pytest.raises(SystemExit) as ended:
        benchmark.run(["--help"])
    assert ended.value.code == 0
    assert "--json FILE" in capsys.readouterr().out


def test_the_runner_lists_and_refuses() -> None:
    listed = subprocess.run([sys.executable, "-m", "bench"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert all(f"  {name} " in listed.stdout for name in NAMES)
    refused = subprocess.run([sys.executable, "-m", "bench", "nothing"], cwd=ROOT, capture_output=True, text=True)
    assert refused.returncode == 1
    assert "there is no nothing" in refused.stderr


@pytest.mark.slow  # it starts twenty processes
@pytest.mark.parametrize("way", [["bench", "fetch_again"], ["bench.fetch_again"]])
def test_a_benchmark_runs_either_way_and_writes_the_common_form(tmp_path: Path, way: list[str]) -> None:
    found = tmp_path / "found.json"
    command = [sys.executable, "-m", *way, "--json", str(found)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert "a fetch adds, s" in done.stdout
    report = json.loads(found.read_text())
    assert list(report) == ["name", "commit", "machine", "device", "when", "parameters", "figures"]
    assert (report["name"], report["device"], report["parameters"]) == ("fetch_again", "processor", {})
    assert [each["unit"] for each in report["figures"]] == ["s", "s"]


def test_a_run_that_is_cut_leaves_what_it_has(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    results = Results("one", {"folder": Path("here"), "streams": 4}, tmp_path / "found.json")
    results.add("4 streams", one_by_one=ms(0.0123), apart=distance(1.234e-6))
    report = json.loads((tmp_path / "found.json").read_text())
    assert report["parameters"] == {"folder": "here", "streams": 4}
    assert report["figures"] == [
        {"case": "4 streams", "name": "one by one", "value": pytest.approx(12.3), "unit": "ms"},
        {"case": "4 streams", "name": "apart", "value": 1.234e-6, "unit": ""},
    ]
    results.add("5 streams", one_by_one=ms(1), apart=distance(0))
    results.add("all", memory=mib(3 << 20), streams=count(5), told=words("ok"))
    assert len(json.loads((tmp_path / "found.json").read_text())["figures"]) == 7
    printed = capsys.readouterr().out.splitlines()
    assert printed[1].split() == ["one", "by", "one,", "ms", "apart"]
    assert [line.split()[-1] for line in printed[2:4]] == ["1.2e-06", "0.0e+00"]
    assert printed[4].split() == ["memory,", "MiB", "streams", "told"]  # other figures, another head
    assert printed[5].split() == ["all", "3.0", "5", "ok"]


def test_pictures_have_one_style() -> None:
    picture = plot.svg(
        100, [plot.line([(0, 1), (2, 3)], plot.BLUE, dashed=True), *plot.legend([("a", plot.ORANGE)], 4)]
    )
    assert picture.startswith("<svg ") and picture.endswith("</svg>\n")
    assert 'points="0.0,1.0 2.0,3.0"' in picture
    assert 'fill="#d62">a</text>' in picture
    drawing = [path.name for path in FOLDER.rglob("*.py") if "<svg" in path.read_text(encoding="utf-8")]
    assert drawing == ["plot.py"]


def test_a_load_report_has_the_common_form_too() -> None:
    found = {
        "machine": {"x": 1.0},
        "closed loop": {"4 at once": {"first_chunk_p50_ms": 9.5, "sound_per_s": 3.5, "n": 4}},
    }
    assert by_case(found) == {
        "closed loop, 4 at once": {"first_chunk_p50": Figure(9.5, "ms"), "sound": Figure(3.5, "s/s")}
    }
