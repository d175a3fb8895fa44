"""Generated texts: all scripts, and what text from language models is made of."""

# ruff: noqa: E501 - one kind a line

from hypothesis import strategies as st

_PARTS = (
    *("a", "b", "The ", "word ", "Dr. ", "No. ", "5 p.m. ", "Jan. 3, 2021", "U.S. ", "google.com", "https://a.b/c?d=1#e", "x@y.org", "v2.0.1"),
    *("你", "好", "的", "第3名", "2024年1月5日", "3:2", "10%-20%", "￥12,345.67", "-5℃", "GPT-4o", "等5 seconds吧", "6kg", "1. 打开", "①", "没有"),
    *("これは", "テスト", "한국어", "입니다", "Привет ", "مرحبا ", "שלום ", "नमस्ते ", "ไทย", "é", "e\u0301", "Ａ５", "ﬁ", "𝐛𝐨𝐥𝐝"),
    *("a<b and c>d", "<K, V>", "0x1F", "1e-5", "10⁻³", "$a^2$", "\\frac{a}{b}", "/usr/bin ", "25.12.2023", "20240105", "NT$5", "-$5", "2日", "der Preis ", "là "),
    *("$5.50", "3/4", "1,234", "1990s", "555-123-4567", "x^2", "5'3\"", "½", "m²", "№5", "100", "7"),
    *("**", "*", "_", "__", "`", "```", "# ", "## ", "- ", "> ", "| ", "|---|", "[a](http://b.c)", "![", "](", "<b>", "</b>", "<br>", "<p>", "&amp;", "&#65;"),
    *("[breath]", "<strong>", "</strong>", "<laughter>", "</laughter>", "<|zh|>", "[laughter]"),
    *("😀", "👨\u200d👩\u200d👧", "1️⃣", "\u200b", "\u00ad", "\ufeff", "\u200f", "→", "~~", "$x$", "\\", "\\*", "@", "#", "&", "+", "=", "<", ">", "/", "%"),
    *(" ", "  ", "\n", "\n\n", "\t", ".", ",", "!", "?", ";", ":", "。", "，", "！", "？", "；", "：", "、", "…", "“", "”", '"', "'", "(", ")", "（", "）", "—"),
)  # fmt: skip

texts = st.one_of(
    st.lists(st.sampled_from(_PARTS), max_size=40).map("".join),
    st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=60),
    st.text(st.sampled_from("ab你好5 .,!?。！？；…”\"'）)1\n"), max_size=200),
)
