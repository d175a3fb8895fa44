"""The settings of a deployment and the files that it touches, told beforehand: pure functions."""

from collections.abc import Mapping

from cosyserve.host.report import Text
from cosyserve.remote.bundle import Bundle, Flavour
from cosyserve.remote.survey import Instance

_MODEL_GB: dict[Flavour, float] = {"preview": 0, "slim": 3.1, "cuda12": 3.1, "cuda13": 3.1}

_ASKED = Text("as asked for", "按指定")
_BEFORE = Text("as before, in shared/.env", "与之前相同，见 shared/.env")
_DEFAULT = Text("by default", "默认")


def settings(instance: Instance, asked: Mapping[str, str], unless_written: Mapping[str, str]) -> list[Text]:
    """The settings that will apply, and why: asked for now, set before, or the default."""

    def holds(name: str) -> tuple[str, Text]:
        if name in asked:
            return asked[name], _ASKED
        if name in instance.settings:
            return instance.settings[name], _BEFORE
        return unless_written[name], _DEFAULT

    port, why_port = holds("PORT")
    host, why_host = holds("HOST")
    minutes, why_minutes = holds("IDLE_SHUTDOWN_MINUTES")
    is_private = host in ("localhost", "::1") or host.startswith("127.")
    return [
        Text(f"port {port}: {why_port.en}", f"端口 {port}：{why_port.zh}"),
        _private(why_host) if is_private else _public(why_host),
        *(_keys(instance, is_private=is_private)),
        _idle(minutes, why_minutes),
    ]


def _private(why: Text) -> Text:
    return Text(
        f"private, reached through SSH alone: {why.en}; --public lets others in",
        f"仅本机，通过 SSH 隧道使用：{why.zh}；如需公开请加 --public",
    )


def _public(why: Text) -> Text:
    return Text(f"public: {why.en}; --private closes it", f"对外公开：{why.zh}；如需关闭请加 --private")


def _idle(minutes: str, why: Text) -> Text:
    if not minutes.strip("0."):
        return Text(f"never switched off automatically: {why.en}", f"不自动关机：{why.zh}")
    return Text(f"switched off after {minutes} idle minutes: {why.en}", f"空闲 {minutes} 分钟后关机：{why.zh}")


def _keys(instance: Instance, *, is_private: bool) -> list[Text]:
    """On loopback no key is needed unless keys are set."""
    if instance.settings.get("AUTH") == "off":
        return [
            Text(
                "no key is needed: COSYSERVE_AUTH=off is set in shared/.env",
                "不要求密钥：shared/.env 中有 COSYSERVE_AUTH=off",
            )
        ]
    if "set" in instance.keys:
        return [Text("your own keys in shared/.env apply", "使用 shared/.env 中设置的密钥")]
    if is_private:
        return []
    if "made" in instance.keys:
        return [Text("the key generated earlier stays valid and is shown", "沿用之前生成的密钥，并会显示")]
    return [Text("a key is generated and shown", "将生成密钥并显示")]


def touched(
    instance: Instance, bundle: Bundle, root: str, changes: Mapping[str, str], needed_mib: int
) -> dict[str, Text]:
    """Each file or folder that will be written, and how."""
    missing = bundle.name not in instance.complete
    found = {f"{root}/releases/{bundle.name}/": _release(bundle)} if missing else {}
    if instance.current != bundle.name:
        found[f"{root}/current"] = Text(
            f"a link: from {instance.current or 'nothing'} to this release, once that has spoken. The last three that "
            "have served stay, older ones are removed",
            f"链接：新版本能够合成之后，由 {instance.current or '无'} 指向新版本；保留最近三个服务过的版本，删除更旧的",
        )
    found[f"{root}/shared/.env"] = _env_file(instance, changes)
    if _MODEL_GB[bundle.flavour]:
        found[f"{root}/shared/pretrained_models/"] = Text(
            f"the model, {_MODEL_GB[bundle.flavour]} GB, where it is not there yet, and its engine for this card",
            f"模型（{_MODEL_GB[bundle.flavour]} GB，已有则不下载）及为该显卡构建的引擎",
        )
    kept = [name for name in instance.kept if name not in (".env", "logs", "state", "pretrained_models")]
    found[f"{root}/shared/"] = Text(
        f"logs/ and state/ are written{'; what is there stays: ' + ', '.join(kept) if kept else ''}",
        f"写入 logs/ 与 state/{'；已有内容保留：' + '、'.join(kept) if kept else ''}",
    )
    found[f"{root}/run/, tools/, cache/"] = Text(
        "the job and its log; uv, and a Python where none fits; downloads",
        "任务及其日志；uv，以及缺少合适版本时的 Python；下载缓存",
    )
    found["/etc/autodl.sh"] = _boot_file(instance)
    if missing:
        disk = root.rpartition("/")[0]
        found[disk] = Text(
            f"{instance.free_mib} MiB are free, and up to {needed_mib} are used",
            f"剩余 {instance.free_mib} MiB，最多使用 {needed_mib} MiB",
        )
    return found


def _release(bundle: Bundle) -> Text:
    """Only TensorRT-LLM knows its dependencies, so their number is not known beforehand."""
    more = {"cuda12": ", TensorRT-LLM and what that depends on", "cuda13": ", TensorRT-LLM and what that depends on"}
    more["slim"] = ", PyTorch and what that depends on"
    more_zh = {"cuda12": "、TensorRT-LLM 及其依赖", "cuda13": "、TensorRT-LLM 及其依赖", "slim": "、PyTorch 及其依赖"}
    return Text(
        f"new: our own files, and an environment with {bundle.packages} packages of known digests"
        f"{more.get(bundle.flavour, '')}. Nothing is installed into the system or its Python",
        f"新建：程序文件，以及独立环境，其中有 {bundle.packages} 个带校验值的软件包{more_zh.get(bundle.flavour, '')}；"
        "不改动系统及其 Python",
    )


def _env_file(instance: Instance, changes: Mapping[str, str]) -> Text:
    lines = ", ".join(f"COSYSERVE_{name}={value}" for name, value in changes.items())
    if ".env" not in instance.kept and not instance.settings:
        return Text(
            f"made, with where logs and state lie{', and ' + lines if lines else ''}",
            f"新建，写入日志与状态的位置{'，以及 ' + lines if lines else ''}",
        )
    if not lines:
        return Text("stays as it is", "保持不变")
    return Text(f"written: {lines}; all other lines stay", f"写入 {lines}；其余各行不变")


def _boot_file(instance: Instance) -> Text:
    if instance.boot is None:
        return Text("made, with one line that starts the server at boot", "新建，其中一行用于开机启动服务")
    if instance.boot:
        return Text("has our line, and stays as it is unless that leads elsewhere", "已有我们的一行，指向不变则不改动")
    return Text(
        "one line at its top, which starts the server at boot; the rest stays", "首行加入一行用于开机启动，其余不变"
    )
