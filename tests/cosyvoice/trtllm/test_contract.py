"""The adapter and the stand-in are held to the same contract, so that neither drifts from TensorRT-LLM alone."""

import ast
import re
from pathlib import Path

import pytest

from tests.cosyvoice.trtllm.contract import CONTRACT, bound, made
from tests.running import ROOT

ADAPTERS = [ROOT / "src/cosyserve/cosyvoice/engine/trtllm.py", ROOT / "src/cosyserve/assets/compile.py"]


def test_every_entry_names_its_place_in_the_source() -> None:
    for kind in ("enums", "classes", "functions", "settable", "behaviour"):
        for name, about in CONTRACT[kind].items():
            assert about["file"].endswith((".cpp", ".h", ".cu", ".py")), name
            assert about["line"], name
    assert CONTRACT["versions"] == ["1.0.0", "1.2.1"]
    for name, about in CONTRACT["behaviour"].items():
        assert about["symbol"], name
        assert set(about["versions"]) <= set(CONTRACT["versions"]), name
    assert all(re.fullmatch(r"[0-9a-f]{40}", each) for commits in CONTRACT["read"].values() for each in commits)


def used(path: Path) -> set[str]:
    """Every attribute and keyword that an adapter uses of what came from TensorRT-LLM."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Attribute) and ast.unparse(node.value).split(".")[0] in _THEIRS:
            names.add(node.attr)
        if isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[0] in _THEIRS:
            names |= {keyword.arg for keyword in node.keywords if keyword.arg}
    return names


_THEIRS = {"api", "executor", "builder", "QWenForCausalLM", "config", "response"}


def known() -> set[str]:
    names = set(CONTRACT["settable"]["plugin_config"]["names"]) | {"plugin_config", "executor"}
    for path, about in {**CONTRACT["classes"], **CONTRACT["functions"], **CONTRACT["enums"]}.items():
        names.add(path.rsplit(".", 1)[1])
        for part in ("positional", "keyword_only", "methods", "classmethods"):
            names |= set(about.get(part, {}))
        names |= {each for method in about.get("methods", {}).values() for each in method}
        names |= {each for method in about.get("classmethods", {}).values() for each in method}
        names |= set(about.get("attributes", ())) | set(about.get("values", ()))
    return names


@pytest.mark.parametrize("adapter", ADAPTERS, ids=lambda path: path.name)
def test_the_adapter_uses_nothing_that_the_contract_has_not(adapter: Path) -> None:
    assert len(used(adapter)) > 5
    assert used(adapter) <= known()


def test_a_call_that_the_bindings_refuse_is_refused() -> None:
    sampling = made("tensorrt_llm.bindings.executor.SamplingConfig")
    assert vars(sampling(1, top_k=25))["top_k"] == 25
    for args, kwargs in (((1, 25), {}), ((), {"random_seed": 1}), ((), {"top_k": 2.5}), ((), {"top_p": "0.8"})):
        with pytest.raises(TypeError):
            sampling(*args, **kwargs)
    with pytest.raises(TypeError):
        bound("x", {"timeout": ["timedelta?", None]}, {}, (0.5,), {})


def test_the_bindings_take_what_they_give() -> None:
    """Every class of the contract can be made with its defaults."""
    for path, about in CONTRACT["classes"].items():
        if "positional" in about and all(len(each) > 1 for each in about["positional"].values()):
            made(path)()
