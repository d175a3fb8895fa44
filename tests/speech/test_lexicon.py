"""The lexicon's file: people edit it, processes share it, and it may hold anything."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from click.testing import CliRunner

from cosyserve.cli import main
from cosyserve.errors import CosyError
from cosyserve.speech import lexicon
from cosyserve.speech.lexicon import NAME, Lexicon
from cosyserve.speech.names import is_name
from cosyserve.speech.voices import Library
from cosyserve.text.lexicon import Pronunciation
from cosyserve.text.mapped import Mapped


def said(found: Lexicon, text: str, voice: str = "") -> str:
    return found.words(voice, pronounced=False).applied(Mapped.original(text)).text


def refused(act: object, *arguments: object) -> str:
    with pytest.raises(CosyError) as refusal:
        act(*arguments)  # type: ignore[operator]
    return refusal.value.fault.id


def test_what_is_put_is_found_by_others_and_after_a_restart(tmp_path: Path) -> None:
    folder = tmp_path / "voices"  # which is not there yet
    one, other = Lexicon(folder), Lexicon(folder)
    assert (said(one, "GIF"), list(one.entries)) == ("GIF", [])
    one.put(Pronunciation("GIF", " jiff "))
    one.put(Pronunciation("GIF", "giff", voice="ann"))
    one.put(Pronunciation("cafe\u0301", "kaffay"))
    for each in (one, other, Lexicon(folder)):
        assert (said(each, "GIF"), said(each, "GIF", "ann"), said(each, "café")) == ("jiff", "giff", "kaffay")
    one.put(Pronunciation("GIF", "gift"))
    assert (said(other, "GIF"), said(other, "GIF", "ann")) == ("gift", "giff")
    other.remove("GIF", "ann")
    assert (said(one, "GIF", "ann"), one.find("GIF").respelling) == ("gift", "gift")
    assert refused(one.remove, "GIF", "ann") == refused(one.find, "gif") == "CS-LEX-002"


def test_no_voice_can_take_its_place_and_it_is_no_voice(tmp_path: Path) -> None:
    Lexicon(tmp_path).put(Pronunciation("a", "b"))
    assert not is_name(Path(NAME).stem)
    assert not Library(tmp_path, others=()).entries


def test_a_file_that_a_person_wrote(tmp_path: Path) -> None:
    found = Lexicon(tmp_path)
    (tmp_path / NAME).write_text('{"entries": [{"word": "行长", "respelling": "航掌", "pinyin": "hang2 zhang3"}]}')
    assert said(found, "行长") == "航掌"
    found.put(Pronunciation("GIF", "jiff"))
    written = json.loads((tmp_path / NAME).read_text())
    assert written["entries"] == [
        {"word": "GIF", "respelling": "jiff"},
        {"word": "行长", "respelling": "航掌", "pinyin": "hang2 zhang3"},
    ]


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "{",
        "\0",
        '{"entries": 1}',
        '{"entries": [{"respelling": "a"}]}',
        '{"entries": [{"word": "a"}]}',
        '{"entries": [{"word": "a", "say": "b"}]}',
        '{"entries": [{"word": "a", "pinyin": "zzz"}]}',
        '{"entries": [{"word": "\\ud800", "respelling": "a"}]}',
        "[" * 100_000,
        " " * 5_000_000,
        json.dumps({"entries": [{"word": f"a{n}", "respelling": "b"} for n in range(2001)]}),
    ],
    ids=range(13),
)
def test_a_broken_file_is_named_kept_and_not_used(tmp_path: Path, content: str) -> None:
    found = Lexicon(tmp_path)
    (tmp_path / NAME).write_text(content)
    assert said(found, "a") == "a"
    assert refused(lambda: found.entries) == refused(found.put, Pronunciation("b", "c")) == "CS-LEX-004"
    assert (tmp_path / NAME).read_text() == content
    (tmp_path / NAME).unlink()
    found.put(Pronunciation("a", "c"))
    assert said(found, "a") == "c"


def test_it_has_an_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lexicon, "MOST_ENTRIES", 3)
    found = Lexicon(tmp_path)
    for word in "abc":
        found.put(Pronunciation(word, "x"))
    assert refused(found.put, Pronunciation("d", "x")) == "CS-LEX-003"
    found.put(Pronunciation("a", "y"))
    assert [entry.respelling for entry in found.entries] == ["y", "x", "x"]


def test_no_entry_is_lost_where_several_are_put_at_once(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: Lexicon(tmp_path).put(Pronunciation(f"w{number}", "x")), range(24)))
    assert len(Lexicon(tmp_path).entries) == 24


def test_a_folder_that_cannot_be_written_to(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert refused(Lexicon(tmp_path / "file").put, Pronunciation("a", "b")) == "CS-VOICE-006"


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COSYSERVE_VOICES_DIR", str(tmp_path))

    def run(*arguments: str) -> tuple[int, str]:
        result = CliRunner().invoke(main, ["lexicon", *arguments])
        return result.exit_code, result.output

    assert run("set", "GIF", "--respelling", "jiff") == (0, "")
    assert run("set", "行长", "--pinyin", "hang2 zhang3", "--voice", "ann") == (0, "")
    assert run("list") == (0, "GIF\tjiff\t\t\n行长\t\thang2 zhang3\tann\n")
    assert run("remove", "GIF") == (0, "")
    for arguments, code in ((("remove", "GIF"), "CS-LEX-002"), (("set", "a"), "CS-LEX-001")):
        status, output = run(*arguments)
        assert (status, code in output) == (2, True)
