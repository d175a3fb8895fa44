"""The main keys: those that are set, or one that is generated."""

import logging
import os
import secrets
from contextlib import suppress

from cosyserve import errors, logs, paths
from cosyserve.addresses import is_loopback
from cosyserve.command import into_container
from cosyserve.errors import CosyError
from cosyserve.files import create_atomically
from cosyserve.host.ownership import expect_readable
from cosyserve.keys.key_file import KeyFile
from cosyserve.settings import KEY_FILE, Settings, keys_in

log = logging.getLogger(__name__)


def makes_key(settings: Settings) -> bool:
    """Whether a server with these settings generates a key. Where there are named keys, the owner needs one, too."""
    if settings.auth == "off" or settings.key_list():
        return False
    return not is_loopback(settings.host) or KeyFile(settings.state_dir).exists


def accepted_keys(settings: Settings, *, host_needs_none: bool = False) -> list[str]:
    """The main keys that let a client in; none means that everybody may come in.

    On loopback no key is needed by default. On any other address one is generated if none is set; otherwise anybody who
    finds the open port could use it at the owner's cost. `host_needs_none` is for the log: see `published`.
    """
    if settings.api_key.get_secret_value() and not settings.key_list():
        log.warning(
            "COSYSERVE_API_KEY is what `say --server` sends and lets nobody in here. The keys of this server are "
            "COSYSERVE_API_KEYS. / COSYSERVE_API_KEY 是 say --server 发送的密钥，并非本服务器的密钥；"
            "本服务器的密钥请用 COSYSERVE_API_KEYS 设置。"
        )
    if settings.auth == "off":
        if not is_loopback(settings.host):
            log.warning(
                "COSYSERVE_AUTH=off on %s: ANYBODY who reaches this port can use the server. / "
                "COSYSERVE_AUTH=off：任何能访问 %s 的人都可以使用本服务器。",
                *(settings.host, settings.host),
            )
        return []
    if not makes_key(settings):
        return settings.key_list()
    key = made_key(settings)
    logs.hide(key)
    shown_by = f"{into_container()}cat {settings.state_dir / KEY_FILE}"
    if is_loopback(settings.host):
        log.info(
            "Clients need a key, because there are named keys; this shows the main one: %s / "
            "已有具名密钥，客户端须使用密钥；以下命令显示主密钥：%s",
            *(shown_by, shown_by),
        )
    elif host_needs_none:
        log.info(
            "The port is published on the host's loopback alone, and the host itself needs no key. Others need the one "
            "that this shows: %s / 端口仅发布在宿主机的回环地址上，宿主机本身无需密钥。"
            "其他客户端须使用以下命令显示的密钥：%s",
            *(shown_by, shown_by),
        )
    else:
        log.warning(
            "The server is open to the network on %s and COSYSERVE_API_KEYS is not set: clients need the key that this "
            "shows: %s / 服务器对网络开放且未设置 COSYSERVE_API_KEYS：客户端须使用以下命令显示的密钥：%s",
            *(settings.host, shown_by, shown_by),
        )
    return [key]


def made_key(settings: Settings) -> str:
    """The key in the state folder, generated at the first start and readable only by its owner.

    Raises `CS-SET-001` if the folder cannot hold it, `CS-SET-005` if the file there does not hold exactly one key,
    `CS-SET-006` if it belongs to another user.
    """
    try:
        path = settings.state_dir.expanduser() / KEY_FILE
        if not os.path.lexists(path):
            with suppress(FileExistsError):  # two servers start at once, and the other was first
                create_atomically(path, secrets.token_urlsafe(32) + "\n", mode=0o600)
    except (OSError, RuntimeError) as error:  # the second where there is no home
        raise CosyError(errors.SETTING_INVALID, details=f"COSYSERVE_STATE_DIR: {error}") from error
    expect_readable(path)
    try:
        first, *others = keys_in(paths.text_of(path))
        if others:
            raise ValueError("there are several keys in it")
    except ValueError as error:
        raise CosyError(errors.KEY_FILE_UNUSABLE, path=path, reason=error) from None
    return first
