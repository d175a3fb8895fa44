"""Brings files from one source into a folder, by the hub's own client; a program of its own, `python -m`.

In a process of its own the proxies can be those that suit the source, and a client that hangs can be ended. It reads
an `Order` from standard input, and prints an object a line: each file as it arrives, or why the rest does not come.
"""

import errno
import sys
from pathlib import Path
from typing import Literal

from pydantic import BaseModel

from cosyserve.store.manifest import File


class Order(BaseModel):
    hub: Literal["huggingface", "modelscope"]
    endpoint: str
    own_token: bool
    repository: str
    revision: str
    files: tuple[File, ...]
    into: Path


class Arrived(BaseModel):
    """`digest` is what the hub says the file has: a SHA-256, a git blob's SHA-1, or nothing."""

    path: str
    digest: str | None


class Failed(BaseModel):
    """`disk` is an error number of the system where it is the disk's fault, and no other source would help."""

    path: str
    reason: str
    disk: int | None


def huggingface(order: Order, file: File) -> str | None:
    from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url

    token = None if order.own_token else False
    repository, revision, endpoint = order.repository, order.revision, order.endpoint
    hf_hub_download(repository, file.source, revision=revision, endpoint=endpoint, local_dir=order.into, token=token)
    if file.sha256 is not None:
        return None
    address = hf_hub_url(repository, file.source, revision=revision, endpoint=endpoint)
    return get_hf_file_metadata(address, token=token).etag


def modelscope(order: Order, file: File) -> str | None:
    from modelscope_hub import HubApi

    api = HubApi(endpoint=order.endpoint)
    size, sha256 = file.size, file.sha256
    if sha256 is None:
        listed = next(
            each
            for each in api.list_repo_files(order.repository, "model", revision=order.revision, recursive=True)
            if each.path == file.source
        )
        size, sha256 = listed.size, listed.sha256
    api.download_file(
        order.repository,
        "model",
        file.source,
        revision=order.revision,
        local_dir=order.into,
        expected_sha256=sha256,
        file_size=size,
    )
    return sha256


def main() -> None:
    order = Order.model_validate_json(sys.stdin.read())
    bring = huggingface if order.hub == "huggingface" else modelscope
    for file in order.files:
        try:
            digest = bring(order, file)
        except Exception as error:  # whatever a client raises, the caller has other sources
            disk = error.errno if isinstance(error, OSError) and error.errno in _DISK else None
            reason = " ".join(str(error).split())[:160] or type(error).__name__
            print(Failed(path=file.path, reason=reason, disk=disk).model_dump_json(), flush=True)
            return
        print(Arrived(path=file.path, digest=digest).model_dump_json(), flush=True)


_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM)

if __name__ == "__main__":
    main()
