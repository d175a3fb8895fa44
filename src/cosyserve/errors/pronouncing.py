"""What can be wrong with how a word is to be said: an entry of the lexicon, or SSML."""

from cosyserve.errors.fault import Fault

LEXICON_ENTRY = Fault(
    "CS-LEX-001",
    400,
    "The entry cannot be used: {reason}.",
    "See 'Lexicon' in docs/text.md for what a word, a respelling, pinyin and phonemes may be.",
    "词条无效：{reason_zh}。",
    "单词、替换读法、拼音和音素的写法见 docs/text.md 的“Lexicon”一节。",
)
LEXICON_ABSENT = Fault(
    "CS-LEX-002",
    404,
    "The lexicon has no such word for that voice.",
    "GET /v1/audio/lexicon lists all entries; 'voice' has to be the one the entry was made with.",
    "该音色的发音词典中没有这个词。",
    "GET /v1/audio/lexicon 可列出全部词条；voice 须与添加词条时相同。",
)
LEXICON_FULL = Fault(
    "CS-LEX-003",
    409,
    "The lexicon has {limit} entries already, which is the most it may have.",
    "Delete entries that are no longer needed: DELETE /v1/audio/lexicon/WORD.",
    "发音词典已有 {limit} 个词条，达到上限。",
    "请先删除不再需要的词条：DELETE /v1/audio/lexicon/词。",
)
LEXICON_BROKEN = Fault(
    "CS-LEX-004",
    500,
    "The lexicon {path} cannot be used: {reason}.",
    "Correct the file, or move it away; until then words are said without it.",
    "发音词典 {path} 无法使用：{reason}。",
    "请修正或移走该文件；在此之前词典不起作用。",
)
SSML_MALFORMED = Fault(
    "CS-TEXT-007",
    400,
    "The SSML cannot be read: line {line}, in <{tag}>: {reason}.",
    "Send well-formed XML without a DTD: every tag closed, & written as &amp; and < as &lt;. "
    "Leave 'input_format' out for a plain text.",
    "无法读取 SSML：第 {line} 行，<{tag}> 中：{reason_zh}。",
    "请发送格式正确且不含 DTD 的 XML：标签须闭合，& 写作 &amp;，< 写作 &lt;。纯文本请不要设置 input_format。",
)
SSML_TAG = Fault(
    "CS-TEXT-008",
    400,
    "A tag of the SSML cannot be used: line {line}, <{tag}>: {reason}.",
    "See 'SSML' in docs/text.md for the tags and what they take.",
    "SSML 标签无效：第 {line} 行，<{tag}>：{reason_zh}。",
    "可用的标签及其属性见 docs/text.md 的“SSML”一节。",
)
