"""Which sources of models can be reached, and what is in the way."""

import urllib.error
import urllib.request
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

from cosyserve.host.report import Check, Finding, Text
from cosyserve.machine import Machine, Platform, platform_of

SOURCES = Check("CS-NET-001", Text("Model sources", "模型来源"))
PROXIES = Check("CS-NET-002", Text("Proxies", "代理"))

MODEL_SOURCES = {
    "huggingface": "https://huggingface.co",
    "hf-mirror": "https://hf-mirror.com",
    "modelscope": "https://modelscope.cn",
}
_SECONDS = 4
_PROXY_NAMES = ("http_proxy", "https_proxy", "all_proxy")


def sources(addresses: Mapping[str, str] = MODEL_SOURCES) -> Finding:
    with ThreadPoolExecutor(len(addresses)) as threads:
        answers = dict(zip(addresses, threads.map(_answers, addresses.values()), strict=True))
    reached = [name for name, answer in answers.items() if answer]
    if not reached:
        return SOURCES.warn(
            Text(
                "none answers; what is on disk can be served, nothing can be downloaded",
                "均无法访问；可使用磁盘上已有的内容，但无法下载",
            ),
            Text(
                "set https_proxy, or download elsewhere and copy the folder",
                "请设置 https_proxy，或在别处下载后复制目录",
            ),
            answers=answers,
        )
    return SOURCES.ok(Text(", ".join(reached), "、".join(reached)), answers=answers)


def _answers(address: str) -> bool:
    """Any answer counts, even a refusal: it shows that the host was reached."""
    request = urllib.request.Request(address, method="HEAD")  # noqa: S310 - addresses are ours
    try:
        with urllib.request.urlopen(request, timeout=_SECONDS):  # noqa: S310
            return True
    except urllib.error.HTTPError:
        return True
    except (OSError, ValueError):
        return False


def proxies(machine: Machine) -> Finding:
    names = sorted(name for name in machine.environ if name.lower() in _PROXY_NAMES and machine.environ[name])
    turbo = machine.exists("/etc/network_turbo")
    facts = {"variables": names, "network_turbo": turbo}  # never their values: they may hold a password
    if platform_of(machine) is Platform.AUTODL and names:
        return PROXIES.warn(
            Text(
                "AutoDL's network_turbo or a proxy is on; it slows ModelScope and mirrors in China down",
                "已开启 AutoDL 学术加速或代理，会拖慢 ModelScope 和国内镜像",
            ),
            Text("unset " + " ".join(names), "unset " + " ".join(names)),
            **facts,
        )
    if names:
        return PROXIES.ok(Text(", ".join(names) + " set", "已设置 " + "、".join(names)), **facts)
    return PROXIES.ok(Text("none", "无"), **facts)
