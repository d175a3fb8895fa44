"""What is said of a sentence before all of it is there."""

import re
from itertools import accumulate, pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from cosyserve.text.fragments import Fragment, Fragments
from cosyserve.text.front_end import FragmentFrontEnd, FrontEnd, Sentence
from cosyserve.text.language import Language
from cosyserve.text.lexicon import NO_WORDS, Words
from cosyserve.text.sentences import LONGEST, sentences
from tests.text.texts import texts

WORDS = Words(
    {"the cat": "tom", "of the house": "inside", "very good dog": "rex", "公园看": "看", "GIF": "a jiff", "cat": "puss"}
)
WORDS_OF_SEVERAL = ("the cat", "of the house", "very good dog", "公园看")
_PLAIN = st.sampled_from(
    (
        *("the ", "cat ", "of ", "house ", "very ", "good ", "dog ", "GIF ", "I ", "don't ", "well, ", "so: "),
        *("我们今天去", "公园看花", "，", "etc. ", "Mr. ", "U.S. ", "3", "—", "——", "(", ") ", '"', "\n", " ", ". "),
        *("。", "<strong>", "</strong>", "[breath]", "|"),
    )
)
plain_texts = st.one_of(st.lists(_PLAIN, max_size=80).map("".join), texts)


def fragments(text: str, words: Words = NO_WORDS) -> list[Fragment]:
    """Of a text that comes character by character."""
    finder = Fragments(words)
    return [each for character in text for each in finder.push(character)] + list(finder.flush())


def cuts(text: str, words: Words = NO_WORDS) -> list[str]:
    return [fragment.text for fragment in fragments(text, words)]


@given(plain_texts, st.lists(st.integers(0, 400), max_size=8), st.booleans())
@example("我们今天去公园看花U.S. 我们", [], False)
def test_text_in_pieces_has_the_fragments_of_the_whole(text: str, places: list[int], has_words: bool) -> None:
    words = WORDS if has_words else NO_WORDS
    whole, pieces = Fragments(words), Fragments(words)
    found = [*whole.push(text), *whole.flush()]
    bounds = pairwise([0, *sorted(places), len(text)])
    assert [each for start, end in bounds for each in pieces.push(text[start:end])] + list(pieces.flush()) == found
    assert fragments(text, words) == found


@given(plain_texts)
def test_joined_they_are_the_sentences(text: str) -> None:
    joined = [""]
    for fragment in fragments(text):
        assert fragment.text
        assert fragment.ends or re.search(r"\w", fragment.text)
        joined[-1] += fragment.text
        joined += [""] * fragment.ends
    assert joined == [*sentences(text), ""]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("I went to the market and bought some apples there.", "I went to the| market and bought| some apples there."),
        ("Well, that is good to know.", "Well,| that is good to know."),
        ("We met in 2024, and then we left.", "We met in 2024,| and then we left."),
        ("春天来了，花儿都开了，真好。", "春天来了，|花儿都开了，|真好。"),
        ("他说：“我们走吧，好不好”，然后走了。", "他说：|“我们走吧，好不好”，|然后走了。"),
        ("我们一起去公园里看看那些美丽的花朵和蝴蝶吧。", "我们一起去公园里看看那些|美丽的花朵和蝴蝶吧。"),
        (
            "ここでは日本語の文章がどこで切れるかを試しています。",
            "ここでは日本語の文章がど|こで切れるかを試しています。",
        ),
        ("아버지가방에들어가신다고합니다그래서우리는.", "아버지가방에들어가신다고|합니다그래서우리는."),
        ("这是很长的一段话里面有ＡＢ和3个数字还有。", "这是很长的一段话里面有ＡＢ和3个数字还有。"),
        ("他在家——我们今天去公园玩。", "他在家——|我们今天去公园玩。"),
        ("A cat—the dog—and so on it goes.", "A cat—the dog—and so on it goes."),
        ("12345 67890 12345 67890 12345 67890.", "12345 67890 12345 67890 12345 67890."),
        ("1、打开文件，然后关闭。", "1、打开文件，|然后关闭。"),
        ("| the cat, and the dog | the big old house |", "| the cat, and the dog | the big old house |"),
        ("Tom &amp; Jerry are here.", "Tom &amp; Jerry are here."),
    ],
)
def test_where_a_sentence_is_cut(text: str, expected: str) -> None:
    assert "|".join(cuts(text)) == expected


@pytest.mark.parametrize(
    "whole",
    (
        *("page 3", "May 3, 2024", "$3.50 today", "5 per cent", "Dr. Smith", "12 o'clock", "3 kg", "GPT-4", "1,000"),
        *("12:30", "No. 5", "J. Smith", "e.g. this", "Tue, 3/5", "Springfield, IL 62704", "code is 123456", "call 911"),
        *("x = y - 3", "https://a.b/c", "well-known", "(you know, it was the very best)", '"it is, as we all know"'),
        *("`go home now please`", "[the link, and more of it](http://a.b)", "$a b c d e f$", "$x, the y$", "a&b"),
        *(
            "<strong>so, this is very important</strong>",
            "==so, it is good==",
            "[breath]",
            "[k][ae]",
            "<b class='a b'>",
            "~ 5 km/h",
        ),
    ),
)
def test_what_is_read_by_its_context_is_not_parted(whole: str) -> None:
    found = cuts(f"Then we went to see that {whole} which the others said was as good as ours.")
    assert any(whole in fragment for fragment in found)
    assert len(found) > 2


@pytest.mark.parametrize(
    "whole", ["第 3 章", "2024年5月3日", "1，000", "12：30", "3.5%", "GPT-4", "“好的，谢谢”", "（真的，没错）"]
)
def test_so_it_is_in_chinese(whole: str) -> None:
    found = cuts(f"我们昨天在这里看到了，就是那个{whole}的东西，大家都说非常不错，也很有意思，所以我们买了。")
    assert any(whole in fragment for fragment in found)
    assert len(found) > 3


@given(plain_texts)
def test_no_word_of_the_lexicon_is_parted(text: str) -> None:
    done = 0
    for fragment in fragments(text, WORDS):
        done += len(fragment.text)
        if not fragment.ends:
            around = [text[max(0, done - len(word) + 1) : done + len(word) - 1] for word in WORDS_OF_SEVERAL]
            assert not any(map(str.__contains__, around, WORDS_OF_SEVERAL))


def test_what_may_become_a_word_waits() -> None:
    words = Words({"market and bought some apples": "shopping"})
    finder = Fragments(words)
    assert [each.text for each in finder.push("I went to the market and bought some ")] == ["I went to the"]
    assert [each.text for each in finder.push("pears there ")] == [" market and bought"]
    finder = Fragments(words)
    (first, *others) = [*finder.push("I went to the market and bought some apples there with my friends. ")]
    assert first.text == "I went to the"
    assert others[0].text.startswith(" market and bought some apples")


@pytest.mark.parametrize("part", ["1234 ", "x", "“a, b ", "，", "a the of in ", "好", "\n "])
def test_little_is_held_of_a_text_without_sentences(part: str) -> None:
    finder, held = Fragments(), 0
    for character in part * (2000 // len(part)):
        held += 1 - sum(len(each.text) for each in finder.push(character))
        assert held <= 2 * LONGEST


def test_most_of_a_sentence_is_given_before_it_is_complete() -> None:
    text = "When the sun came up over the hills the people of the small town went out into the fields to work"
    given_out = "".join(fragment.text for fragment in Fragments().push(text))
    assert len(given_out) > len(text) - 20
    text = "当太阳从山上升起来的时候小镇上的人们都已经走到田野里去干活了而孩子们还在家里睡觉"
    assert len("".join(fragment.text for fragment in Fragments().push(text))) > len(text) - 20


# --- as they are said


def opened(text: str, *, pronounced: bool = False, words: Words = NO_WORDS, normalize: bool = True) -> list[Sentence]:
    maker = FragmentFrontEnd(normalize=normalize, pronounced=pronounced, words=words)
    return [each for character in text for each in maker.push(character)] + maker.flush()


def whole(text: str, *, pronounced: bool = False, words: Words = NO_WORDS) -> list[str]:
    maker = FrontEnd(pronounced=pronounced, words=words)
    return [sentence.said().text for sentence in maker.push(text) + maker.flush()]


def said(found: list[Sentence]) -> list[str]:
    """Each sentence, of what is said of its fragments."""
    joined = [""]
    for sentence in found:
        joined[-1] += sentence.said().text
        joined += [""] * (not sentence.open)
    return joined[:-1]


CORPUS = """
When I was a child, we used to go to the sea every summer, and my mother would read to us in the evening.
He paid $3.50 for the coffee, which was more than the 5 per cent that he had planned to spend on May 3, 2024.
Dr. Smith's office is on page 3 of the **old** plan, and the `new` one says it's at 12 o'clock, doesn't it?
The quick brown fox (which was, in fact, a dog) jumped over 1,000 lazy cats: nobody knows why; nobody asked.
Please call 555-123-4567 or write to me at bob@example.com, and we will send you 3 kg of the best tea there is.
她说今天下午三点半要去图书馆还书，顺便再借几本关于人工智能的新书回来看看。
截至2024年5月3日，该公司共售出12,345台设备，同比增长15.6%，其中海外市场占了大约三分之一。
请拨打客服热线12315，或者登录www.example.com查询，工作时间是每天9:00到18:00，周末不休息。
第 3 章讲的是GPT-4 的训练方法，作者认为“数据比模型更重要”，这一点我们完全同意，也会在后面继续讨论。
我昨天在 Apple Store 买了一台 MacBook Pro，花了￥12,999，店员还送了我一个 USB-C 的转接头，非常好用。
このソフトウェアは、とても速くて使いやすいので、みんなに勧めたいと思っています。
- [ ] Buy the milk, and the bread, and all of the other things that are on the list
| the name of the dog | the age of the cat |
Ich habe heute mit meiner Schwester gesprochen, und sie sagte, dass es ihr sehr gut geht.
""".strip().splitlines(keepends=True)


@pytest.mark.parametrize("text", CORPUS)
def test_together_they_are_said_as_the_sentence_is(text: str) -> None:
    assert said(opened(text)) == whole(text)


def test_so_they_are_one_after_the_other() -> None:
    assert said(opened("".join(CORPUS))) == whole("".join(CORPUS))


def test_the_corpus_is_cut_into_many() -> None:
    assert len(opened("".join(CORPUS))) > 4 * len(CORPUS)


def test_what_is_said_in_another_way() -> None:
    text = "The word 你好 means hello, five times."
    assert said(opened(text)) == ["The word你好means hello, five times."]  # so far there is more Chinese than English
    assert whole(text) == [text]


@given(plain_texts, st.booleans())
def test_their_places_follow_each_other(text: str, pronounced: bool) -> None:
    found = opened(text, pronounced=pronounced, words=WORDS)
    assert "".join(sentence.written for sentence in found) == text
    assert [sentence.start for sentence in found] == [0, *accumulate(len(each.written) for each in found)][:-1]
    for sentence in found:
        places = sentence.said().offsets
        assert all(sentence.start <= place < sentence.start + len(sentence.written) for place in places)


def test_an_open_one_has_no_mark_at_its_end() -> None:
    first, *_, last = opened("I went to the market with all of them 😊")
    assert (first.said().text, first.open) == ("I went to the", True)
    assert last.said().text.endswith(".")
    assert not last.open


def test_words_of_the_lexicon_are_said_once() -> None:
    text = "We know that the GIF was made by the cat of the house as well as by others."
    assert said(opened(text, words=WORDS)) == whole(text, words=WORDS)
    assert said(opened(text, words=WORDS))[0].count("a jiff") == 1


def test_phonemes_pass() -> None:
    text = "We all say [HH][AH0][L][OW1] to the people, 报道[j][ǐ]予好评，然后我们就都回家了。"
    assert said(opened(text, pronounced=True)) == whole(text, pronounced=True)


def test_a_fragment_waits_for_a_language() -> None:
    maker = FragmentFrontEnd()
    assert maker.push("GPT-4, 3.5, 1234567, 3/4, ") == []
    found = maker.push("我们今天去公园里看看那些美丽的花")
    assert {sentence.language for sentence in found} == {Language.CHINESE}
    assert [sentence.language for sentence in FragmentFrontEnd().push("3! " * 9)] == [Language.ENGLISH] * 8


def test_a_sentence_keeps_its_language() -> None:
    found = opened("We all said that 你好你好你好你好你好你好你好你好你好你好.")
    assert {sentence.language for sentence in found} == {Language.ENGLISH}
    found = opened("今天我们都去公园玩了，然后说 I am so very happy to be here. 3/4.")
    assert {sentence.language for sentence in found} == {Language.CHINESE}


def test_nothing_is_prepared_if_that_is_not_wanted() -> None:
    text = "**I** went to the market, and GIF is 3 kg.\n好的，谢谢你。"
    found = opened(text, normalize=False, words=WORDS)
    assert "".join(sentence.said().text for sentence in found) == text
    assert {sentence.language for sentence in found} == {None}
