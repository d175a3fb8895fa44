"""Which key a request has, by the keys as they are at this moment."""

import hmac
import logging
from collections.abc import Iterable, Mapping, Sequence

from cosyserve.errors import CosyError
from cosyserve.keys.key import MAIN, Key, NamedKey
from cosyserve.keys.key_file import KeyFile, digest
from cosyserve.keys.main_key import accepted_keys, made_key, makes_key
from cosyserve.settings import Settings

log = logging.getLogger(__name__)


class Keyring:
    """The main keys are those of the start. The named ones are read again when their file has changed.

    A server that once needed a key needs one until it ends: a file that is removed or damaged meanwhile opens nothing.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings, self._file = settings, KeyFile(settings.state_dir)
        self._main: Sequence[bytes] = ()
        self._named: Mapping[str, NamedKey] = {}
        self._digests: Sequence[tuple[bytes, NamedKey]] = ()
        self._seen: tuple[int, ...] = ()
        self.by_name = False  # whether there are named keys, or were

    def open(self, *, host_needs_none: bool = False) -> None:
        """Read all keys; raises `CS-KEY-001`, `CS-SET-…` if they cannot be used. `host_needs_none`: see
        `accepted_keys`."""
        host_needs_none = host_needs_none and not self._file.exists
        self._main = _encoded(accepted_keys(self._settings, host_needs_none=host_needs_none))
        if self._settings.auth != "off" and (seen := self._file.stamp()):
            self._take_in(self._file.read(), seen)

    @property
    def needed(self) -> bool:
        """Whether requests need a key."""
        self._look()
        return bool(self._main) or self.by_name

    @property
    def named(self) -> Mapping[str, NamedKey]:
        """The named keys by their names."""
        self._look()
        return self._named

    def find(self, given: Iterable[bytes]) -> Key | None:
        """The key that is among the `given`; None if none is. Every key is compared, each in constant time, so that
        timing tells nothing about any."""
        self._look()
        found: Key | None = None
        for each in given:
            hashed = digest(each)
            for main in self._main:
                if hmac.compare_digest(each, main):
                    found = MAIN
            for kept, key in self._digests:
                if hmac.compare_digest(hashed, kept):
                    found = found or key
        return found

    def current(self, key: Key) -> Key | None:
        """The key as it is now, whose limits may have changed; None if it has been revoked."""
        if not isinstance(key, NamedKey):
            return key
        now = self.named.get(key.name)
        return now if now is not None and now.sha256 == key.sha256 else None

    def is_revoked(self, name: str, sha256: str) -> bool:
        """Whether a key of that name and digest is one of the named ones no longer."""
        named = self.named
        return self.by_name and name not in ("", MAIN.name) and (name not in named or named[name].sha256 != sha256)

    def _look(self) -> None:
        if self._settings.auth == "off" or (seen := self._file.stamp()) == self._seen:
            return
        try:
            if not self._main and makes_key(self._settings):  # the first named key has just been added
                self._main = _encoded(accepted_keys(self._settings))
            self._take_in(self._file.read(), seen)
        except CosyError as error:
            self._seen, self.by_name = seen, True
            log.error("%s", error)  # the keys that were known go on working

    def _take_in(self, keys: Sequence[NamedKey], seen: tuple[int, ...]) -> None:
        self._named, self._seen, self.by_name = {key.name: key for key in keys}, seen, True
        self._digests = [(bytes.fromhex(key.sha256), key) for key in keys]
        log.info("Named keys: %d / 具名密钥：%d 个", len(keys), len(keys))


def expect_keys(settings: Settings) -> None:
    """Make the main key if one is to be made, and raise what `Keyring.open` would raise."""
    if makes_key(settings):
        made_key(settings)
    if settings.auth != "off":
        KeyFile(settings.state_dir).read()


def _encoded(keys: Iterable[str]) -> list[bytes]:
    return [key.encode() for key in keys]
