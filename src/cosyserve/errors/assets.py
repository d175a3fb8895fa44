"""What can go wrong while models are brought to disk and engines are built."""

from cosyserve.errors.fault import Fault

MODEL_NOT_KNOWN = Fault(
    "CS-FETCH-001",
    500,
    "There is no model '{model}' in the manifest.",
    "Choose one of: {models}.",
    "清单中没有模型“{model}”。",
    "请从以下模型中选择：{models}。",
)
NO_SOURCE = Fault(
    "CS-FETCH-002",
    500,
    "No source could provide {count} files of {model}: {reasons}.",
    "Run the command again; it resumes where it stopped. '{cosyserve} doctor' shows which sources can be reached. "
    "Behind a proxy, set https_proxy or name one source with --source.",
    "{model} 的 {count} 个文件无法从任何来源获取：{reasons}。",
    "请重新运行命令，会从中断处继续；'{cosyserve} doctor' 可查看网络连通情况。"
    "如使用代理请设置 https_proxy，或用 --source 指定来源。",
)
VARIANT_NOT_KNOWN = Fault(
    "CS-FETCH-008",
    500,
    "{model} has no variant '{variant}'.",
    "Choose one of: {variants}.",
    "{model} 没有变体“{variant}”。",
    "请从以下变体中选择：{variants}。",
)
DISK_FULL = Fault(
    "CS-FETCH-003",
    500,
    "{folder} has {free} free but {needed} are needed, {missing} more. Verified files are kept.",
    "Free that much, or choose a larger disk with --to or COSYSERVE_MODELS_DIR, and run the command again.",
    "{folder} 剩余 {free}，需要 {needed}，还差 {missing}。已校验的文件会保留。",
    "请清理空间，或用 --to 或 COSYSERVE_MODELS_DIR 选择更大的磁盘，然后重新运行命令。",
)
FOLDER_UNWRITABLE = Fault(
    "CS-FETCH-004",
    500,
    "{folder} cannot be written to: {reason}.",
    "Make it writable for this user, or choose another with --to or COSYSERVE_MODELS_DIR.",
    "{folder} 无法写入：{reason}。",
    "请使当前用户可写，或用 --to 或 COSYSERVE_MODELS_DIR 选择其他目录。",
)
OFFLINE = Fault(
    "CS-FETCH-005",
    500,
    "{files} of {model} are missing, and {variable} forbids downloads.",
    "Unset {variable}, or copy the folder from a machine that has it and run: {cosyserve} models verify.",
    "{model} 缺少 {files}，而 {variable} 禁止使用网络。",
    "请取消 {variable}，或从其他机器复制该目录后运行：{cosyserve} models verify。",
)
NOT_FETCHED = Fault(
    "CS-FETCH-006",
    500,
    "{model} is incomplete in {folder}: {files} missing.",
    "Run: {cosyserve} fetch.",
    "{folder} 中的 {model} 不完整：缺少 {files}。",
    "请运行：{cosyserve} fetch。",
)
NO_HUB = Fault(
    "CS-FETCH-007",
    500,
    "None of the sources can be reached: {sources}.",
    "Set https_proxy if there is a proxy, or copy the folder from a machine that has it. Models that are already on "
    "disk still work.",
    "无法访问任何来源：{sources}。",
    "如需代理请设置 https_proxy，或从其他机器复制该目录；磁盘上已有的内容可以使用。",
)
TRTLLM_MISSING = Fault(
    "CS-BUILD-001",
    500,
    "Building an engine needs TensorRT-LLM, which is not installed.",
    "Install it as docs/supply.md says, with PyTorch for the same CUDA: scripts/setup-tensorrt-llm. "
    "Or serve with PyTorch: COSYSERVE_BACKEND=torch.",
    "构建引擎需要 TensorRT-LLM，但尚未安装。",
    "请用 scripts/setup-tensorrt-llm 安装（见 docs/supply.md），或使用 PyTorch：COSYSERVE_BACKEND=torch。",
)
TRTLLM_VERSION = Fault(
    "CS-BUILD-002",
    500,
    "TensorRT-LLM {version} is installed, and {reason}.",
    "Install the one for your driver: scripts/setup-tensorrt-llm cuda12 (1.0.0) or cuda13 (1.2.1); docs/supply.md.",
    "已安装 TensorRT-LLM {version}，引擎需要 1.0 至 1.2。",
    "请按驱动安装：scripts/setup-tensorrt-llm cuda12（1.0.0）或 cuda13（1.2.1），见 docs/supply.md。",
)
BUILD_WITHOUT_CARD = Fault(
    "CS-BUILD-003",
    500,
    "An engine can only be built on the graphics card it is for, and there is none here.",
    "Start the machine with its card and run the command again; AutoDL's no-card mode is for downloads only. In "
    "Docker: docker run --gpus all ….",
    "引擎只能在目标显卡上构建，而当前没有显卡。",
    "请带显卡启动后重新运行；AutoDL 无卡模式仅适合下载。Docker 请使用 docker run --gpus all …。",
)
BUILD_RESOURCES = Fault(
    "CS-BUILD-004",
    500,
    "Building needs {needed} of {what}, and {free} are free.",
    "Free some, or use a larger machine; '{cosyserve} engines prune' removes engines that are not used.",
    "构建所需的资源（{what}）不足：需要 {needed}，剩余 {free}。",
    "请释放资源或使用更大的机器；'{cosyserve} engines prune' 可删除不用的引擎。",
)
BUILD_FAILED = Fault(
    "CS-BUILD-005",
    500,
    "The engine could not be built: {reason}.",
    "Read the lines above; '{cosyserve} serve' speaks with PyTorch meanwhile (COSYSERVE_BACKEND=torch).",
    "引擎构建失败：{reason}。",
    "请查看上方输出；在此期间 '{cosyserve} serve' 可使用 PyTorch（COSYSERVE_BACKEND=torch）。",
)
NOT_EXPORTED = Fault(
    "CS-BUILD-007",
    500,
    "There is no public export of {model} that --from-hub could fetch.",
    "Run without --from-hub: the fetched model is exported here, which takes a minute.",
    "{model} 没有可供 --from-hub 下载的公开导出。",
    "请去掉 --from-hub：会在本机导出已下载的模型，约需一分钟。",
)
EXPORT_UNUSABLE = Fault(
    "CS-BUILD-006",
    500,
    "The language model cannot be exported: {reason}.",
    "Run: {cosyserve} models verify; it names a damaged file and offers to fetch it again.",
    "语言模型无法导出：{reason}。",
    "请运行：{cosyserve} models verify；它会指出损坏的文件，并询问是否重新下载。",
)
NO_ENGINE = Fault(
    "CS-ENGINE-001",
    500,
    "COSYSERVE_BACKEND=trtllm asks for an engine, and there is none for this machine in {folder}.",
    "Run: {cosyserve} build, or leave COSYSERVE_BACKEND out to speak with PyTorch.",
    "COSYSERVE_BACKEND=trtllm 需要引擎，但 {folder} 中没有适用于本机的引擎。",
    "请运行：{cosyserve} build；或去掉 COSYSERVE_BACKEND，使用 PyTorch。",
)
ENGINE_UNUSABLE = Fault(
    "CS-ENGINE-002",
    500,
    "The engine {engine} cannot be used: {reason}.",
    "It is rebuilt once automatically; if that does not help, run: {cosyserve} engines check.",
    "引擎 {engine} 无法使用：{reason}。",
    "系统会自动重建一次；如仍无效，请运行 {cosyserve} engines check。",
)
ENGINE_FAILED = Fault(
    "CS-ENGINE-003",
    503,
    "The engine has failed and cannot recover: {reason}.",
    "The server restarts by itself; send the request again in a moment. If it happens again, the server's owner runs: "
    "{cosyserve} doctor; and with a TensorRT-LLM engine: {cosyserve} engines check.",
    "合成引擎已失效：{reason}。",
    "服务器会自动重启，请稍后重试。如反复出现，请服务器所有者运行 {cosyserve} doctor；"
    "使用 TensorRT-LLM 引擎时，再运行 {cosyserve} engines check。",
)
