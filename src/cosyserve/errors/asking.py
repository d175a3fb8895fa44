"""What can be wrong with the server that `say --server` asks."""

from cosyserve.errors.fault import Fault

SERVER_ADDRESS = Fault(
    "CS-SAY-004",
    400,
    "{url} is not the address of a server: {reason}.",
    "Give it as http://HOST:PORT or https://HOST, with the prefix of a proxy behind it if there is one.",
    "{url} 不是服务器地址：{reason_zh}。",
    "请写成 http://主机:端口 或 https://主机，经代理访问时在其后加上路径前缀。",
)
SERVER_UNREACHABLE = Fault(
    "CS-SAY-005",
    503,
    "The server {url} cannot be reached: {reason}.",
    "Check that it runs and that the address is right: GET {url}/readyz has to answer. For a certificate of your own "
    "authority, set SSL_CERT_FILE. No proxy is asked. With --file the same command goes on where it stopped.",
    "无法连接服务器 {url}：{reason}。",
    "请确认服务器已启动且地址正确：GET {url}/readyz 应有响应。若使用自建证书，请设置 SSL_CERT_FILE。请求不经过代理。"
    "使用 --file 时，再次运行同一命令即可继续。",
)
SERVER_KEY = Fault(
    "CS-SAY-006",
    401,
    "The server {url} needs a key, and {which} is not one of its keys.",
    "Put its key into COSYSERVE_API_KEY, in the environment or in .env.",
    "服务器 {url} 需要密钥，而{which_zh}不在其密钥之列。",
    "请在环境变量或 .env 中将 COSYSERVE_API_KEY 设为它的密钥。",
)
SERVER_FOREIGN = Fault(
    "CS-SAY-007",
    502,
    "What answers at {url} is not a CosyServe server, or one of a version that this command does not know: {reason}.",
    "Check the address, and install the same version here and there (this one is {version}; GET {url}/readyz names the "
    "server's).",
    "{url} 处的响应并非来自 CosyServe 服务器，或其版本与本命令不兼容：{reason}。",
    "请检查地址，并在两端安装相同版本（本机为 {version}，服务器的版本见 GET {url}/readyz）。",
)
SERVER_BROKE_OFF = Fault(
    "CS-SAY-008",
    502,
    "The server {url} broke off in the middle of the speech: {reason}.",
    "Look in the server's log for why, and run the same command again. With --file it goes on where it stopped.",
    "服务器 {url} 在传送语音途中断开：{reason}。",
    "请在服务器日志中查看原因，然后再次运行同一命令；使用 --file 时会从中断处继续。",
)
SERVER_REFUSED = Fault(
    "CS-SAY-009",
    502,
    "The server {url} answers {code}: {reason}.",
    "What it advises: {remedy}.",
    "服务器 {url} 返回 {code}：{reason_zh}。",
    "服务器的建议：{remedy_zh}。",
)
