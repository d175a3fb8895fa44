"""What the server for the Wyoming protocol can meet, at its start and from its clients."""

from cosyserve.errors.fault import Fault

WYOMING_OPEN = Fault(
    "CS-WYO-001",
    500,
    "COSYSERVE_WYOMING_HOST={host} lets other machines connect, and the Wyoming protocol has no key.",
    "Name the machines that may connect in COSYSERVE_WYOMING_CLIENTS, such as 192.168.1.20 or 192.168.1.0/24; "
    "* lets in everybody who can reach the port.",
    "COSYSERVE_WYOMING_HOST={host} 允许其他机器连接，而 Wyoming 协议没有密钥。",
    "请在 COSYSERVE_WYOMING_CLIENTS 中列出允许连接的机器，例如 192.168.1.20 或 192.168.1.0/24；"
    "* 表示允许所有能访问该端口的人。",
)
WYOMING_TAKEN = Fault(
    "CS-WYO-002",
    500,
    "The server cannot listen on {host}:{port} for the Wyoming protocol: {reason}.",
    "Choose another with COSYSERVE_WYOMING_HOST and COSYSERVE_WYOMING_PORT, or end the program that holds it.",
    "服务器无法为 Wyoming 协议监听 {host}:{port}：{reason}。",
    "请用 COSYSERVE_WYOMING_HOST 和 COSYSERVE_WYOMING_PORT 另选，或结束占用它的程序。",
)
WYOMING_STRANGER = Fault(
    "CS-WYO-003",
    403,
    "Wyoming clients at {address} may not use this server.",
    "Add that address to COSYSERVE_WYOMING_CLIENTS on the server.",
    "地址 {address} 上的 Wyoming 客户端无权使用本服务器。",
    "请在服务器上将该地址加入 COSYSERVE_WYOMING_CLIENTS。",
)
WYOMING_EVENT = Fault(
    "CS-WYO-004",
    400,
    "The event does not have the expected form: {details}.",
    "See 'Home Assistant' in docs/clients.md for the events this port takes.",
    "事件格式不正确：{details}。",
    "此端口接受的事件见 docs/clients.md 的“Home Assistant”一节。",
)
WYOMING_EVENT_SIZE = Fault(
    "CS-WYO-005",
    413,
    "The event is larger than {limit} bytes.",
    "Send the text in parts, or raise COSYSERVE_MAX_TEXT_CHARS on the server.",
    "事件超过 {limit} 字节。",
    "请分段发送文本，或在服务器上调大 COSYSERVE_MAX_TEXT_CHARS。",
)
