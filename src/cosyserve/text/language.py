"""Which language's rules a sentence is read by. Its letters say it; where they do not, its neighbours do."""

import re
import unicodedata
from enum import Enum

from cosyserve.text.links import LINK
from cosyserve.text.marks import without_pronunciation

_APART = re.compile(r"\\[A-Za-z]+|<[^<>]{1,200}>|<\|\w+\|>|\[[a-z_-]{1,20}\]")

HAN = re.compile(r"[\u3005\u3007\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]")
_KANA = re.compile(r"[\u3041-\u3096\u309d-\u309f\u30a1-\u30fa\u30fc-\u30ff\uff66-\uff9f]")
_HANGUL = re.compile(r"[\u1100-\u11ff\u3131-\u318e\uac00-\ud7a3]")
_LATIN_WORD = re.compile(r"[A-Za-z\u00c0-\u024f\u1e00-\u1eff]+(?:['’][A-Za-z]+)?")
_READ_BY_RULES = re.compile(r"[^\W_a-zA-Z]|[^\w\s.,!?;:'\"()\[\]-]")
_WORD = re.compile(r"[^\W\d_]{2,}")  # a letter alone may be a sign of a formula
_WITH_UNIT = re.compile(r"\d\s?[A-Za-z]{1,3}\b")
_FUNCTION = re.compile(r"\b(?:sin|cos|tan|cot|log|ln|lim|exp)(?=\b|\d)")
_LONGEST_SIGN = 2  # letters of a product in a formula (`F=ma，`)
_QUOTED = re.compile(r"“[^“”]{0,100}”|「[^「」]{0,100}」|\"[^\"]{0,100}\"|（[^（）]{0,100}）|《[^《》]{0,100}》")
_CHINESE_MARKS = re.compile(r"[，。！？；：、]")
MOST_UNDECIDED = 8  # sentences that wait: a text of numbers may never bring a word
_KANA_SHARE = 8  # a Japanese sentence has at least one kana for so many Han characters
_CHINESE_KANA = "の"  # stands in Chinese names of shops and teas


# Words that tell English from what else is written in Latin letters. Those of several are in
# neither list.
_ENGLISH_WORDS = frozenset(
    (  # noqa: SIM905 - a list of them would be longer
        "the of and to is it that was for are with as at be this have has had from by not but what were we when your"
        " can said there which she how their if will these would could than first been who its now did does do get you"
        " they our his her out my or all some about into just it's i'm don't let's isn't that's you're he"
        " him us them am very because where why here yesterday tomorrow tonight today"
    ).split(" ")
)
_FOREIGN_WORDS = frozenset(
    (  # noqa: SIM905
        "der das und ist nicht ein eine dem von auf für sie wir ich zu le les des est et une du aux pour dans que "
        "qui el los las es del por con para una il lo gli della di che sono è à os um uma não é het een là c'est "
        "j'ai n'est qu'il d'un d'une avec cette sont nous vous ils elle mais pas très bien bonjour merci oui chez "
        "leur notre votre mit einen einer einem sind kein keine auch aber oder wenn dass noch nach bei aus zum "
        "zur wie ihr mein dein sein heute morgen bitte danke guten tag pero más está muy como hola gracias buenos "
        "días tengo cuando también hay sin sobre non anche più questo questa ho hai abbiamo ciao grazie molto "
        "perché nel alla dal anni você eu ele ela isso são obrigado niet zijn met voor ook maar wij ik heb dat och att "
        "det som inte untuk dengan tidak adalah saya"
    ).split(" ")
)
_PLAIN_WORD = re.compile(r"(?<![\w./-])[A-Za-z\u00c0-\u024f\u1e00-\u1eff]+(?:['’][A-Za-z]+)?(?![\w/-])")
_OWN_LETTER = re.compile(r"[a-z\u00df-\u024f\u1e00-\u1eff]*[\u00df-\u024f\u1e00-\u1eff]")  # not of a name: Zürich
_VIETNAMESE = re.compile(r"[\u1ea0-\u1ef9]")
# Chinese letters that a Japanese text has not: a date or a name in one is Han alone.
_NOT_JAPANESE = re.compile(r"[的了是我你她它这那们吗么没很个说还让给谁谢]")


class Language(str, Enum):
    CHINESE = "zh"
    ENGLISH = "en"
    OTHER = "other"  # is left as it is written: there are no rules for it


def language_of(sentence: str) -> Language | None:
    """By the letters alone; None where they say nothing: no letters, or mere names in Latin ones (`GPT-4 Turbo`)."""
    text = unicodedata.normalize("NFKC", _APART.sub(" ", LINK.sub(" ", sentence)))
    han, hangul = len(HAN.findall(text)), len(_HANGUL.findall(text))
    # A Chinese text may quote Japanese words.
    own = _QUOTED.sub(" ", text) if _NOT_JAPANESE.search(_QUOTED.sub(" ", text)) else text
    kana = len(_KANA.findall(own.replace(_CHINESE_KANA, "")))
    if hangul > han or kana * _KANA_SHARE > han:
        return Language.OTHER
    words = _PLAIN_WORD.findall(text)
    english = sum(word.lower().replace("’", "'") in _ENGLISH_WORDS for word in words)
    if han and (not english or len(words) <= 2 * han):
        return Language.CHINESE
    # Within a sentence a capital begins a name: Los Angeles.
    plain = [word.lower().replace("’", "'") for word in words[:1]] + [word for word in words[1:] if word[0].islower()]
    foreign = sum(word in _FOREIGN_WORDS for word in plain) + sum(
        _VIETNAMESE.search(word) is not None for word in words
    )
    if foreign and (marked := sum(_OWN_LETTER.match(word) is not None for word in words)) + foreign > english:
        return Language.OTHER if marked + foreign > 1 else None
    words = _LATIN_WORD.findall(text := _FUNCTION.sub(" ", _WITH_UNIT.sub(" ", text)))
    if sum(map(len, _WORD.findall(text))) > 2 * sum(map(len, words)):
        return Language.OTHER
    chinese = _CHINESE_MARKS.search(sentence) is not None
    if len(words) > 1 and any(len(word) > _LONGEST_SIGN * chinese + 1 and word.islower() for word in words):
        return Language.ENGLISH
    return Language.CHINESE if chinese else None


def matters(text: str) -> bool:
    """Whether a text is read in another way in another language."""
    return _READ_BY_RULES.search(text) is not None


class Languages:
    """The languages of a text's sentences, which come one by one. What is `pronounced` as phonemes has none."""

    def __init__(self, *, pronounced: bool = False) -> None:
        self._pronounced = pronounced
        self.last: Language | None = None  # of a sentence that has one
        self._japanese = False
        self._undecided: list[str] = []

    def push(self, sentence: str) -> list[tuple[str, Language]]:
        """The sentences whose language is known now. A first one without a script of its own waits for the next, unless
        it is read alike in any language (`Sure!`)."""
        self.remember(sentence)
        self._undecided.append(sentence)
        waits = self.last is None and len(self._undecided) < MOST_UNDECIDED and any(map(matters, self._undecided))
        return [] if waits else self.flush()

    def remember(self, sentence: str) -> None:
        """A complete sentence, for those that follow."""
        own = self.by_letters(sentence)
        language = self.in_context(own, sentence)
        if own is not None and own is language:
            self._japanese = language is Language.OTHER and _KANA.search(sentence) is not None
        self.last = language or self.last

    def by_letters(self, sentence: str) -> Language | None:
        """Of a sentence, complete or not, by its own letters alone."""
        return language_of(without_pronunciation(sentence) if self._pronounced else sentence)

    def in_context(self, own: Language | None, sentence: str) -> Language | None:
        """Of a sentence whose letters say that it is `own`: behind Japanese, Han alone may be Japanese."""
        japanese = self._japanese and own is Language.CHINESE and not _NOT_JAPANESE.search(sentence)
        return Language.OTHER if japanese else own

    def flush(self) -> list[tuple[str, Language]]:
        language = self.last or Language.ENGLISH
        known = [(sentence, language) for sentence in self._undecided]
        self._undecided.clear()
        return known
