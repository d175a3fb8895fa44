"""Why MPI did not start: the known cause that fits what was seen. Each was reproduced on a host broken in that way."""

from cosyserve.host.probe import Outcome, Result, Stuck
from cosyserve.host.report import Text

X_PORTS = range(6000, 6010)  # what hwloc's gl plugin asks: displays :0 to :9


def explain(result: Result) -> Text:
    """The known cause that fits what was seen of a start that did not succeed."""
    peers = [(each, peer) for each in result.stuck for peer in each.peers if _port(peer) in X_PORTS]
    if any("SYN_SENT" in peer for _, peer in peers):
        return Text(
            "hwloc's gl plugin connects to an X display port that drops its packets",
            "hwloc 的 gl 插件在请求一个丢弃数据包的 X 显示端口",
        )
    if peers:
        port = _port(peers[0][1])
        return Text(
            f"hwloc's gl plugin waits for port {port} to answer as an X display",
            f"hwloc 的 gl 插件在等待端口 {port} 作为 X 显示应答",
        )
    if result.outcome is Outcome.HUNG:
        return _explain_hang(result.stuck)
    return _explain_failure(result.output)


def _explain_hang(stuck: tuple[Stuck, ...]) -> Text:
    if any(each.name == "orted" for each in stuck):
        return Text("Open MPI's daemon orted does not answer", "Open MPI 的守护进程 orted 没有响应")
    if any("futex" in each.wait_channel for each in stuck):
        return Text(
            "the process waits for a lock of its own before any daemon was started",
            "进程在启动守护进程之前就在等待自身的锁",
        )
    return Text(
        "it hangs in a way that is not known yet; please report what was seen", "挂起方式未知，欢迎反馈上面看到的信息"
    )


_WRONG_SETTINGS = Text(
    "MPI settings name a component that does not exist (OMPI_MCA_…, or ~/.openmpi/mca-params.conf)",
    "MPI 配置要求了不存在的组件（OMPI_MCA_… 或 ~/.openmpi/mca-params.conf）",
)
_NO_TOOLKIT = Text(
    "it needs a CUDA toolkit, and CUDA_HOME is not set",
    "它需要 CUDA 工具包，但没有任何位置指明（CUDA_HOME）",
)
_NO_COMPILER = Text("it needs a C compiler, and none is installed (gcc)", "它需要 C 编译器，但没有找到（gcc）")

# What Open MPI or TensorRT-LLM prints in each case, the clearest first; Open MPI's were seen on hosts broken that way.
_FAILURES = (
    (
        'using "srun"',
        Text(
            "leftover SLURM variables make it believe that srun started it", "残留的 SLURM 变量使其误以为由 srun 启动"
        ),
    ),
    (
        "couldn't open the help file",
        Text(
            "OPAL_PREFIX points to an Open MPI that does not exist",
            "Open MPI 在不存在的位置寻找自身（OPAL_PREFIX）",
        ),
    ),
    ("orte_session_dir", Text("it cannot make its session folder in TMPDIR", "无法在 TMPDIR 中创建会话目录")),
    ("OUT-OF-RESOURCE", Text("TMPDIR has no room for its session folder", "TMPDIR 没有空间存放会话目录")),
    (
        "unable to find network interfaces",
        Text("there is no network interface, not even loopback", "没有任何网络接口，连回环接口也没有"),
    ),
    (
        "plm_rsh_agent",
        Text(
            "it requires ssh or rsh, although it starts nothing on other machines",
            "它要求存在 ssh 或 rsh，尽管并不在别处启动任何进程",
        ),
    ),
    (
        "stack smashing detected",
        Text(
            "its daemon orted crashes, as it does on a very long host name",
            "其守护进程 orted 崩溃（主机名过长时会如此）",
        ),
    ),
    ("cannot be selected", _WRONG_SETTINGS),
    ("plm_base_select", _WRONG_SETTINGS),
    (
        "called before MPI_INIT",
        Text(
            "mpi4py is told not to initialise MPI (MPI4PY_RC_INITIALIZE)",
            "mpi4py 被设置为不初始化 MPI（MPI4PY_RC_INITIALIZE）",
        ),
    ),
    ("Unable to start a daemon", Text("its daemon orted is missing or cannot run", "其守护进程 orted 缺失或无法运行")),
    (
        "libpython",
        Text("no linker finds Python's own library (libpython)", "找不到 Python 自身的动态库（libpython）"),
    ),
    ("CUDA_HOME", _NO_TOOLKIT),
    ("cuda_home", _NO_TOOLKIT),
    ("nvcc", _NO_TOOLKIT),
    ("C compiler", _NO_COMPILER),
    ("directory: 'gcc'", _NO_COMPILER),
    ("cannot load MPI", Text("no MPI library can be loaded", "无法加载 MPI 库")),
)


def _explain_failure(output: str) -> Text:
    for sign, cause in _FAILURES:
        if sign in output:
            return cause
    last = output.strip().splitlines()[-1:] or ["?"]
    return Text(f"it ends with: {last[0][:160]}", f"它以此结束：{last[0][:160]}")


def _port(peer: str) -> int:
    return int(peer.rsplit(":", 1)[1])
