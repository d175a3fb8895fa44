"""What can be wrong with captions."""

from cosyserve.errors.fault import Fault

CAPTIONS_UNKNOWN = Fault(
    "CS-CAPTION-001",
    400,
    "There is no such format for captions.",
    "Choose one of: {formats}.",
    "没有这种字幕格式。",
    "请从以下格式中选择：{formats}。",
)
CAPTIONS_ABSENT = Fault(
    "CS-CAPTION-002",
    404,
    "There are no captions of that id.",
    "Ask for them once the speech is complete, within {minutes} minutes. After a restart of the server, or after many "
    "other requests with captions, they are gone: have the text spoken again.",
    "没有该编号的字幕。",
    "请在语音全部生成后 {minutes} 分钟内获取。服务器重启后，或之后又有很多带字幕的请求时，字幕会被清除，需要重新合成。",
)
CAPTIONS_UNWRITABLE = Fault(
    "CS-CAPTION-003",
    500,
    "The captions cannot be written to {path}: {reason}.",
    "Choose a file in a folder that can be written to.",
    "无法将字幕写入 {path}：{reason}。",
    "请选择可写文件夹中的文件。",
)
