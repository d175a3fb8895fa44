"""What can go wrong on the way to an instance, and on it."""

from cosyserve.errors.fault import Fault

TARGET_UNREADABLE = Fault(
    "CS-DEP-001",
    500,
    "'{target}' is not an SSH address.",
    "Write root@HOST:PORT, or paste the login line of AutoDL's console in quotes: 'ssh -p PORT root@HOST'.",
    "“{target}”不是有效的 SSH 地址。",
    "请写成 root@主机:端口，或用引号粘贴 AutoDL 控制台的登录指令：'ssh -p 端口 root@主机'。",
)
NO_SSH_CLIENT = Fault(
    "CS-DEP-002",
    500,
    "This computer has no ssh.",
    "Install OpenSSH's client (Debian, Ubuntu: apt install openssh-client), or use the instance's own terminal: "
    "bash autodl/bootstrap.sh.",
    "本机没有 ssh 命令。",
    "请安装 OpenSSH 客户端（Debian、Ubuntu：apt install openssh-client），或在实例终端中运行 "
    "bash autodl/bootstrap.sh。",
)
HOST_UNKNOWN = Fault(
    "CS-DEP-003",
    500,
    "The host name {host} cannot be resolved.",
    "Compare it with the login line in AutoDL's console, and check this computer's own connection.",
    "无法解析主机名 {host}。",
    "请与 AutoDL 控制台中的登录指令核对，并检查本机网络。",
)
NO_ANSWER = Fault(
    "CS-DEP-004",
    500,
    "Nothing answers as SSH at {host}, port {port}: {reason}.",
    "Is the instance on? Its port changes when it is restarted or recreated: take both from AutoDL's console.",
    "{host} 的 {port} 端口没有 SSH 应答：{reason}。",
    "请确认实例已开机；重新开机或重建后端口会改变，请以 AutoDL 控制台为准。",
)
HOST_KEY_CHANGED = Fault(
    "CS-DEP-005",
    500,
    "{host}, port {port}, has a new host key: it is another machine, or somebody intercepts the connection.",
    "If the instance was recreated, run: ssh-keygen -R '[{host}]:{port}', then run the same command again.",
    "{host} 端口 {port} 的主机密钥与之前不同：可能是另一台机器，也可能有人冒充。",
    "如果确认实例已重建：ssh-keygen -R '[{host}]:{port}'，然后重新运行同一命令。",
)
LOGIN_REFUSED = Fault(
    "CS-DEP-006",
    500,
    "{user}@{host} refuses this login ({reason}).",
    "Give a key with --identity FILE, or the password of AutoDL's console with --password-file FILE or at the prompt.",
    "{user}@{host} 拒绝登录（{reason}）。",
    "请用 --identity 文件 指定密钥，或用 --password-file 文件（或按提示输入）提供 AutoDL 控制台中的密码。",
)
CONNECTION_LOST = Fault(
    "CS-DEP-007",
    500,
    "The connection to {host} broke off and did not come back within {seconds} s.",
    "The work continues there. Run the same command again to go on from where it is.",
    "与 {host} 的连接中断，{seconds} 秒内未能恢复。",
    "已开始的工作会在实例上继续。请重新运行同一命令，将从中断处继续。",
)
NO_DATA_DISK = Fault(
    "CS-DEP-008",
    500,
    "The instance has no data disk: {folder} is missing.",
    "Add one in AutoDL's console, or choose a folder that is kept with --folder (the system disk is small).",
    "实例没有数据盘：缺少 {folder}。",
    "请在 AutoDL 控制台中添加数据盘，或用 --folder 指定其他可持久保存的目录（系统盘空间较小）。",
)
INSTANCE_FULL = Fault(
    "CS-DEP-009",
    500,
    "{folder} has {free} free, and {flavour} needs {needed}.",
    "Free some (du -xh --max-depth 2 {folder}), enlarge the disk in AutoDL's console, or choose --flavour preview.",
    "{folder} 剩余 {free}，而 {flavour} 需要 {needed}。",
    "请清理空间（du -xh --max-depth 2 {folder}），在 AutoDL 控制台中扩容，或使用 --flavour preview。",
)
NO_PYTHON = Fault(
    "CS-DEP-010",
    500,
    "The instance has no Python that fits ({wanted}), and none could be fetched.",
    "Install one there (conda create -y -p {folder}/python python=3.12), then run the same command again.",
    "实例上没有合适的 Python（{wanted}），且无法下载。",
    "请在实例上安装（conda create -y -p {folder}/python python=3.12），然后重新运行同一命令。",
)
NO_INDEX = Fault(
    "CS-DEP-011",
    500,
    "The instance cannot reach a package index.",
    "Check its network (in AutoDL's terminal: curl -I of your mirror), or name an index with --index URL; in China "
    "that of a mirror.",
    "实例无法访问任何软件包索引。",
    "请检查实例网络（在 AutoDL 终端中用 curl -I 测试镜像），或用 --index URL 指定索引，国内请使用镜像地址。",
)
INSTALL_FAILED = Fault(
    "CS-DEP-012",
    500,
    "The packages could not be installed; the last lines above say why.",
    "Run the same command again; it keeps what is there. Or name another index with --index URL.",
    "软件包安装失败，原因见上方最后几行。",
    "请重新运行同一命令，已下载的内容会继续使用；或用 --index URL 指定其他索引。",
)
CLOCK_OFF = Fault(
    "CS-DEP-013",
    500,
    "The instance's clock and this computer's differ by {difference}; with a wrong clock secure downloads fail.",
    "Correct this computer's clock if that is wrong. Else restart the instance, which gets its host's clock, or move "
    "to another host.",
    "实例与本机的时钟相差 {difference}；时钟错误时安全下载会失败。",
    "如果本机时钟有误请更正；否则请重启实例（时钟来自宿主机），或更换主机。",
)
RELEASE_BROKEN = Fault(
    "CS-DEP-014",
    500,
    "The release {release} does not pass its check: {reason}. Nothing has been switched.",
    "Read the lines above, and {log} on the instance; the release before keeps serving.",
    "版本 {release} 未通过检查：{reason}。未做任何切换。",
    "请查看上方各行及实例上的 {log}；此前的版本继续提供服务。",
)
PORT_FOREIGN = Fault(
    "CS-DEP-015",
    500,
    "Port {port} on the instance is taken by {who}.",
    "End that program, or choose another port with --port (6006 and 6008 are the ones AutoDL can publish).",
    "实例的 {port} 端口被 {who} 占用。",
    "请结束该程序，或用 --port 选择其他端口（AutoDL 可公开的是 6006 和 6008）。",
)
NOT_INSTALLED = Fault(
    "CS-DEP-016",
    500,
    "CosyServe is not installed in {folder} on the instance.",
    "Install it with: make deploy-autodl HOST=… PORT=…, or name its folder with --folder.",
    "实例的 {folder} 中没有安装 CosyServe。",
    "请先安装：make deploy-autodl HOST=… PORT=…，或用 --folder 指定安装目录。",
)
NO_PREVIOUS = Fault(
    "CS-DEP-017",
    500,
    "There is no earlier release to go back to.",
    "Deploy the version that you want: check it out, and run the same deploy command.",
    "没有可回退的旧版本。",
    "请切换到所需版本的代码，再运行同样的部署命令。",
)
BUSY = Fault(
    "CS-DEP-018",
    500,
    "Another installation is at work on this instance: {release}.",
    "Wait until it is done, then run the same command again; a job that hangs is ended by a reboot.",
    "实例上正在进行另一次安装：{release}。",
    "请等待其完成，然后重新运行同一命令；若其挂起，重启实例即可结束。",
)
NO_SOURCES = Fault(
    "CS-DEP-019",
    500,
    "There is no release in {folder}: {lacking} is missing.",
    "Deploy from a clone of the project, or name one with --release FOLDER.",
    "{folder} 中没有可部署的版本：缺少 {lacking}。",
    "请在项目的克隆目录中部署，或用 --release 目录 指定。",
)
WORK_FAILED = Fault(
    "CS-DEP-020",
    500,
    "The work on the instance ended with status {status}; the last lines above say why.",
    "Fix that and run the same command again; the whole log is {log} on the instance.",
    "实例上的工作以状态 {status} 结束，原因见上方最后几行。",
    "请解决后重新运行同一命令；完整日志在实例的 {log}。",
)
UNSUITABLE = Fault(
    "CS-DEP-021",
    500,
    "The instance cannot be used: {reason}.",
    "Take another image in AutoDL's console: one with Ubuntu on x86_64, and log in as root.",
    "该实例不可用：{reason}。",
    "请在 AutoDL 控制台中更换镜像：x86_64 的 Ubuntu，并以 root 登录。",
)
COMMAND_BROKEN_OFF = Fault(
    "CS-DEP-023",
    500,
    "The connection broke off while '{command}' was at work on the instance.",
    "See with '{cosyserve} deploy status' how far it came, before you repeat it.",
    "在实例上执行“{command}”时连接中断。",
    "请先用 {cosyserve} deploy status 查看进展，再决定是否重复执行。",
)
NO_HOOK = Fault(
    "CS-DEP-022",
    500,
    "{file} cannot be written ({reason}): the server runs, but will not start by itself at the next boot.",
    "Make the file writable and run the same command again, or start it by hand after a boot: bash {script}.",
    "无法写入 {file}（{reason}）：服务已运行，但下次开机不会自动启动。",
    "请使该文件可写后重新运行同一命令，或在开机后手动启动：bash {script}。",
)
