"""What wetext reads wrong in Chinese, or not at all, and how it is written for it. From the top; one row each, and why."""
# ruff: noqa: E501 - a row of a table is a line

import re
import unicodedata

from cosyserve.text import links
from cosyserve.text.repairs.row import NUMBER, Table, row
from cosyserve.text.repairs.signs import SIGNS, SUPERSCRIPTS

_DIGITS = str.maketrans("0123456789", "零一二三四五六七八九")
_TENS, _ONES = {"1": "一", "2": "二"}, {"0": "", "2": "二", "4": "四", "9": "九"}
_CURRENCIES = {"$": "美元", "€": "欧元", "£": "英镑", "¥": "元"}
_DOLLARS = {"US": "美元", "HK": "港元", "NT": "新台币", "A": "澳元", "C": "加元", "S": "新元"}
_CHARGES = {"⁺": "正", "⁻": "负"}
_ROMAN = {
    "II": "二",
    "III": "三",
    "IV": "四",
    "VI": "六",
    "VII": "七",
    "VIII": "八",
    "IX": "九",
    "XI": "十一",
    "XII": "十二",
    "XIV": "十四",
    "XVI": "十六",
}
_SIGNS = {
    "∈": "属于",
    "∉": "不属于",
    "∩": "交",
    "∪": "并",
    "⊂": "包含于",
    "⊆": "包含于",
    "∑": "求和",
    "∫": "积分",
    "∂": "偏",
    "∵": "因为",
    "∴": "所以",
    "∝": "正比于",
    "∥": "平行于",
    "⊥": "垂直于",
    "∠": "角",
    "∀": "任意",
    "∃": "存在",
    "△": "三角形",
    "∣": "给定",
    "∛": "三次根号",
    "∜": "四次根号",
}
_CODE = str.maketrans("0123456789", "零幺二三四五六七八九")  # as numbers of telephones and cards are read


def _link(match: re.Match[str]) -> str:
    return links.said(match, "zh")


def _code(match: re.Match[str]) -> str:
    return match.group().translate(_CODE)


def _rate(match: re.Match[str]) -> str:
    number, unit, time, hourly = match.groups()
    name = {**_UNITS, **_PER, "r": "转"}[unit or hourly]
    return f"{number}{name}每{_UNITS[time] if time else '小时'}"


def _clock(match: re.Match[str]) -> str:
    """A time before a word; two numbers are a score where there is talk of games."""
    if re.search("比分|[战获取完险连]胜|击败|不敌|领先|落后|[局球队赛]", match.string):
        return match.group()
    hour, minute = match.groups()
    return f"{int(hour)}点" + (f"{minute}分" if minute != "00" else "")


def _scores(match: re.Match[str]) -> str:
    """Pairs of which one falls are no ranges."""
    pairs = [tuple(map(int, pair)) for pair in re.findall(r"(\d+)-(\d+)", match.group())]
    return (
        match.group().replace("-", "比").replace("/", "、")
        if any(first > second for first, second in pairs)
        else match.group()
    )


def _hundred(match: re.Match[str]) -> str:
    """A number that is also one to call, unless there is talk of calls."""
    if (
        re.search("[拨打叫]|急救|报警|火警|电话|热线|呼叫|救护|接警|交警|查询台", match.string)
        and match.string[match.end() :][:1] != "次"
    ):
        return match.group()
    return f"一百{_TENS[match.group(1)]}十{_ONES[match.group(2)]}"


def _service(match: re.Match[str]) -> str:
    return _code(match) if re.search("客服|热线|拨打|致电|短信|来电", match.string) else match.group()


def _year(match: re.Match[str]) -> str:
    return match.group().translate(_DIGITS)


def _year_range(match: re.Match[str]) -> str:
    return f"{match.group(1)}到{match.group(2)}".translate(_DIGITS)


# Letters that are a unit only behind a number and only where no other letter follows: 等5 seconds became 等五秒econds.
_UNITS = {
    "kg": "千克", "KG": "千克", "Kg": "千克", "KM": "公里", "CM": "厘米", "MM": "毫米", "ML": "毫升", "g": "克", "mg": "毫克", "t": "吨", "km": "公里", "m": "米", "dm": "分米", "cm": "厘米", "mm": "毫米", "nm": "纳米",
    "μg": "微克", "ug": "微克", "μm": "微米", "um": "微米", "ml": "毫升", "mL": "毫升", "L": "升", "l": "升", "min": "分钟", "h": "小时", "s": "秒", "ms": "毫秒",
    "Hz": "赫兹", "kHz": "千赫兹", "MHz": "兆赫兹", "GHz": "吉赫兹", "W": "瓦", "kW": "千瓦", "KW": "千瓦", "kWh": "千瓦时", "V": "伏",
    "mAh": "毫安时", "kJ": "千焦", "MPa": "兆帕", "hPa": "百帕", "mmHg": "毫米汞柱", "mmol": "毫摩尔", "μmol": "微摩尔", "umol": "微摩尔", "ng": "纳克", "pg": "皮克", "IU": "国际单位", "dB": "分贝", "mol": "摩尔", "kPa": "千帕", "Pa": "帕", "cal": "卡", "kcal": "千卡", "Ω": "欧姆", "kΩ": "千欧姆", "mph": "英里每小时",
}  # fmt: skip
_PER = {
    "m³": "立方米",
    "m^3": "立方米",
    "m3": "立方米",
    "m²": "平方米",
    "cm³": "立方厘米",
    "dL": "分升",
    "L": "升",
    "mL": "毫升",
    "ml": "毫升",
    "kg": "千克",
}
_LETTER_UNIT = rf"(?<![A-Za-z\d.-])(?<![A-Za-z] )(-?{NUMBER})\s?({'|'.join(name for name in _UNITS if len(name) == 1)})(?![A-Za-z\d/²³^'’-])"
_WORD_UNIT = rf"(?<![A-Za-z\d.])(?<![A-Za-z]-)(-?{NUMBER}[万亿千百]{{0,2}})\s?({'|'.join(sorted((name for name in _UNITS if len(name) > 1), key=len, reverse=True))})(?![A-Za-z\d/²³^'’-])"


def _unit(match: re.Match[str]) -> str:
    return match.group(1) + _UNITS[match.group(2)]


CHINESE: Table = (
    row("minus", r"(?<=[\w)])\s?−\s?(?=[\w(√])", "减", "the mathematical minus is none to it, nor a range"),
    row("minus", r"−\s?(?=[A-Za-z(√])", "负", "as above"),
    row("fraction", r"(?<=\d)(?=[¼-¾⅐-⅞])", "又", "1½ became 一二分之一"),
    row("ion", r"(?<=[A-Za-z₀-₉\d)\]])([²³⁴-⁹]?)([⁺⁻])(?![⁰¹²³⁴-⁹\d])", lambda m: f"{m.group(1).translate(SUPERSCRIPTS)}{_CHARGES[m.group(2)]}", "SO₄²⁻ became 平方⁻"),
    row("fraction", r"[¼-¾⅐-⅞]", lambda m: "{1}分之{0}".format(*unicodedata.normalize("NFKC", m.group()).split("⁄")), "1½小时 became 一又一/两小时"),
    row("subscript", r"(?<=\d)x(?=[₀-₉])", " x，", "2x₁ became a product"),
    *SIGNS,
    row("link", links.LINK.pattern, _link, "https://www.example.com became https://www。example。com"),
    row("underscore", r"(?<=[^\W_])_+(?=[^\W_])", " ", "snake_case is two words"),
    row("dotted name", r"(?<![A-Za-z\d_.])\.(?=[A-Za-z]{2,})", "点", ".NET lost its dot"),
    row("list", r"(?m)^\s*(?![(（]\d{3}[)）]\s?\d{3})[(（]?(\d{1,3})(?:[)）]|[.、．](?!\d))[^\S\n]*(?=\S)", r"\1， ", "`1. 打开` became `一. 打开`, an utterance of its own"),
    row("list", r"(?:(?<=[；：。;:])|(?<=[\u4e00-\u9fff][，,]))\s*(\d{1,2})[)）.](?=\s?[\u4e00-\u9fff])", r"\1，", "：1）打开 lost its pause"),
    row("list", r"(?<=[^\s\d])\s+(\d{1,2})[)）.](?=\s?[\u4e00-\u9fff])", r"，\1，", "as above, behind a space"),
    row("name", r"(?<![\d.,A-Za-z])(?:985|211)(?=的?(?:高校|院校|大学|学校|名校|毕业|工程|硕士|本科)|[和及与、/]{1,2}(?:985|211)(?!\d))|(?<=985)([和及与、/])211(?!\d)", _year, "985高校 became a cardinal"),
    row("name", r"(?<=九八五)/(?=二一一)", "、", "as above"),
    row("over", r"(?<![\d/.])(\d{2,3})/(\d{2,3})(?![\d/])", lambda m: f"{m.group(1)}杠{m.group(2)}" if int(m.group(1)) > int(m.group(2)) else m.group(), "血压120/80 became eightieths"),
    row("range", r"(?<!\d)((?:19|20)\d\d)[-/](\d\d)(?=赛季|财年|学年)", _year_range, "2022-23赛季 became a cardinal"),
    row("year", r"(?<![\d./~～–—-])(?:19[5-9]\d|20[0-4]\d)(?=款|届|版|级(?!别)|赛季|财年|学年|[春夏秋冬]|世界|欧洲|奥运)", _year, "2024款 became a cardinal"),
    row("year", r"(?<![\d./~～–—-])(?<![近约共第了过满这整达])[5-9]\d(?=年(?:出生|生人|毕业|高考|入学|参军|入伍|结婚|世界杯|亚洲|洪水|大水|的?(?:时候|夏天|冬天|春天|秋天|老歌)|那年|[春夏秋冬底初末]|\d{1,2}月))", _year, "98年 became a cardinal, as a duration"),
    row("name", r"(?<![\d.,A-Za-z])(?:996|007|965|955)(?=的?(?:工作|上班|加班|文化|模式|福报|制|作息|特工))|(?<![\d.,A-Za-z])(?:315(?=晚会)|618(?=大促|购物|活动|期间|年中)|520(?=表白|快乐|情人|礼物|当天))", _code, "as 985高校"),
    row("name", r"(?<=波音)\s?7\d7(?:\s?-\s?\d{1,3})?(?![\d.])|(?<=空客)\s?3\d0(?![\d.])", lambda m: re.sub(r"\D", "", m.group()).translate(_CODE), "波音747-400 became a range"),
    row("currency", rf"(?<![A-Za-z])({'|'.join(_DOLLARS)})\$(\d[\d,]{{0,15}}(?:\.\d{{1,15}})?)", lambda m: m.group(2) + _DOLLARS[m.group(1)], "HK$50 became HK and 美元"),
    row("idiom", r"(?<![\d/])24/7(?![\d/])", "24，7", "it became a fraction"),
    row("clock", r"(?i)(?<![\d:])(\d{1,2})(?::00)?\s?a\.?m\b\.?", r"上午\1点", "3pm became 三pm"),
    row("clock", r"(?i)(?<![\d:])(\d{1,2})(?::00)?\s?p\.?m\b\.?", r"下午\1点", "as am"),
    row("clock", r"(?i)(?<![\d:])(\d{1,2}:\d\d)\s?a\.?m\b\.?", r"上午\1", "as am"),
    row("clock", r"(?i)(?<![\d:])(\d{1,2}:\d\d)\s?p\.?m\b\.?", r"下午\1", "as am"),
    row("score", r"(?<![\d:])(\d{1,3}):(\d{1,3})(?=[\u4e00-\u9fff]{0,2}(?:领先|落后|战胜|击败|不敌|[获取完险连]胜|负于|战平|横扫|逆转|淘汰))", r"\1比\2", "21:15领先 became a time of the day"),
    row("duration", r"(?<![\d:.])(\d{1,2}):([0-5]\d)\.(\d{1,3})(?![\d:.])", lambda m: f"{m.group(1)}分{m.group(2)}点{m.group(3).translate(_DIGITS)}秒", "a lap of 1:32.608 became a ratio"),
    row("clock", r"(?<![\d:.~～–—-])(\d|[01]\d|2[0-3]):([0-5]\d)(?=[\u4e00-\u9fff])(?![\d:.]|比)", _clock, "15日14:23支出 became 十四比二三"),
    row("date", r"(?<!\d)0([1-9])(?=月)|(?<=月)0([1-9])(?=[日号])", lambda m: m.group(1) or m.group(2), "03月 became 零三月"),
    row("date", r"(?<![\d./])(1[0-2]|[1-9])/([12]\d|3[01]|[1-9])(?=\s?[（(](?:周|星期)|(?:\s?[（(])?(?:妇女节|情人节|劳动节|儿童节|国庆|元旦|圣诞|植树节|教师节|青年节)|\s\d{1,2}:\d\d)", r"\1月\2日", "2/14（情人节） became a fraction"),
    row("date", r"((?:生日|日期|时间|截止到?|截至|还款日|交付日|发布日|开学|入职)(?:是|为|在|于|：|:)?\s?)(1[0-2]|[1-9])/([12]\d|3[01]|[1-9])(?![\d/.])", r"\1\2月\3日", "还款日4/25 became a fraction"),
    row("date", r"(?<![\d.])(1[0-2]|[1-9])\.([12]\d|3[01]|[1-9])(?=[号日])", r"\1月\2", "3.15号 became a decimal"),
    row("range", r"((?:19|20)\d\d([./-])\d{1,2}\2\d{1,2})\s?[-~～–—]{1,2}\s?(?=(?:19|20)\d\d\2\d{1,2}\2\d{1,2})", r"\1到", "2024.3.1-2024.6.30 kept its dash"),
    row("number", r"(?<![\d.第/:-])2(?=点(?![\d零一二三四五六七八九]|[半整钟多]?[一二三四五六七八九])|点(?:半|整|钟|多|左右|\d{1,2}分(?!之)))", "两", "2点半 became 二点半"),
    row("clock", r"(\d{4}-\d\d-\d\d)T(\d\d:\d\d(?::\d\d)?)(?:\.\d+)?Z?", r"\1 \2", "a time stamp kept its letters"),
    row("duration", r"(?<![A-Za-z\d_.])(\d{1,3})\s?h\s?(\d{1,2})\s?m(?:in)?(?![A-Za-z])", r"\1小时\2分钟", "3h20min kept its letters"),
    row("duration", r"((?:用时|耗时|时长|历时|成绩|片长|长达|持续|共计|总计|跑了|花了|跑进|倒计时)[是为约：:]{0,2}\s?)(\d{1,2}):(\d\d):(\d\d)(?![\d:])", r"\1\2小时\3分\4秒", "a duration became a time of the day"),
    row("duration", r"((?:用时|耗时|时长|历时|片长|长达|持续|倒计时)[是为约：:]{0,2}\s?)(\d{1,2}):(\d\d)(?![\d:])", r"\1\2分\3秒", "as above"),
    row("clock", r"(?<![\d:])(\d{1,2}):(\d\d):(\d\d)(?![\d:])", r"\1点\2分\3秒", "1:30:00 lost its seconds"),
    row("number", r"(?<![\d.,])\d{1,3}(?:,\d{3})+(?![\d,])", lambda m: m.group().replace(",", ""), "12,345.67 became 十二元,三百四十五点六七"),
    row("identity", r"(?<![\d.])(\d{12,})(?=[Xx]?(?![\d.元美万亿%]))", _code, "an identity card's number was half digits, half a cardinal"),
    row("identity", r"(?<=[幺二三四五六七八九零]{17})[Xx](?![A-Za-z])", "X", "its check digit is a letter"),
    row("code", r"((?:会议|房间)(?:号|ID|码)(?:是|为|：|:|\s){0,3})(\d{3,4}(?:[ -]\d{3,4}){1,3})(?![\d-])", lambda m: m.group(1) + re.sub(r"\D", "", m.group(2)).translate(_CODE), "会议号：123 456 789 became cardinals"),
    row("code", r"(密码|PIN码|取件码|提取码|邀请码|编号|账号|帐号|卡号|单号|QQ|学号|工号|会议号|会议ID|房间号|直播间|房号|尾号|邮编|QQ号|微信号|车牌号|身份证号|序列号|订单号|快递单号|验证码|号码|代码|航班号|群号)((?:是|为|：|:|\s){0,3})(\d{3,})(?![\d.])", lambda m: m.group(1) + m.group(2) + m.group(3).translate(_CODE), "a code is read by its digits, not as a cardinal"),
    row("code", r"(?<=_)\d{3,}(?![\d.])|(?<=chmod )\d{3,4}(?!\d)", _year, "abc_123 became a cardinal"),
    row("code", r"(?<![\d.])(?:40[134]|50[234])(?=\s?(?:错误|报错|页面|状态码))|(?:(?<=HTTP )|(?<=HTTP)|(?<=状态码)|(?<=状态码[：:为是])|(?<=错误码)|(?<=错误码[：:为是]))\d{3}(?![\d.])", _year, "404错误 became a cardinal"),
    row("name", r"(?<=[RG]TX )\d{4}(?!\d)|(?<=RX )\d{4}(?!\d)", _year, "RTX 4090 became a cardinal, RTX4090 not"),
    row("slang", r"(?:(?<=[哈笑])|(?<=^)|(?<=[，。！？!]))6{3,}(?=$|[，。！？!,~～\s])|(?<=[哈笑])23{2,}(?!\d)|(?<![\d.,])23{4,}(?![\d.元个人万亿])", _year, "laughter (2333) and praise (666) became cardinals"),
    row("numeral", rf"(?<![A-Za-z-])({'|'.join(sorted(_ROMAN, key=len, reverse=True))})(?=[世级型期类度]|代(?!码))", lambda m: _ROMAN[m.group(1)], "拿破仑III世 kept its letters"),
    row("measure", r"(?<=\d)米(\d\d)(?=$|[，。、；！？,\s左以的高]|多)", lambda m: "米" + m.group(1).translate(_DIGITS), "1米78 became 一米七十八"),
    row("measure", r"(?<=\d)秒(\d\d)(?!\d|[秒分个])", lambda m: "秒" + m.group(1).translate(_DIGITS), "9秒79 became 九秒七十九"),
    row("phone", r"(?<!\d)\+86[- ](\d{2,3})[- ](\d{3,4})[- ](\d{4})(?![\d-])", lambda m: "八六，" + "".join(m.groups()).translate(_CODE), "+86 21 6888 8888 became cardinals"),
    row("phone", r"(?<![\dA-Za-z.])(?:100(?:86|10|00)|12[3]\d\d|9[56]\d{3})(?![\d.,%元个万人A-Za-z])", _service, "10086 became a cardinal"),
    row("name", r"(?<![\d.-])\d-\d-\d(?:-\d)?(?![\d.-])|(?<![\d.])\d{3,4}(?=阵型|阵容)", lambda m: m.group().replace("-", "").translate(_DIGITS), "the formation 3-5-2 became a subtraction"),
    row("name", r"(?<!\d)([5-9]5后|0[05]后)(?![天来面期续卫])", _year, "95后 became a cardinal"),
    row("phone", r"(?<![\d])\+86[- ]?(?=1?\d)", "八六，", "+86 became 正八十六"),
    row("phone", r"(?<![\d.-])(?<!\d )(0\d{2,3})[- ](\d{4})[- ](\d{4})(?![\d-]| \d)", lambda m: "".join(m.groups()).translate(_CODE), "010-8888 6666 became a year"),
    row("phone", r"(?<![\d.-])1[3-9]\d[- ]\d{4}[- ]\d{4}(?![\d-])", lambda m: re.sub(r"\D", "", m.group()), "138 1234 5678 was three cardinals"),
    row("phone", r"[(（](0\d{2,3})[)）]\s?(?=(?:\d{7,8}|\d{3,4}-\d{4})(?!\d))", r"\1-", "(010)62785001 became two cardinals"),
    row("card", r"(?<![\d-])\d{4}(?: \d{4}){2,4}(?: \d{1,4})?(?![\d-])", lambda m: m.group().replace(" ", "").translate(_CODE), "a card's number became cardinals"),
    row("date", r"(?<![\d/])(\d{2})/(\d{1,2})/(\d{1,2})(?![\d/])", lambda m: f"{m.group(1).translate(_DIGITS)}年{m.group(2)}月{m.group(3)}日", "24/01/05 became fractions"),
    row("currency", rf"({NUMBER})\s?([$€£])(?!\d)", r"\2\1", "100€ kept its sign"),
    row("list", r"(?<![\d/.])\d{1,6}(?:/\d{1,6}){3,9}(?![\d/])|(?<![\d/.])\d{3}(?:/\d{3,6}){2,9}(?![\d/])", lambda m: m.group().replace("/", "、"), "￥180/280/380/580 became fractions"),
    row("currency", rf"[$€£¥](?={NUMBER}\s?[万亿千百]{{0,2}}(?:[美欧日港澳加]?元|英镑|人民币))", "", "$5美元 has its currency twice"),
    row("currency", rf"([$€£¥])({NUMBER})(?!\d)\s?([万亿千百]{{1,2}})", lambda m: f"{m.group(2)}{m.group(3)}{_CURRENCIES[m.group(1)]}", "$1.2亿 kept its sign"),
    row("per cent", r"(?<=\d)\s+(?=[%‰])", "", "100 % kept its sign"),
    row("minus", r"(满[¥$€£]?\d{1,6})\s?-\s?(?=[¥$€£]?\d)", r"\1减", "满199-20 became a range"),
    row("phone", r"(?<=八六，)(\d{2,3})-(\d{7,8})(?![\d.-])", lambda m: (m.group(1) + m.group(2)).translate(_CODE), "10-62785001 became a subtraction"),
    row("phone", r"(电话|热线|拨打|致电|座机|传真)([是为：: ]{0,3})(\d{3,4})-(\d{4})(?![\d-])", lambda m: m.group(1) + m.group(2) + (m.group(3) + m.group(4)).translate(_CODE), "5555-1234 became a subtraction"),
    row("phone", r"(?<![\d.-])(0\d{2,3})-(\d{7})(?![\d.-])", lambda m: (m.group(1) + m.group(2)).translate(_DIGITS), "021-1234567 became a subtraction"),
    row("phone", r"(?<=[\d零幺一二三四五六七八九]转)\d{3,5}(?=$|[\s，。；,;）)]|分机)", _code, "an extension became a cardinal"),
    row("year", r"([(（])((?:19|20)\d\d)([)）])(?=[\u4e00-\u9fff])(?![个元人件台次米只])", lambda m: f"{m.group(1)}{m.group(2).translate(_DIGITS)}{m.group(3)}", "(2024)京01民终 became a cardinal"),
    row("name", r"(?:(?<=ISO )|(?<=B/T ))(\d{3,6})[:-]((?:19|20)\d\d)(?!\d)", lambda m: f"{m.group(1)}，{m.group(2).translate(_DIGITS)}", "ISO 9001:2015 became a ratio"),
    row("rank", r"(第\d{1,5})/(?=\d)", r"\1，", "第3/50名 became a fraction and a nought"),
    row("code", r"(?<=第)20\d{5}(?=期)", _year, "第2024031期 became a cardinal"),
    row("year", r"〔((?:19|20)\d\d)〕", lambda m: m.group(1).translate(_DIGITS) + "，", "国发〔2024〕12号 became a cardinal"),
    row("range", r"(?<=[周期][一二三四五六日天1-7])\s?[-~～—–]\s?(?=周|星期)", "到", "周一~周五 kept its sign"),
    row("room", r"(?<![\dA-Za-z.])\d{3,4}(?=会议室|教室|办公室|号房|室|房间|包间)", _code, "302室 became 三百零二室"),
    row("code", r"(?:(?<=[A-Z]-)|(?<=i[3579]-))\d{4,}(?![\d.,])", lambda m: m.group().translate(_DIGITS), "A-1024 became a cardinal"),
    row("version", r"(?<![\d.])(\d{1,3})\.(\d{1,3})\.(\d{1,3})(?![\d.])", r"\1点\2点\3", "v2.0.1 became v二.零点一"),
    row("list", r"(?<![A-Za-z])((?:Windows|Win|iPhone|iOS|Android|Python|Vue|Office|CUDA|PS) ?)(\d{1,3})/(\d{1,3})(?![\d/%])", r"\1\2、\3", "Windows 7/8 became a fraction"),
    row("version", r"(?<=\d)\.(?=x(?![A-Za-z]))|(?:(?<=beta)|(?<=alpha)|(?<=-rc))\.(?=\d)", "点", "3.x and beta.2 kept their dots"),
    row("code", r"(?<=[A-Za-z])(?!\d+00(?!\d))\d{3,}(?![\d.,°])", lambda m: m.group().translate(_DIGITS), "B612 became B六百一十二"),
    row("range", rf"({NUMBER}\s?(?P<unit>{'|'.join(sorted(_UNITS, key=len, reverse=True))}))\s?[-~～–—]\s?(?={NUMBER}\s?(?P=unit)(?![A-Za-z]))", r"\1到", "160cm-170cm kept its dash"),
    row("range", r"(?<=[月日年号点分时秒天个米%℃元])\s?-\s?(?=\d)", "到", "9点-10点 became 九点负十点"),
    row("name", r"(?<=[\u4e00-\u9fff])(?<![是为到至约温度得于在值零从差比拔深幅跌涨额])-(?=\d+(?![\d.%℃°度元万亿摄华分个次点]))", "", "歼-20 became 歼负二十"),
    row("decade", r"(?<!\d)((?:1\d|20)\d0)['’]?s(?![A-Za-z])", lambda m: m.group(1).translate(_DIGITS) + "年代", "1990s became 一千九百九十秒"),
    row("number", r"(?<![\d.,/:第-])2(?=\s?(?:[倍台间幅处部所顿匹句批份项种门包滴束朵株声步圈遍晚]|年(?!级)|次(?![方元函曲幂项要])))", "两", "2倍 became 二倍"),
    row("number", r"(?<![\d.,/:第-])2(?=日|号|单元|分之)|(?<=[点时])2(?=分)|(?<=第)2(?![\d.,])", "二", "2月2日 became 二月两日, 第2名 第两名"),
    row("date", r"(?<![A-Za-z0-9.-])((?:19|20)\d\d)(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01])(?![\dA-Za-z.%元人个])", lambda m: f"{m.group(1)}年{int(m.group(2))}月{int(m.group(3))}日", "20240105 became twenty millions"),
    row("score", r"(?<![\d.-])(\d{1,3})\s?[-–]\s?(?=\d{1,3}(?:[大小完险]?[胜败负]|击败|战胜|领先|落后|[获取逆]胜|[战扳打逼]平|平局|平[，。]))", r"\1比", "3-0获胜 became a range"),
    row("score", r"(?<![\d.-])\d{1,3}-\d{1,3}(?:(?:、|，|, ?|； ?|/)\d{1,3}-\d{1,3}){1,9}(?![\d.%-]|[\u4e00-\u9fff])", _scores, "11-9、8-11 became ranges"),
    row("score", r"(?<=[\u4e00-\u9fff])(?<![第周年月日号点至到图表式例题件])(\d)-(\d)(?=[，。；！]|$)", _scores, "as above"),
    row("score", r"(?<=[\u4e00-\u9fff])(?<![第周年月日号点至到图表式例题])(\d{1,3})-(\d{1,3})(?=[\u4e00-\u9fff])(?![月点时日号年级室栋楼层单座班度岁个天分次])", _scores, "勇士4-3火箭 became a range"),
    row("number sign", r"(?<=\d)#", "号", "1#楼 kept its sign"),
    row("address", r"(?<![A-Za-z\d_.])(\d{1,3}(?:\.\d{1,3}){3}):(\d+)", lambda m: f"{m.group(1)}冒号{m.group(2).translate(_DIGITS)}", "the port became a cardinal"),
    row("figure", r"(?<=[图表式例题])(\s?\d{1,3})-(?=\d{1,3}(?![\d.%]))|(?<![\d-])(\d{1,2})-(?=\d{1,2}班)", lambda m: f"{m.group(1) or m.group(2)}杠", "图3-1 became a range"),
    row("angle", r"(?<=\d)°\s?(\d{1,2})[′'’](?:\s?(\d{1,2}(?:\.\d+)?)(?:[″\"”]|′′|''))?", lambda m: f"度{m.group(1)}分" + f"{m.group(2)}秒" * bool(m.group(2)), "116°23′29″ kept its signs"),
    row("address", r"(?<![A-Za-z\d_.])(\d{1,3}(?:\.\d{1,3}){3})/(?=\d)", r"\1斜杠", "as a port"),
    row("number", rf"({NUMBER})w(?![A-Za-z\d])", r"\1万", "10w is written for 10万"),
    row("number", r"(?<=[\d万亿千百])\+\s?(?=[种个款家名人位项次年条部门所篇张本套件国城台只座万亿])", "多", "100+种 became 一百加种"),
    row("sign", r"(?<=UTC)-(?=\d)|(?<=GMT)-(?=\d)|(?<=\d[a-z])-(?=\d)|(?<![A-Za-z\d-])([nkmxy])-(?=\d{1,2}(?!\d))", lambda m: f"{m.group(1) or ''}减", "2n-1 kept its sign"),
    row("sign", r"(?<=[A-Za-z])\s?\(\+\)", "阳性", "HBsAg(+) kept its sign"),
    row("sign", r"(?<=[A-Za-z])\s?\(-\)", "阴性", "as above"),
    row("sign", r"(?<=[\d万亿千百A-Za-z])\+(?![\w+(])", "加", "100+ kept its sign"),
    row("score", r"(比分|战绩|比数)((?:是|为|：|:)?\d+)\s?[-–]\s?(?=\d)", r"\1\2比", "10-3 became a range"),
    row("range", r"(?<!\d)((?:19|20)\d\d)\s?[-–—~～]\s?((?:19|20)\d\d)(?![\d.-])", _year_range, "1998-2003 became a subtraction"),
    row("range", rf"(?<![\d.A-Za-z^-])((?!0\d)(?!\d{{4}}-(?:0\d|1[0-2])\b)[¥$€£]?{NUMBER}[%‰℃万亿]?)\s?-\s?(?!\d{{7}})([¥$€£]?{NUMBER}%?)(?![\d-]|\.\d|\s?=)", r"\1到\2", "10-20 became a date, 7-11 a subtraction, 10%-20% a negative number"),
    row("range", r"(?<=[\d%‰℃元个月日年号点分时秒天万亿])\s?(?:～|~|〜|–|——|—)\s?(?=[¥$€£-]?\d)", "到", "5～8 stayed as it was"),
    row("sign", r"(?<=[A-Za-z])\+(?=\d[\d.]{0,6}%)", "加", "YoY+25% kept its sign"),
    row("minus", r"(?<=[A-Z])-(?=\d[\d.]{0,6}%)", "负", "CD-20% kept its sign"),
    row("minus", r"(?<=[(（+=×]\d)-(?=[a-z](?![A-Za-z]))", "减", "n(1-p) kept its sign"),
    row("minus", r"(?<![A-Za-z])([a-z])(\d)-(?=\1\d)", r"\1\2减", "x₂-x₁ kept its sign"),
    row("minus", r"(?<=[²³)])\s?-\s?(?=\d{0,9}[A-Za-z(\d])", "减", "x²-2x became x平方负二倍"),
    row("minus", rf"(?<![A-Za-z\d_.])({NUMBER})\s?-\s?({NUMBER})(?=\s?=)", r"\1减\2", "10-3 became a date"),
    row("per mille", rf"({NUMBER})‰", r"千分之\1", "‰ stayed as it was"),
    row("unit", r"(?<=[\dA-Za-z)])\s?/\s?(?=[秒分时天日周月年人次个件套斤吨瓶盒箱包袋份平度千万百])|(?<=[元角分块万千百次个件人斤克升米页月%瓶盒箱包袋份粒片剂])/(?=[秒分小时天日周月年人次个件套斤吨瓶盒箱包袋份平度])", "每", "￥3000/月 kept its slash"),
    row("unit", rf"({NUMBER})\s?(mmol|[μu]mol|mol|IU|[nμup]g|mg|kg|g)/(c?m³|m\^3|m3|m²|dL|L|m[lL]|kg)(?![A-Za-z²³^])", lambda m: f"{m.group(1)}{_UNITS[m.group(2)]}每{_PER[m.group(3)]}", "35μg/m³ kept its letters"),
    row("unit", r"(?<=[\d元角万千百亿])\s?/\s?m²", "每平方米", "4.8万/㎡ kept its slash"),
    row("unit", rf"(?<=元)\s?/\s?(?=[\u4e00-\u9fff])|(?<=[$€£¥])({NUMBER})\s?/\s?(?=[\u4e00-\u9fff])", lambda m: f"{m.group(1) or ''}每", "82.3美元/桶 kept its slash"),
    row("unit", r"(?<=[\d⁰-⁹¹²³])\s?/\s?(L|mL|dL|min)(?![A-Za-z])|(?<=[次滴个元])/(min|h|L|mL|kg)(?![A-Za-z])", lambda m: "每" + {**_PER, "min": "分钟", "h": "小时"}[m.group(1) or m.group(2)], "10⁹/L kept its slash"),
    row("unit", r"(?<=\d)\s?([KMGT]i?B)/s(?![A-Za-z])", r"\1每秒", "1008GB/s kept its slash"),
    row("unit", rf"({NUMBER})\s?(?:(cm|mm|km|m[lL]|L|m³|r|kg|mg|g)/(s|min)|(m[lL]|L|m³|kg|mg|g)/h)(?![A-Za-z])", _rate, "5L/min kept its letters"),
    row("unit", r"(?<=\d)\s?N[·.]?m(?![A-Za-z])", "牛米", "370N·m kept its letters"),
    row("unit", r"(?<=\d)\s?L/100\s?km", "升每百公里", "7.5L/100km kept its letters"),
    row("unit", r"(?<=\d)\s?m/s(?:²|\^2)", "米每二次方秒", "9.8m/s² became 每秒 and 平方"),
    row("power", r"(?<=\d)²", "的平方", "2²=4 became 两平方"),
    row("power", r"(?<=\d)³", "的立方", "2³=8 became 两立方"),
    row("power", r"(?<=[A-Za-z])(?:\^2|²)|(?<=\))(?:\^2|²)", "平方", "² stayed as it was"),
    row("power", r"(?<=[A-Za-z)])(?:\^3|³)", "立方", "as ²"),
    row("power", r"²", "平方", "as ²"),
    row("power", r"³", "立方", "as ²"),
    row("power", r"(?<=\d)\^(-?\d+|[a-z])", r"的\1次方", "2^10 kept its sign"),
    row("power", r"(?<=[A-Za-z)])\^(-?\d+|[a-z])", r"的\1次方", "as 2^10"),
    row("power", r"(?<=[\dA-Za-z)])[⁰¹⁴-⁹⁻⁺ⁿ]+", lambda m: f"的{m.group().translate(SUPERSCRIPTS)}次方", "as ²"),
    row("unit", rf"({NUMBER}[万亿千百]{{0,2}})\s?m平方(?![A-Za-z])", r"\1平方米", "50m² became 五十m²"),
    row("unit", rf"({NUMBER}[万亿千百]{{0,2}})\s?m立方(?![A-Za-z])", r"\1立方米", "as m²"),
    row("unit", rf"({NUMBER}[万亿千百]{{0,2}})\s?km平方(?![A-Za-z])", r"\1平方公里", "as m²"),
    row("unit", rf"({NUMBER}[万亿千百]{{0,2}})\s?cm平方(?![A-Za-z])", r"\1平方厘米", "as m²"),
    row("unit", rf"({NUMBER}[万亿千百]{{0,2}})\s?cm立方(?![A-Za-z])", r"\1立方厘米", "as m²"),
    row("sign", r"(?<=\d) / (?=\d)", "除以", "10 / 2 became a date"),
    row("times", r"(?<=\d)\s?[x×*]\s?(?=\d)", "乘", "7x24 and 3*4 kept their signs"),
    row("times", r"(?<![A-Za-z])([A-Za-z0-9])\s?[*×]\s?(?=[A-Za-z0-9](?![A-Za-z]))", r"\1乘", "a*b kept its sign"),
    row("times", rf"(?<![=+(减加负^²³-])({NUMBER})[x×](?!\s?[A-Za-z\d+=²³^)]|\s?-\s?\d)", r"\1倍", "3.5x became 三点五x"),
    row("number sign", r"(?<=[A-Z])#", " sharp", "C#"),
    row("number sign", r"№\s?(\d+)|#\s?(\d+)", lambda m: f"{m.group(1) or m.group(2)}号", "№ and # stayed as they were"),
    row("number sign", r"(?<![A-Za-z])N[oO]\.?\s?(?=\d)", "第", "No.1 became No。一"),
    row("dash", r"(?<=\S) -+ (?=\S)", "，", "upstream's own rule, for `A - B`"),
    row("sign", r"&+", "和", "signs between words are said"),
    row("sign", r"(?<![A-Za-z0-9])@|@(?![A-Za-z0-9])|(?<=[A-Za-z0-9])@(?=[A-Za-z0-9])", "艾特", "as &"),
    row("sign", r"(?<=[A-Za-z0-9\u4e00-\u9fff)])\s?\+\s?(?=[A-Za-z\u4e00-\u9fff(])|(?<=[A-Za-z\u4e00-\u9fff)])\s?\+\s?(?=\d)(?!\+\s?\d[\d.]{0,9}%)(?!\d[\d.]{0,9}%)", "加", "as &"),
    row("sign", r"(?<=[A-Za-z])\+\+", "加加", "C++"),
    row("sign", r"(?<=[A-Za-z\u0370-\u03ff\u4e00-\u9fff)])\s?(?:==?|＝)\s?|\s?==?\s?(?=[A-Za-z\u4e00-\u9fff(-])", "等于", "as &"),
    row("sign", r"(?<=Rh)-(?![\w-])", "负", "as &"),
    row("sign", r"(?<=\d)\s?\+\s?(?=\d{1,9}(?![\d%.]))", "加", "85+3分钟 became 八十五正三, 1/2 + 1/3 kept its sign"),
    row("sign", r"(?<=[\d°℃%])\s?=\s?(?=[\d负-])", "等于", "1/2 + 1/3 = 5/6 kept its sign"),
    *(row("sign", sign, name, "as &") for sign, name in _SIGNS.items()),
    row("sign", r"±", "正负", "as &"),
    row("sign", r"≈|[~～](?=\d)", "约", "as &"),
    row("sign", r"≤|<=", "小于等于", "as &"),
    row("sign", r"≥|>=", "大于等于", "as &"),
    row("sign", r"≠|!=", "不等于", "as &"),
    row("sign", r"÷", "除以", "5÷3 became 五除三, which is the inverse"),
    row("sign", r"∞", "无穷大", "as &"),
    row("sign", r"√", "根号", "as &"),
    row("sign", r"(?<=[\d\w])\s?<\s?(?=[\d-])|<(?=\d)|(?<=[A-Za-z\d])\s?<\s?(?=[A-Za-z](?![A-Za-z]))", "小于", "as &"),
    row("sign", r"(?<=[\d\w])\s?(?<!-)>\s?(?=[\d-])|(?<=[A-Za-z])\s?>\s?(?=[A-Za-z](?![A-Za-z]))|(?<![-=<>])>(?=\d)", "大于", "as &"),
    row("arrow", r"(?<=[a-z\d])\s?[↑↓](?=\s?\+|\s?$)", "", "a gas or a precipitate: AgCl↓"),
    row("arrow", r"\s?(?:<?[-=]{1,9}>|<[-=]{1,9}|[\u2190-\u21ff]+)\s?", "，", "an arrow is a pause"),
    row("temperature", r"°C", "℃", "one sign for one thing"),
    row("unit", r"℉|°F", "华氏度", "it does not know it"),
    row("unit", _WORD_UNIT, _unit, "5 kg has letters that are no unit elsewhere"),
    row("unit", _LETTER_UNIT, _unit, "5 seconds became 五秒econds; iPhone 5s is no time"),
    row("number", r"(?<![\d.])(\d{1,3}) (\d{3})(?=[元人个万])", r"\1\2", "12 500元 became 十二五百元"),
    row("space", r"(?<=[A-Za-z]\d)\s+(?=\d)", "，", "SpO2 98% became two hundredths"),
    row("space", r"(?<=\d\d)\s+(?=\d\d)(?!\d\d?[:点])", "，", "A100 80GB became 一百八十"),
    row("bracket", r"(?<=[\d%℃元])（(?=[-+]?\d)", "，（", "92%（+6%） became one number"),
    row("unit", rf"(?<=次方)\s?({'|'.join(sorted(_UNITS, key=len, reverse=True))})(?![A-Za-z/])", lambda m: _UNITS[m.group(1)], "10²⁴kg kept its letters"),
    row("unit", r"(?<=次方)\s?m/s(?![A-Za-z])", "米每秒", "as above"),
    row("number", r"(?<=[A-Za-z])2(?=[层栋楼座口区厅室])", "二", "B2层 became B两层"),
    row("number", r"(?<![A-Za-z\d.])2(?=室\d|[厅卫](?![A-Za-z])|滴|剂|根号|[美欧日港澳]元|英[镑寸里尺]|海里|[毛角磅瓦伏亩寸尺]|盎司|加仑|公顷|赫兹|男(?:[\d、，。]|$)|女(?:[\d、，。]|$)|[老小大]\d)|(?<=[到至])2(?=滴|[次天片粒勺杯])", "两", "3室2厅 became 三室二厅"),
    row("number", r"(?<![\d./¥$€£:+-])(1[0-2])\.(\d{1,2})(?![\d./%‰℃°:-]|[号日度]|购物|大促|国庆|黄金周|长假|当天|平安夜)", lambda m: f"{m.group(1)}点{m.group(2).translate(_DIGITS)}", "12.5 became the fifth of December"),
    row("number", r"(?<![\d.A-Za-z/¥$€£:,+-])1([12])([0249])(?![\d./%‰℃°:,~-]|\s?(?:km|m/s))", _hundred, "120到140 became 幺二零, as the number of the ambulance"),
    row("unit", r"(?<=每千克)/(d|h|min)(?![A-Za-z])", lambda m: "每" + {"d": "天", "h": "小时", "min": "分钟"}[m.group(1)], "5mg/kg/d kept its letter"),
    row("currency", r"([$€£¥])2(?![\d.,:/%万亿千百])", lambda m: f"两{_CURRENCIES[m.group(1)]}", "$2 became 二美元"),
)  # fmt: skip
