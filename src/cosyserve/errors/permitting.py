"""Named keys: what can be wrong with them, and how much each may use."""

from cosyserve.errors.fault import Fault

KEYS_BROKEN = Fault(
    "CS-KEY-001",
    500,
    "The file of named keys {path} cannot be used: {reason}.",
    "Correct it, or move it away and give out new keys with: {cosyserve} keys add NAME.",
    "具名密钥文件 {path} 无法使用：{reason}。",
    "请修正该文件；或将其移走，再用 {cosyserve} keys add 名称 发放新的密钥。",
)
KEY_NAME = Fault(
    "CS-KEY-002",
    400,
    "A key cannot have that name.",
    "Use 1 to {longest} letters of any script, digits or ._-@, beginning with a letter or a digit. The name 'main' is "
    "taken by the server's own keys.",
    "密钥不能使用这个名称。",
    "请使用 1 至 {longest} 个任意文字的字、字母、数字或 ._-@，以字、字母或数字开头；main 指服务器自己的密钥。",
)
KEY_TAKEN = Fault(
    "CS-KEY-003",
    409,
    "There is a key named {name} already.",
    "Choose another name, or revoke it first: {cosyserve} keys revoke {name}.",
    "已有名为 {name} 的密钥。",
    "请换一个名称，或先吊销：{cosyserve} keys revoke {name}。",
)
KEY_ABSENT = Fault(
    "CS-KEY-004",
    404,
    "There is no key of that name.",
    "{cosyserve} keys list shows the names. It reads the state folder of the settings here (COSYSERVE_STATE_DIR).",
    "没有这个名称的密钥。",
    "{cosyserve} keys list 可列出全部名称；它读取当前配置的状态文件夹（COSYSERVE_STATE_DIR）。",
)
KEYS_FULL = Fault(
    "CS-KEY-005",
    409,
    "There are {limit} named keys already, which is the most there may be.",
    "Revoke keys that nobody uses any more: {cosyserve} keys revoke NAME.",
    "已有 {limit} 个具名密钥，达到上限。",
    "请吊销不再使用的密钥：{cosyserve} keys revoke 名称。",
)
KEYS_UNWRITABLE = Fault(
    "CS-KEY-006",
    500,
    "The state folder {folder} cannot be written to: {reason}.",
    "Free space on its disk and make it writable, or set COSYSERVE_STATE_DIR to another folder.",
    "状态文件夹 {folder} 无法写入：{reason}。",
    "请确保其可写且有剩余空间，或将 COSYSERVE_STATE_DIR 设为其他文件夹。",
)
USAGE_UNKEPT = Fault(
    "CS-KEY-007",
    500,
    "What keys have used today cannot be kept in {path}: {reason}.",
    "Make the folder writable. Until then it is counted in memory, and a restart forgets it. A damaged file is "
    "replaced by what the server knows.",
    "各密钥今日的用量无法保存到 {path}：{reason}。",
    "请确保该文件夹可写；在此之前用量仅记在内存中，重启后会丢失。损坏的文件会由服务器已知的用量替换。",
)
REQUESTS_OF_MINUTE = Fault(
    "CS-QUOTA-001",
    429,
    "The key {name} has used all of its {limit} requests a minute.",
    "Try again in {wait}. The server's owner can raise the limit with 'cosyserve keys set'.",
    "密钥 {name} 已用完每分钟 {limit} 次请求的限额。",
    "请在 {wait_zh}后重试；服务器的管理者可用 cosyserve keys set 调高限额。",
)
CHARACTERS_OF_MINUTE = Fault(
    "CS-QUOTA-002",
    429,
    "This text would exceed the {limit} characters a minute of the key {name}; {left} are left now.",
    "Try again in {wait}, or send a shorter text. The server's owner can raise the limit with 'cosyserve keys set'.",
    "此文本将超出密钥 {name} 每分钟 {limit} 个字符的限额，目前剩余 {left} 个。",
    "请在 {wait_zh}后重试，或发送更短的文本；服务器的管理者可用 cosyserve keys set 调高限额。",
)
REQUESTS_OF_DAY = Fault(
    "CS-QUOTA-003",
    429,
    "The key {name} has used all of its {limit} requests for today.",
    "Try again in {wait}, at 00:00 UTC. The server's owner can raise the limit with 'cosyserve keys set'.",
    "密钥 {name} 已用完今天 {limit} 次请求的限额。",
    "请在 {wait_zh}后（UTC 零点）重试；服务器的管理者可用 cosyserve keys set 调高限额。",
)
CHARACTERS_OF_DAY = Fault(
    "CS-QUOTA-004",
    429,
    "This text would exceed the {limit} characters for today of the key {name}; {left} are left.",
    "Try again in {wait}, at 00:00 UTC, or send a shorter text. The server's owner can raise the limit with "
    "'cosyserve keys set'.",
    "此文本将超出密钥 {name} 今天 {limit} 个字符的限额，剩余 {left} 个。",
    "请在 {wait_zh}后（UTC 零点）重试，或发送更短的文本；服务器的管理者可用 cosyserve keys set 调高限额。",
)
TEXT_OVER_QUOTA = Fault(
    "CS-QUOTA-005",
    400,
    "The text has {characters} characters; the key {name} may have no more than {limit} spoken in a whole {window}.",
    "Send it in parts over a longer time. The server's owner can raise the limit with 'cosyserve keys set'.",
    "文本有 {characters} 个字符，而密钥 {name} 每{window_zh}总共只能合成 {limit} 个。",
    "请分段、分时发送；服务器的管理者可用 cosyserve keys set 调高限额。",
)
