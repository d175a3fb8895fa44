"""The log: one stream of records, as text in a terminal and as JSON where a program reads it.

A server sends its records as JSON lines to its supervisor, and only the supervisor writes the stream and the file.
Output of libraries becomes records too. Nothing waits for the log: if a terminal is paused, a reader is stuck or a disk
is full, lines are dropped and counted; requests are unaffected.
"""

import errno
import json
import logging
import os
import select
import sys
import time
from contextvars import ContextVar
from datetime import datetime, timezone
from io import TextIOWrapper
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Literal

from cosyserve import errors, paths
from cosyserve.errors import CosyError
from cosyserve.repeats import Repeats
from cosyserve.settings import Settings

log = logging.getLogger(__name__)

request_id: ContextVar[str] = ContextVar("request_id", default="")
"""The request that the running task works for; every record made meanwhile carries it."""

trace_id: ContextVar[str] = ContextVar("trace_id", default="")
"""The trace of that request; empty where none is made."""

# What a person starts the server for: it is said at every level, and in a terminal without a prefix.
announcements = logging.getLogger("cosyserve.announcement")
announcements.setLevel(logging.INFO)

# Set where the stream is a file that nobody turns over: it gets no more than what a start that fails has to say.
DETACHED = "_COSYSERVE_DETACHED"

# The stream's format where neither the settings nor the command ask for one: that of what was said before the start.
UNASKED = "_COSYSERVE_LOG_UNASKED"

_STDERR = 2
_PATIENCE = 200  # milliseconds that a line waits for a slow reader
_COMPLAINT_SECONDS = 60  # between two complaints about the log file

_secrets: set[str] = set()


def hide(secret: str) -> None:
    """Keep `secret` out of the log, no matter what prints it."""
    if secret:
        _secrets.add(secret)


def without_secrets(text: str) -> str:
    for secret in _secrets:
        text = text.replace(secret, "***")
    return text


class JsonFormatter(logging.Formatter):
    """One object a line; `record_of` reads it back."""

    def format(self, record: logging.LogRecord) -> str:
        fields = {
            "time": datetime.fromtimestamp(record.created, timezone.utc).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if about := getattr(record, "request_id", ""):
            fields["request_id"] = about
        if trace := getattr(record, "trace_id", ""):
            fields["trace_id"] = trace
        if exception := _exception_of(self, record):
            fields["exception"] = exception
        return without_secrets(json.dumps(fields, ensure_ascii=False))


class TextFormatter(logging.Formatter):
    """Text for people: the ids of the request and its trace come last, announcements have no prefix."""

    def format(self, record: logging.LogRecord) -> str:
        line = record.getMessage()
        if record.name != announcements.name:
            about = " ".join(filter(None, (getattr(record, name, "") for name in ("request_id", "trace_id"))))
            line = f"{self.formatTime(record)} {record.levelname} {line}" + (f" [{about}]" if about else "")
        exception = _exception_of(self, record)
        return without_secrets(f"{line}\n{exception}" if exception else line)


def _exception_of(formatter: logging.Formatter, record: logging.LogRecord) -> str:
    return record.exc_text or (formatter.formatException(record.exc_info) if record.exc_info else "")


def record_of(line: str) -> logging.LogRecord | None:
    """The record that `JsonFormatter` wrote as `line`; None if it is something else."""
    try:
        fields = json.loads(line)
        level = logging.getLevelName(fields["level"].upper())
        return logging.makeLogRecord(
            {
                "name": fields["logger"],
                "levelno": logging.INFO if isinstance(level, str) else level,
                "levelname": fields["level"].upper(),
                "msg": str(fields["message"]),
                "created": datetime.fromisoformat(fields["time"]).timestamp(),
                "request_id": fields.get("request_id", ""),
                "trace_id": fields.get("trace_id", ""),
                "exc_text": fields.get("exception"),
            }
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


class LogStream(logging.Handler):
    """Writes to a descriptor that may be stuck or full. A line that cannot be written is dropped and counted."""

    def __init__(self, descriptor: int) -> None:
        super().__init__()
        self._descriptor = descriptor
        self._poll = select.poll()
        self._poll.register(descriptor, select.POLLOUT)
        self._lost, self._cut = 0, False

    def emit(self, record: logging.LogRecord) -> None:
        text = self.format(record)
        if self._lost:
            lost = f"{self._lost} log lines were dropped because nothing read them"
            text = self.format(_own_record(logging.WARNING, lost)) + "\n" + text
        data = (("\n" if self._cut else "") + text + "\n").encode(errors="backslashreplace")
        while data:
            try:
                # Whoever was late once is waited for no more until there is room again.
                if not self._poll.poll(0 if self._lost else _PATIENCE):
                    raise BlockingIOError
                # No more than a pipe takes at once when it says that it has room: the write cannot wait.
                data = data[os.write(self._descriptor, data[: select.PIPE_BUF]) :]
                self._cut = bool(data)
            except OSError:
                self._lost += 1
                return
        self._lost = 0


class File(RotatingFileHandler):
    """The log file. If it cannot be written, `other` is told so from time to time."""

    def __init__(self, path: Path, max_bytes: int, kept: int, other: logging.Handler) -> None:
        super().__init__(path, maxBytes=max_bytes, backupCount=kept, encoding="utf-8", errors="replace", delay=True)
        self._path, self._other, self._complained = path, other, -float(_COMPLAINT_SECONDS)

    def _open(self) -> TextIOWrapper:
        return open(self._path, "a", encoding=self.encoding, errors=self.errors, opener=paths.without_waiting)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's own name
        if time.monotonic() - self._complained >= _COMPLAINT_SECONDS:
            self._complained = time.monotonic()
            problem = sys.exc_info()[1]
            self._other.handle(_own_record(logging.ERROR, f"The log file {self._path} cannot be written: {problem}"))


def _own_record(level: int, message: str) -> logging.LogRecord:
    return logging.makeLogRecord(
        {"name": __name__, "levelno": level, "levelname": logging.getLevelName(level), "msg": message}
    )


def _add_ids(record: logging.LogRecord) -> bool:
    if not hasattr(record, "request_id"):
        record.request_id, record.trace_id = request_id.get(), trace_id.get()
    return True


def start(settings: Settings, unasked: Literal["text", "json"] | None = None) -> None:
    """Sets up the log of a command, on standard error and in the configured file.

    `unasked` is the stream's format if the settings name none; by default it depends on whether there is a terminal.
    Raises `CS-SET-001` if the log file is unusable.
    """
    _open_standard_descriptors()
    chosen = settings.log_format if settings.log_format != "auto" else unasked or os.environ.get(UNASKED)
    readable = chosen == "text" or (chosen is None and os.isatty(_STDERR))
    stream = LogStream(_STDERR)
    stream.setFormatter(TextFormatter() if readable else JsonFormatter())
    if settings.log_file is not None and DETACHED in os.environ:
        stream.setLevel(logging.ERROR)
    handlers: list[logging.Handler] = [stream]
    if settings.log_file is not None:
        path = Path(os.path.expanduser(settings.log_file))  # noqa: PTH111 - which leaves alone what it cannot expand
        _expect_writable(path)
        file = File(path, settings.log_file_bytes, settings.log_files, stream)
        file.setFormatter(TextFormatter() if settings.log_format == "text" else JsonFormatter())
        handlers.append(file)
    _install(settings, handlers)


def _expect_writable(path: Path) -> None:
    """A disk may be full now and have room later, so that does not stop the server; a place that can never be written
    is a mistake."""
    try:
        paths.expect_file(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        os.close(paths.without_waiting(str(path), os.O_WRONLY | os.O_CREAT | os.O_APPEND))
    except (OSError, ValueError) as error:
        if getattr(error, "errno", None) not in (errno.ENOSPC, errno.EDQUOT):
            raise CosyError(errors.SETTING_INVALID, details=f"COSYSERVE_LOG_FILE: {error}") from None


def _open_standard_descriptors() -> None:
    """If this process was started with them closed, a socket could get one of their numbers, and the log would go into
    it."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= _STDERR:
        pass
    os.close(descriptor)


def start_in_server(settings: Settings) -> None:
    """Sets up the log of a supervised server: JSON for its supervisor."""
    # Libraries that print addresses, headers and texts at level debug, and an address for each WebSocket at any.
    for name in ("uvicorn.error", "python_multipart"):
        logging.getLogger(name).setLevel(logging.INFO)
    logging.getLogger("uvicorn.error").addFilter(lambda record: "WebSocket %s" not in str(record.msg))
    stream = LogStream(_STDERR)
    stream.setFormatter(JsonFormatter())
    _install(settings, [stream])


def _install(settings: Settings, handlers: list[logging.Handler]) -> None:
    for key in settings.key_list():
        hide(key)
    for handler in handlers:
        handler.addFilter(Repeats(handler))
        handler.addFilter(_add_ids)
    logging.basicConfig(level=settings.log_level.upper(), handlers=handlers, force=True)
    logging.captureWarnings(True)
