"""Where a server is, as users write it."""

from dataclasses import dataclass
from urllib.parse import SplitResult, quote, urlsplit

from cosyserve import errors
from cosyserve.addresses import is_loopback
from cosyserve.errors import CosyError

_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True)
class Address:
    """`prefix` is what a proxy has put before the server's own paths, without a slash at its end."""

    scheme: str
    host: str
    port: int
    prefix: str

    @property
    def url(self) -> str:
        """As messages name it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        port = "" if self.port == _PORTS[self.scheme] else f":{self.port}"
        return f"{self.scheme}://{host}{port}{self.prefix}"

    @property
    def is_here(self) -> bool:
        """Whether only this machine answers there."""
        return is_loopback(self.host)


def address_of(written: str) -> Address:
    """Without a scheme it is http. `/v1` at the end, which OpenAI's clients want, is left out. Raises `CS-SAY-004`."""
    written = written.strip()
    try:
        url = urlsplit(written if "://" in written else f"http://{written}")
        host, port = url.hostname or "", url.port
    except ValueError as error:
        raise _unfit(written, str(error), str(error)) from None
    _check(written, url)
    prefix = quote(url.path, safe="/%~:@!$&'()*+,;=").rstrip("/").removesuffix("/v1")
    return Address(url.scheme, host, _PORTS[url.scheme] if port is None else port, prefix)


def _check(written: str, url: SplitResult) -> None:
    if url.username is not None or url.password is not None:
        hidden = written.replace(url.netloc, url.netloc.rpartition("@")[2])
        raise _unfit(hidden, "a key belongs into COSYSERVE_API_KEY", "密钥应放在 COSYSERVE_API_KEY 中")
    if url.scheme not in _PORTS:
        raise _unfit(written, "it begins neither with http:// nor with https://", "须以 http:// 或 https:// 开头")
    if not url.hostname or not url.hostname.isprintable() or " " in url.netloc:
        raise _unfit(written, "there is no host in it", "其中没有主机名")
    if url.query or url.fragment:
        raise _unfit(written, "there is a ? or a # in it", "其中含有 ? 或 #")


def _unfit(written: str, reason: str, reason_zh: str) -> CosyError:
    return CosyError(errors.SERVER_ADDRESS, url=written[:200], reason=reason, reason_zh=reason_zh)
