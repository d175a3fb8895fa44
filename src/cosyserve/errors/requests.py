"""What a request can meet: bad input, a full queue, a server that starts or stops."""

from cosyserve.errors.fault import Fault

TEXT_EMPTY = Fault(
    "CS-TEXT-001",
    400,
    "There is nothing to speak: the text is empty.",
    "Send at least one word or number; emoji and punctuation alone are a short silence.",
    "没有可朗读的内容：文本为空。",
    "请至少提供一个字、词或数字；只有表情符号或标点时，合成的是一小段静音。",
)
TEXT_TOO_LONG = Fault(
    "CS-TEXT-002",
    400,
    "The text has {length} characters; this server takes {limit} at a time.",
    "Send it in parts, or raise COSYSERVE_MAX_TEXT_CHARS on the server.",
    "文本有 {length} 个字符，本服务器一次最多接受 {limit} 个。",
    "请分段发送，或在服务器上调大 COSYSERVE_MAX_TEXT_CHARS。",
)
TEXT_UNENCODABLE = Fault(
    "CS-TEXT-003",
    400,
    "The text holds a NUL character or half of a surrogate pair, which no text encoding allows.",
    "Send well-formed Unicode; check where the text was cut or decoded.",
    "文本含有 NUL 字符或不成对的代理项，不是合法的 Unicode 文本。",
    "请发送合法的 Unicode 文本，并检查文本在何处被截断或错误解码。",
)
AUDIO_TOO_LONG = Fault(
    "CS-TEXT-004",
    400,
    "The audio of this text became longer than {seconds:g} seconds and was cut off.",
    "Send the text in parts, or raise COSYSERVE_MAX_AUDIO_SECONDS on the server.",
    "此文本的音频超过 {seconds:g} 秒，已被截断。",
    "请分段发送，或在服务器上调大 COSYSERVE_MAX_AUDIO_SECONDS。",
)
PROMPT_TOO_LONG = Fault(
    "CS-TEXT-005",
    400,
    "Text, instructions and recording together take {positions} of the {limit} positions the model has.",
    "Shorten the instructions or the recording's transcript.",
    "文本、指令和录音共占用 {positions} 个位置，模型最多 {limit} 个。",
    "请缩短指令或录音文本。",
)
FIELD_TOO_LONG = Fault(
    "CS-TEXT-006",
    400,
    "The field {field} has {length} characters; at most {limit} are allowed.",
    "Shorten it; what should be spoken belongs in the text itself.",
    "字段 {field} 有 {length} 个字符，最多允许 {limit} 个。",
    "请缩短该字段；需要朗读的内容应放在文本中。",
)
VOICE_UNKNOWN = Fault(
    "CS-VOICE-001",
    400,
    "There is no voice of that name here.",
    "Choose one of: {voices} (GET /v1/audio/voices lists them).",
    "没有这个名称的音色。",
    "请从以下音色中选择：{voices}（GET /v1/audio/voices 可列出）。",
)
VOICE_NAME = Fault(
    "CS-VOICE-002",
    400,
    "A voice cannot have that name.",
    "Use 1 to 48 letters of any script, digits, spaces or ._-'·. Begin with a letter or a digit and do not end with a "
    "dot. Names of Windows devices, such as CON and NUL, are not allowed.",
    "音色不能使用这个名称。",
    "请使用 1 至 48 个任意文字、字母、数字、空格或 ._-'·，以文字、字母或数字开头，不以点结尾；"
    "CON、NUL、COM1 等是 Windows 的保留名。",
)
VOICE_TAKEN = Fault(
    "CS-VOICE-003",
    409,
    "There is a voice of that name already.",
    "Choose another name, or delete the voice first: DELETE /v1/audio/voices/NAME.",
    "已存在同名的音色。",
    "请换一个名称，或先删除：DELETE /v1/audio/voices/名称。",
)
VOICE_FIXED = Fault(
    "CS-VOICE-004",
    400,
    "That voice comes with CosyServe and cannot be deleted.",
    "Set COSYSERVE_VOICE to have another one as the default.",
    "该音色随 CosyServe 提供，不能删除。",
    "如需更换默认音色，请设置 COSYSERVE_VOICE。",
)
CONSENT_MISSING = Fault(
    "CS-VOICE-005",
    400,
    "The speaker's consent is not stated.",
    "Send the field 'consent' with who agreed to the use of this voice, and when.",
    "没有声明说话人的同意。",
    "请在 consent 字段中说明谁于何时同意使用此声音。",
)
VOICES_UNWRITABLE = Fault(
    "CS-VOICE-006",
    507,
    "The folder of voices cannot be written to: {reason}.",
    "Free space on its disk and make it writable, or set COSYSERVE_VOICES_DIR to another folder.",
    "音色文件夹无法写入：{reason}。",
    "请确保其可写且有剩余空间，或将 COSYSERVE_VOICES_DIR 设为这样的文件夹。",
)
VOICE_ABSENT = Fault(
    "CS-VOICE-007",
    404,
    "There is no voice of that name to delete.",
    "GET /v1/audio/voices lists the voices.",
    "没有可删除的同名音色。",
    "GET /v1/audio/voices 可列出现有音色。",
)
RECORDING_UNREADABLE = Fault(
    "CS-VOICE-101",
    400,
    "The recording cannot be read as audio.",
    "Send a whole file: WAV, FLAC, MP3, OGG, Opus, AAC, M4A or WebM.",
    "录音不是可读取的音频。",
    "请发送完整的音频文件：WAV、FLAC、MP3、OGG、Opus、AAC、M4A 或 WebM。",
)
RECORDING_SILENT = Fault(
    "CS-VOICE-102",
    400,
    "The recording is silent.",
    "Record it again, closer to the microphone; its peak has to be above -40 dB of full scale.",
    "录音中没有声音。",
    "请靠近麦克风重新录制；峰值须高于满幅的 -40 dB。",
)
RECORDING_LENGTH = Fault(
    "CS-VOICE-103",
    400,
    "The recording has {seconds} of voice; {shortest:g} to {longest:g} s are needed.",
    "Cut it, or record more. Silence does not count; 5 to 10 s of clear speech are best.",
    "录音中的语音长度为 {seconds}，需要 {shortest:g} 至 {longest:g} 秒。",
    "请裁剪或重新录制。静音不计入；5 至 10 秒清晰的语音效果最好。",
)
RECORDING_PAUSES = Fault(
    "CS-VOICE-108",
    400,
    "The recording lasts {seconds}, of which {voice} are voice; at most {longest:g} s are allowed.",
    "Cut out the long pauses.",
    "录音从头到尾长 {seconds}，其中语音只有 {voice}；总长不得超过 {longest:g} 秒。",
    "请剪去较长的停顿。",
)
RECORDING_RATE = Fault(
    "CS-VOICE-104",
    400,
    "The recording has {rate} samples a second; at least {lowest} are needed.",
    "Record it again at 16 kHz or more; what a telephone leaves out cannot be restored.",
    "录音的采样率为 {rate}，至少需要 {lowest}。",
    "请以 16 kHz 或更高的采样率重新录制；电话音质缺失的部分无法恢复。",
)
VOICE_FEATURES = Fault(
    "CS-VOICE-105",
    400,
    "{path} holds no voice that can be used: {reason}.",
    "Use a spk2info.pt made by CosyVoice or by async_cosyvoice, and name its model with --model. It must be the model "
    "that the server speaks with.",
    "{path} 中没有可用的音色：{reason}。",
    "请提供 CosyVoice 或 async_cosyvoice 的 spk2info.pt，并用 --model 指明其模型；该模型须与正在使用的模型一致。",
)
RECORDING_RATE_HIGH = Fault(
    "CS-VOICE-106",
    400,
    "The recording claims {rate} samples a second; at most {highest} are allowed.",
    "Convert it to 48 kHz or less; higher rates make no audible difference.",
    "录音标称的采样率为 {rate}，最高为 {highest}。",
    "请转换为 48 kHz 或更低的采样率，更高的部分人耳听不到。",
)
RECORDING_CHANNELS = Fault(
    "CS-VOICE-107",
    400,
    "The recording has {channels} channels; at most {most} are allowed.",
    "Send the channel with the speaker alone, or mix it to one.",
    "录音有 {channels} 个声道，最多 {most} 个。",
    "请只发送说话人所在的声道，或混合为单声道。",
)
CANNOT_CLONE = Fault(
    "CS-CAP-001",
    400,
    "The {synthesizer} voice cannot clone a voice from a recording.",
    "Use one of its own voices (GET /v1/audio/voices); cloning needs CosyVoice2 or CosyVoice3.",
    "{synthesizer} 语音不支持用录音克隆音色。",
    "请使用自带的音色（GET /v1/audio/voices）；克隆需要 CosyVoice2 或 CosyVoice3。",
)
CANNOT_INSTRUCT = Fault(
    "CS-CAP-002",
    400,
    "The {synthesizer} voice cannot follow instructions on how to speak.",
    "Leave the instructions out; they need CosyVoice2 or CosyVoice3.",
    "{synthesizer} 语音不支持用指令控制说话方式。",
    "请去掉指令；指令控制需要 CosyVoice2 或 CosyVoice3。",
)
CANNOT_INTERLEAVE = Fault(
    "CS-CAP-003",
    400,
    "The {synthesizer} voice cannot begin before a sentence is complete (interleave) on this server.",
    'Leave "interleave" out. It needs CosyVoice2 or CosyVoice3 by PyTorch, without replicas.',
    "{synthesizer} 语音在此服务器上不能在句子写完之前开始朗读（interleave）。",
    "请去掉 interleave；它需要由 PyTorch 运行的 CosyVoice2 或 CosyVoice3，且不使用多副本。",
)
REQUEST_INVALID = Fault(
    "CS-REQ-001",
    400,
    "The request does not have the expected form: {details}.",
    "Compare it with the API's description at /openapi.json on this server.",
    "请求格式不正确：{details}。",
    "请对照本服务器 /openapi.json 上的接口说明。",
)
BODY_TOO_LARGE = Fault(
    "CS-REQ-002",
    413,
    "The request is larger than {limit} bytes.",
    "Send less, or raise COSYSERVE_MAX_UPLOAD_BYTES on the server.",
    "请求体超过 {limit} 字节。",
    "请减小请求，或在服务器上调大 COSYSERVE_MAX_UPLOAD_BYTES。",
)
MODEL_UNKNOWN = Fault(
    "CS-REQ-003",
    404,
    "There is no model of that name here.",
    "Choose one of: {models}.",
    "没有这个名称的模型。",
    "请从以下模型中选择：{models}。",
)
ROUTE_UNKNOWN = Fault(
    "CS-REQ-004",
    404,
    "There is nothing at this address.",
    "See /openapi.json on this server for the addresses it has.",
    "此地址不存在。",
    "可用的地址见本服务器的 /openapi.json。",
)
METHOD_UNKNOWN = Fault(
    "CS-REQ-005",
    405,
    "This address does not take that method.",
    "See /openapi.json on this server for the methods it takes.",
    "此地址不支持该请求方法。",
    "支持的方法见本服务器的 /openapi.json。",
)
HEAD_TOO_LARGE = Fault(
    "CS-REQ-006",
    431,
    "The head of the request is larger than {limit} bytes or has more than {headers} headers.",
    "Send shorter headers and a shorter address; put texts into the body.",
    "请求头超过 {limit} 字节，或多于 {headers} 个。",
    "请缩短请求头和地址；文本应放在请求体中。",
)
REQUEST_SLOW = Fault(
    "CS-REQ-007",
    408,
    "The request was not complete in time.",
    "Send it again; on a slow connection, send a shorter recording.",
    "请求未能及时发送完毕。",
    "请重新发送；网络较慢时请使用更短的录音。",
)
KEY_REFUSED = Fault(
    "CS-AUTH-001",
    401,
    "This server needs an API key, but the request had none or a wrong one.",
    "Send the header 'Authorization: Bearer KEY'; the server's owner knows the key.",
    "本服务器需要 API 密钥，而请求没有携带密钥或密钥错误。",
    "请发送请求头 'Authorization: Bearer 密钥'；密钥可向服务器的管理者索取。",
)
HOST_REFUSED = Fault(
    "CS-AUTH-002",
    403,
    "This server has no keys, so it accepts only requests that address this machine by its own names, not as {host}.",
    "Add the name to COSYSERVE_ALLOWED_HOSTS on the server, or set COSYSERVE_API_KEYS there.",
    "本服务器不需要密钥，因此只接受以本机地址发来的请求，不接受 {host}。",
    "请在服务器上将该名称加入 COSYSERVE_ALLOWED_HOSTS，或设置 COSYSERVE_API_KEYS。",
)
ORIGIN_REFUSED = Fault(
    "CS-AUTH-003",
    403,
    "Web pages from {origin} may not use this server.",
    "Add that origin to COSYSERVE_CORS_ORIGINS on the server, separated by commas from others.",
    "来自 {origin} 的网页无权使用本服务器。",
    "请在服务器上将该来源加入 COSYSERVE_CORS_ORIGINS，多个来源用逗号分隔。",
)
QUEUE_FULL = Fault(
    "CS-BUSY-001",
    429,
    "All {streams} streams are busy and {waiting} requests are already waiting.",
    "Try again after the time in Retry-After; /readyz shows what limits the streams, such as COSYSERVE_MAX_STREAMS.",
    "{streams} 路合成全部占用，且已有 {waiting} 个请求在排队。",
    "请在 Retry-After 所示时间后重试；/readyz 说明合成路数受何限制，例如 COSYSERVE_MAX_STREAMS。",
)
QUEUE_TIMEOUT = Fault(
    "CS-BUSY-002",
    429,
    "No stream became free within {seconds:g} seconds.",
    "Try again after the time in Retry-After, or raise COSYSERVE_QUEUE_SECONDS on the server.",
    "等待 {seconds:g} 秒后仍没有空闲的合成通道。",
    "请在 Retry-After 所示时间后重试，或在服务器上调大 COSYSERVE_QUEUE_SECONDS。",
)
CONNECTIONS_FULL = Fault(
    "CS-BUSY-004",
    503,
    "All {limit} connections that this server takes are in use.",
    "Try again in a moment, or raise COSYSERVE_MAX_CONNECTIONS on the server.",
    "本服务器允许的 {limit} 个连接均被占用。",
    "请稍后重试，或在服务器上调大 COSYSERVE_MAX_CONNECTIONS。",
)
UPLOADS_BUSY = Fault(
    "CS-BUSY-003",
    429,
    "The server is already processing as many recordings as it can.",
    "Try again after the time in Retry-After; a voice that was added once (POST /v1/audio/voices) needs no recording.",
    "服务器同时处理的录音已达上限。",
    "请在 Retry-After 所示时间后重试；已添加的音色（POST /v1/audio/voices）无需再上传录音。",
)
STARTING = Fault(
    "CS-SRV-001",
    503,
    "The server is starting and cannot speak yet.",
    "Wait until GET /readyz answers 200, then send the request again.",
    "服务器正在启动，暂时无法合成。",
    "请等待 GET /readyz 返回 200 后重试。",
)
STOPPING = Fault(
    "CS-SRV-002",
    503,
    "The server is shutting down and takes no new requests.",
    "Send the request again in a moment; another instance or the restarted one will take it.",
    "服务器正在关闭，不再接受新请求。",
    "请稍后重试，重启后的实例会处理请求。",
)
SYNTHESIS_FAILED = Fault(
    "CS-SRV-003",
    500,
    "The synthesizer failed on this text.",
    "Try again; if it fails again, the server's log says why under the request id.",
    "合成器处理此文本时出错。",
    "请重试；如仍失败，可按请求编号在服务器日志中查看原因。",
)
NO_ROOM_TO_WAKE = Fault(
    "CS-SLEEP-001",
    503,
    "The model was let go of while nobody spoke and cannot return: other programs have the memory; {gib} GiB are free.",
    "Send the request again after the time in Retry-After, or end what uses the card (nvidia-smi lists it).",
    "无人使用期间模型已卸载，现在无法载回：显存已被其他程序占用，仅剩 {gib} GiB。",
    "请在 Retry-After 所示时间后重试，或结束占用显卡的其他程序（nvidia-smi 可列出）。",
)
WAKING = Fault(
    "CS-SLEEP-002",
    503,
    "The model was let go of while nobody spoke; it is on its way back, which takes longer than {seconds:g} s.",
    "Send the request again after the time in Retry-After, or raise COSYSERVE_WAKE_SECONDS.",
    "无人使用期间模型已卸载，正在重新载入，已超过 {seconds:g} 秒。",
    "请在 Retry-After 所示时间后重试，或调大 COSYSERVE_WAKE_SECONDS。",
)
OUT_OF_MEMORY = Fault(
    "CS-SRV-007",
    503,
    "Memory ran out during this request; other requests continue.",
    "Send it again in a moment. If it happens often, the server's owner should lower COSYSERVE_MAX_STREAMS or "
    "COSYSERVE_PAST_SECONDS, or end other programs that use the memory (nvidia-smi lists a card's).",
    "合成过程中内存或显存不足；其他请求不受影响。",
    "请稍后重试。如经常出现，请服务器所有者调小 COSYSERVE_MAX_STREAMS 或 COSYSERVE_PAST_SECONDS，"
    "或结束占用内存的其他程序（显存占用可用 nvidia-smi 查看）。",
)
INTERNAL = Fault(
    "CS-SRV-004",
    500,
    "An internal error happened in the server.",
    "The server's log has the details under the request id; please report them.",
    "服务器发生了不应出现的内部错误。",
    "详情见服务器日志中对应的请求编号，欢迎反馈。",
)
WARMUP_FAILED = Fault(
    "CS-SRV-005",
    503,
    "The warm-up synthesis failed, so this server cannot speak.",
    "Find the reason in the server's log, fix it and start the server again.",
    "预热合成失败，服务器无法工作。",
    "请查看服务器日志中的原因，解决后重新启动。",
)
STALLED = Fault(
    "CS-SRV-006",
    503,
    "The synthesis is stuck, and the server is being restarted.",
    "Send the request again in a moment; the server's log has the stacks of what hung.",
    "合成已停滞，服务器正在重启。",
    "请稍后重试；挂起位置的调用栈见服务器日志。",
)
MESSAGE_INVALID = Fault(
    "CS-WS-001",
    400,
    "The message does not have the expected form: {details}.",
    "See docs/api.md for the messages this socket takes.",
    "消息格式不正确：{details}。",
    "此连接接受的消息见 docs/api.md。",
)
TEXT_STALLED = Fault(
    "CS-WS-002",
    408,
    "No text came for {seconds:g} seconds, and the text was not complete.",
    "Say when a text is complete ('input_text.flush', in the Wyoming protocol 'synthesize-stop'), and open a new "
    "connection for the next one.",
    "文本尚未结束，但 {seconds:g} 秒没有收到新的内容。",
    "文本结束时请发送 'input_text.flush'（Wyoming 协议为 'synthesize-stop'）；下一段文本请重新连接。",
)
