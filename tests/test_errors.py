import re
import string

import pytest

from cosyserve.errors import CATALOGUE, CosyError, Fault
from tests.running import ROOT


def test_ids_are_unique_and_of_one_form() -> None:
    ids = [fault.id for fault in CATALOGUE]
    assert len(set(ids)) == len(ids) > 20
    assert all(re.fullmatch(r"CS-[A-Z]+-\d{3}", each) for each in ids)


def test_no_fault_hides_another_of_the_same_name() -> None:
    sources = (path.read_text(encoding="utf-8") for path in (ROOT / "src/cosyserve/errors").glob("*.py"))
    written = [each for source in sources for each in re.findall(r'"(CS-[A-Z]+-\d{3})"', source)]
    assert sorted(written) == sorted(fault.id for fault in CATALOGUE)


@pytest.mark.parametrize("fault", CATALOGUE, ids=lambda fault: fault.id)
def test_every_fault_has_cause_and_remedy_in_both_languages(fault: Fault) -> None:
    for text in (fault.cause, fault.remedy):
        assert text.endswith(".")
    for text in (fault.cause_zh, fault.remedy_zh):
        assert text.endswith("。")
        assert re.search("[\u4e00-\u9fff]", text)
    english, chinese = (
        {name for text in texts for _, name, _, _ in string.Formatter().parse(text) if name}
        for texts in ((fault.cause, fault.remedy), (fault.cause_zh, fault.remedy_zh))
    )
    assert {name.removesuffix("_zh") for name in chinese} <= english  # a fact may be given in both languages


def test_an_error_prints_id_cause_and_remedy() -> None:
    fault = Fault("CS-X-001", 400, "It has {count}.", "Take {count}.", "有 {count} 个。", "取 {count} 个。")
    assert str(CosyError(fault, count="{3}")) == "CS-X-001: It has {3}.\n  → Take {3}.\n  有 {3} 个。\n  → 取 {3} 个。"
