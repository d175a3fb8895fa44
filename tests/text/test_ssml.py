"""SSML: what is spoken of it, where it comes from, and what is refused."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cosyserve.errors import CosyError
from cosyserve.text.front_end import Segment, whole
from cosyserve.text.lexicon import Pronunciation, Words
from cosyserve.text.mapped import Mapped
from cosyserve.text.ssml import Pause, parsed, runs


def segments(document: str, *, pronounced: bool = False, normalize: bool = True) -> list[Segment]:
    async def collected() -> list[Segment]:
        return [each async for each in whole(document, ssml=True, pronounced=pronounced, normalize=normalize)]

    return asyncio.run(collected())


def spoken(document: str, *, pronounced: bool = False, normalize: bool = True) -> list[str | float]:
    return [each.pause or each.text for each in segments(document, pronounced=pronounced, normalize=normalize)]


def refusal(document: str) -> CosyError:
    with pytest.raises(CosyError) as refused:
        parsed(document)
    return refused.value


PHONEME = 'I <phoneme alphabet="cmu" ph="R EH1 D">read</phoneme> it.'
PINYIN = '<speak>银行<phoneme alphabet="pinyin" ph="hang2 zhang3">行长</phoneme>来了。</speak>'


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        ("<speak>Hello, world.</speak>", ["Hello, world."]),
        ("Hello, <b>big</b> world.", ["Hello, big world."]),
        ('One.<break time="500ms"/>Two.', ["One.", 0.5, "Two."]),
        ('One <break time="1.5s"/> two.', ["One.", 1.5, "two."]),
        ('<break time="0s"/>One<break/>', ["One.", 0.5]),
        ('A<break strength="strong"/>b', ["A.", 0.75, "b."]),
        ('The <sub alias="World Wide Web Consortium">W3C</sub> is here.', ["The World Wide Web Consortium is here."]),
        ('Code <say-as interpret-as="digits">2024</say-as> is it.', ["Code two zero two four is it."]),
        ('密码是<say-as interpret-as="digits">2024</say-as>。', ["密码是二零二四。"]),
        ('The <say-as interpret-as="characters">USA</say-as> is here.', ["The U S A is here."]),
        ('It is <say-as interpret-as="date">5</say-as>.', ["It is five."]),
        ('<prosody rate="slow">Slow <x:y>words</x:y></prosody> here.', ["Slow words here."]),
        ("<p>One</p><p>Two</p>", ["One.", "Two."]),
        ("<speak>\n  One\n  line.\n</speak>", ["One line."]),
        ("Tom &amp; Ann, 5 &lt; 6.", ["Tom and Ann, five less than six."]),
        ("It costs $5 <![CDATA[& more]]>.", ["It costs five dollars and more."]),
        ("&lt;break time='9s'/&gt; Hello.", ["Hello."]),
        ('<?xml version="1.0" encoding="latin-1"?><speak xml:lang="zh">你好。<!-- 不读 --></speak>', ["你好。"]),
        (PHONEME, ["I read it."]),
        (PINYIN, ["银行行长来了。"]),
        ('<phoneme alphabet="ipa" ph="ɹɛd">read</phoneme> it.', ["read it."]),
        ("<speak/>", []),
    ],
)
def test_what_is_spoken(document: str, expected: list[str | float]) -> None:
    assert [each for each in spoken(document) if each] == expected


def test_phonemes_for_a_model_that_knows_them() -> None:
    assert spoken(PHONEME, pronounced=True) == ["I [R][EH1][D] it."]
    assert spoken(PINYIN, pronounced=True) == ["银行[h][áng][zh][ǎng]来了。"]
    assert spoken(PINYIN, pronounced=True, normalize=False) == ["银行[h][áng][zh][ǎng]来了。"]
    assert spoken(f"好{chr(0x10FE00)}的。", pronounced=True) == ["好的。"]


def test_in_a_plain_text_nothing_of_it_is_a_control() -> None:
    async def collected() -> list[Segment]:
        text = 'One <break time="5s"/><sub alias="x">two</sub> three.'
        return [each async for each in whole(text)]

    made = asyncio.run(collected())
    assert [(each.text, each.pause) for each in made] == [("One two three.", 0)]


def test_the_lexicon_applies() -> None:
    words = Words.of([Pronunciation("GIF", "jiff")], "", pronounced=False)

    async def collected() -> list[str]:
        return [each.text async for each in whole("A <b>GIF</b>.", ssml=True, words=words)]

    assert asyncio.run(collected()) == ["A jiff."]


def test_every_segment_knows_what_it_stands_for() -> None:
    document = '<speak>你好。<break time="1s"/>The <sub alias="World Wide Web">WWW</sub>.</speak>'
    found = [(document[each.start : each.end], each.pause) for each in segments(document)]
    assert found == [("你好。", 0), ("", 1.0), ('The <sub alias="World Wide Web">WWW</sub>.', 0)]
    assert segments(document)[1].start == document.index("<break")


@pytest.mark.parametrize(
    ("document", "line", "tag", "code"),
    [
        ("One\n<b>two", 2, "b", "CS-TEXT-007"),
        ("<speak>\n\n<b>two</i></speak>", 3, "b", "CS-TEXT-007"),
        ("Tom & Ann", 1, "speak", "CS-TEXT-007"),
        ("<speak>&nbsp;</speak>", 1, "speak", "CS-TEXT-007"),
        ("</speak>", 1, "speak", "CS-TEXT-007"),
        ("<speak></speak><speak></speak>", 1, "speak", "CS-TEXT-007"),
        ("a\n<break time='11s'/>", 2, "break", "CS-TEXT-008"),
        ("<break time='soon'/>", 1, "break", "CS-TEXT-008"),
        ("<break time='-1s'/>", 1, "break", "CS-TEXT-008"),
        ("<break time='9e9s'/>", 1, "break", "CS-TEXT-008"),
        ("<break time='10s'/>" * 60 + "\n<break time='1ms'/>", 2, "break", "CS-TEXT-008"),
        ("<break strength='x'/>", 1, "break", "CS-TEXT-008"),
        ("<b>\n<sub>a</sub></b>", 2, "sub", "CS-TEXT-008"),
        ("<phoneme alphabet='ipa'>a</phoneme>", 1, "phoneme", "CS-TEXT-008"),
        ("<phoneme alphabet='cmu' ph='QQ'>a</phoneme>", 1, "phoneme", "CS-TEXT-008"),
        ("<phoneme alphabet='pinyin' ph='zzz1'>a</phoneme>", 1, "phoneme", "CS-TEXT-008"),
    ],
)
def test_an_error_names_line_and_tag(document: str, line: int, tag: str, code: str) -> None:
    error = refusal(document)
    assert (error.fault.id, error.facts["line"], error.facts["tag"]) == (code, line, tag)
    assert f"line {line}" in error.cause
    assert f"第 {line} 行" in error.cause_zh


LAUGHS = "".join(f'<!ENTITY l{n + 1} "{f"&l{n};" * 10}">' for n in range(9))
HOSTILE = [
    f'<!DOCTYPE speak [<!ENTITY l0 "ha">{LAUGHS}]><speak>&l9;</speak>',
    '<?xml version="1.0"?><!DOCTYPE speak SYSTEM "http://127.0.0.1/x.dtd"><speak/>',
    '<!DOCTYPE s [<!ENTITY x SYSTEM "file:///etc/passwd">]><speak>&x;</speak>',
    '<!DOCTYPE s [<!ENTITY % p SYSTEM "file:///etc/passwd"> %p;]><speak/>',
    '<!DOCTYPE s [<!ATTLIST sub alias CDATA "x">]><speak><sub>a</sub></speak>',
    "<b>" * 10_000,
    "<b>" * 33 + "</b>" * 33,
    "<" * 10_000,
    "<speak " + " ".join(f"a{n}='1'" for n in range(1000)),
    "<!--" * 1000,
    "<![CDATA[" * 1000,
    "&#0;",
    "&#xD800;",
    "&#x110000;",
    "<speak>\ufffe\uffff</speak>",
    f"<{'x' * 10_000}>",
]


@pytest.mark.parametrize("document", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_documents_are_refused(document: str) -> None:
    error = refusal(document)
    assert error.fault.status == 400
    assert len(str(error)) < 2000


@given(st.text(alphabet="a好\U0001f600é &;\n<>/b='\"[]!?-", max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        found, _ = parsed(text)
    except CosyError as error:
        assert error.fault.status == 400
    else:
        for part in found:
            if isinstance(part, Mapped):
                assert len(part.text) == len(part.offsets)
                assert all(0 <= place < max(len(text), 1) for place in part.offsets)


@given(st.lists(st.sampled_from(["a好b", "\U0001f600", "<b>", "</b>", "é.", "<break/>", "<x/>", " "]), max_size=30))
def test_every_character_knows_where_it_comes_from(pieces: list[str]) -> None:
    document, depth = "", 0
    for piece in pieces:
        if piece == "</b>" and not depth:
            continue
        depth += (piece == "<b>") - (piece == "</b>")
        document += piece
    document += "</b>" * depth
    parts = list(runs(parsed(document)[0]))
    plain = [part for part in parts if isinstance(part, Mapped)]
    assert all(document[place] == each for part in plain for each, place in zip(part.text, part.offsets, strict=True))
    assert [part.at for part in parts if isinstance(part, Pause)] == [
        place for place in range(len(document)) if document.startswith("<break/>", place)
    ]
    assert "".join(part.text for part in plain) == "".join(each for each in pieces if "<" not in each)
