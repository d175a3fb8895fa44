"""Adds a text of any name to an MP4's metadata. libav cannot do that together with the names that players know."""

import io
import struct
from typing import IO

_HEAD = struct.Struct(">I4s")
_PATH = (b"udta", b"meta", b"ilst")  # within `moov`
_TEXT = struct.pack(">II", 1, 0)  # the value is UTF-8, of no country


def add_text(file: IO[bytes], name: str, text: str) -> None:
    """In `file`, a complete MP4 that ends with its `moov` and has metadata already; it is read and written. The form is
    iTunes', `----:com.apple.iTunes:NAME`. Raises ValueError if the file is another one."""
    start, moov = _last(file)
    begin, opened = _HEAD.size, [0]
    for box in _PATH:
        begin = _find(moov, box, begin, opened[-1])
        opened.append(begin)
        begin += _HEAD.size + (4 if box == b"meta" else 0)  # which has a version before its content
    added = _freeform(name, text)
    end = opened[-1] + _size(moov, opened[-1])
    moov[end:end] = added
    for box_start in opened:
        struct.pack_into(">I", moov, box_start, _size(moov, box_start) + len(added))
    file.seek(start)
    file.write(moov)


def _last(file: IO[bytes]) -> tuple[int, bytearray]:
    """The last box and where it begins."""
    whole, position = file.seek(0, io.SEEK_END), 0
    while True:
        file.seek(position)
        size, name = _HEAD.unpack(file.read(_HEAD.size).ljust(_HEAD.size, b"\0"))
        if size == 1:  # too large for its field, so it stands behind the name
            size = int.from_bytes(file.read(8), "big")
        if not size or position + size >= whole:
            break
        position += size
    if name != b"moov" or position + size != whole:
        raise ValueError("the file does not end with its moov")
    file.seek(position)
    return position, bytearray(file.read(size))


def _find(data: bytearray, name: bytes, begin: int, inside: int) -> int:
    """Where the box `name` begins in the box that begins at `inside`, whose content begins at `begin`."""
    end = inside + _size(data, inside)
    while begin + _HEAD.size <= end:
        size, found = _HEAD.unpack_from(data, begin)
        if found == name:
            return begin
        if size < _HEAD.size:
            break
        begin += size
    raise ValueError(f"there is no {name.decode()}")


def _size(data: bytearray, start: int) -> int:
    return int.from_bytes(data[start : start + 4], "big")


def _freeform(name: str, text: str) -> bytes:
    parts = ((b"mean", bytes(4) + b"com.apple.iTunes"), (b"name", bytes(4) + name.encode()))
    return _box(b"----", b"".join(_box(*part) for part in (*parts, (b"data", _TEXT + text.encode()))))


def _box(name: bytes, content: bytes) -> bytes:
    return _HEAD.pack(_HEAD.size + len(content), name) + content
