"""The marks that each edition's tokenizer adds to Qwen2's vocabulary, in the order of their ids."""

import unicodedata

END_OF_PROMPT = "<|endofprompt|>"
END_OF_PROMPT_ID = 151_646  # of the released vocabulary
SYSTEM = "You are a helpful assistant."
# What upstream's clients of CosyVoice3 write before a text or a transcript. Here the server does.
LEAD = f"{SYSTEM}{END_OF_PROMPT}"
# Only the tokenizer writes these, so no text can pass for an instruction.
CONTROLS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", END_OF_PROMPT)
MARKS = ("[breath]", "<strong>", "</strong>", "[noise]", "[laughter]", "[cough]", "[clucking]", "[accent]") + (
    "[quick_breath]",
    "<laughter>",
    "</laughter>",
    "[hissing]",
    "[sigh]",
    "[vocalized-noise]",
    "[lipsmack]",
    "[mn]",
)
_END_OF_SYSTEM = "<|endofsystem|>"

VOWELS = "AA AE AH AO AW AY EH ER EY IH IY OW OY UH UW".split(" ")  # noqa: SIM905 - as is
_CONSONANTS = "B CH D DH F G HH JH K L M N NG P R S SH T TH V W Y Z ZH".split(" ")  # noqa: SIM905
# Mandarin's initials, and its finals without a tone and with each of the four.
INITIALS = "b c ch d f g h j k l m n p q r s sh t w x y z zh".split(" ")  # noqa: SIM905
FINALS = "a ai an ang ao e ei en eng i ian in ing iu o ong ou u uang ue un uo".split(" ")  # noqa: SIM905
_TONED = (
    "a ai an ang ao e ei en eng i ia ian iang iao ie in ing iong iu o ong ou u ua uai uan uang ue ui un uo".split(" ")  # noqa: SIM905
)
_SOME_TONES = {"er": (2, 3, 4), "ve": (4,), "ü": (2, 3, 4)}  # that the tokenizer has of these
_TONES = {1: "\u0304", 2: "\u0301", 3: "\u030c", 4: "\u0300"}  # as accents of the vowel before


def toned(final: str, tone: int) -> str:
    """With its accent, on `a`, `e` or `o`, else on the last vowel."""
    place = next((final.index(vowel) for vowel in "aeo" if vowel in final), None)
    place = max(final.rfind(vowel) for vowel in "iuü") if place is None else place
    return unicodedata.normalize("NFC", final[: place + 1] + _TONES[tone] + final[place + 1 :])


def _bracketed(names: list[str]) -> tuple[str, ...]:
    return tuple(f"[{name}]" for name in sorted(names))


TONED = [
    toned(final, tone) for final, tones in {**dict.fromkeys(_TONED, _TONES), **_SOME_TONES}.items() for tone in tones
]
# CMU's, whose vowels have a stress: none, the main one, another one.
PHONEMES = _bracketed([vowel + stress for vowel in VOWELS for stress in ("", "0", "1", "2")] + _CONSONANTS)
PINYIN = _bracketed(INITIALS + FINALS + TONED)

COSYVOICE2 = (*CONTROLS, *MARKS)  # 151643 to 151662 as released
COSYVOICE3 = (*COSYVOICE2, _END_OF_SYSTEM, *PHONEMES, *PINYIN)  # to 151923


def is_control(mark: str) -> bool:
    return mark.startswith("<|")
