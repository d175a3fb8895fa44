"""Every setting of CosyServe, in one class with one prefix. `docs/settings.md` is generated from it."""

import difflib
import os
from io import StringIO
from pathlib import Path
from typing import Any, Literal

from dotenv import dotenv_values
from dotenv.parser import parse_stream
from pydantic import Field, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from cosyserve import errors, paths
from cosyserve.errors import CosyError
from cosyserve.host import wsl
from cosyserve.host.machine import Machine

PREFIX = "COSYSERVE_"
OFF_WINDOWS = Path(".local/share/cosyserve/models")  # in the home folder
ENV_FILE = Path(".env")
KEY_FILE = "api_key"  # in the state folder, where a key that is made lies
_OF_CONTAINERS = ("NAME", "IMAGE")  # of scripts/image and docker/compose.yaml, which read the same file
_ENCODING = "utf-8-sig"  # Windows' editors begin a file with a mark that says so


class Settings(BaseSettings):
    """Read from the environment, then from `.env` in the working directory; the environment wins."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_file=ENV_FILE, env_file_encoding=_ENCODING, env_ignore_empty=True, extra="ignore"
    )

    host: str = Field(
        "127.0.0.1",
        description="Address to listen on. Anything but loopback lets others in, and makes an API key necessary.",
    )
    port: int = Field(6008, ge=0, le=65535, description="Port to listen on; 0 takes a free one and prints it.")
    publish: str = Field(
        "",
        pattern=r"^(\S+:\d{1,5})?$",
        description="In a container, where its host publishes the port: `ADDRESS:PORT`, as in `docker run --publish`. "
        "`make docker-run` and compose pass it on. It is announced; where it is loopback, the host itself is asked for "
        "no key unless keys are set.",
    )
    synthesizer: Literal["auto", "preview", "cosyvoice2"] = Field(
        "auto",
        description="Which synthesizer speaks. `auto` takes CosyVoice2 where its model is, else the preview; the "
        "server says which and why.",
    )
    models_dir: Path = Field(
        Path("pretrained_models"),
        description="Folder that holds `CosyVoice2-0.5B`. On a disk of Windows, which WSL2 reads slowly, it is "
        "`~/.local/share/cosyserve/models` where nothing is set.",
    )
    offer: Literal["auto", "always", "never"] = Field(
        "auto",
        description="Whether `make run-local` asks to fetch CosyVoice2 where it is not there. `auto` asks in a "
        "terminal, and not again after a no; `always` asks at each start in one.",
    )
    hf_mirror: str = Field(
        "https://hf-mirror.com", description="The mirror of Hugging Face that `cosyserve fetch` may take models from."
    )
    fetch_stall_seconds: float = Field(
        60, gt=0, description="A download that brings nothing for so many seconds is taken from the next source."
    )
    voices_dir: Path = Field(Path("voices"), description="Folder of your voices; it is made when one is added.")
    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description="Where CosyVoice2 runs. `auto` takes a CUDA device where PyTorch sees one."
    )
    dtype: Literal["auto", "float32", "bfloat16", "float16", "int8"] = Field(
        "auto",
        description="Number type CosyVoice2 runs in. `auto` is bfloat16 on a CUDA device and on a processor that is "
        "faster in it, which the first start measures; else float32. `int8`, for processors, has the language model's "
        "weights in eight bits, and all else as `auto`.",
    )
    backend: Literal["auto", "torch", "trtllm"] = Field(
        "auto",
        description="What draws CosyVoice2's speech tokens. `auto` takes an engine of TensorRT-LLM where `cosyserve "
        "build` has made one for this card, else PyTorch.",
    )
    build_seconds: float = Field(1800, gt=0, description="Longest build of an engine, in seconds. It takes minutes.")
    keep_engines: int = Field(2, ge=1, description="Engines that are kept; older ones are removed after a build.")
    past_seconds: float = Field(
        15,
        ge=0,
        description="How far back CosyVoice2's flow sees, in seconds of speech, the recording included. Each second "
        "takes 115 MB in bfloat16 and twice that in float32, for each stream; on a CUDA device a recording takes them "
        "once for all its streams. 0 is everything, as it was trained.",
    )
    flow_steps: int = Field(
        10,
        ge=4,
        le=10,
        description="Euler steps of CosyVoice2's flow. Ten are as upstream speaks; fewer take less time and memory, in "
        "proportion, and change the sound. `cosyserve bench flow-steps` prints what they save and change.",
    )
    recording_seconds: float = Field(
        8,
        gt=0,
        description="How much of that is a voice's recording: of a longer one CosyVoice2's flow sees the end, at "
        "least a second less than COSYSERVE_PAST_SECONDS. The language model always reads all of it.",
    )
    whole_attention: bool = Field(
        True,
        description="Whether CosyVoice2 sees a whole segment at once where the client waits for the whole "
        "(`stream: false`), as it does upstream; it sounds a little better. Without it a seed gives the same samples "
        "as in a stream.",
    )
    trim_silence: bool = Field(
        False, description="Whether CosyVoice2's segments begin with their first sound instead of a silence."
    )
    voice: str = Field("", description="Voice of requests that name none; empty takes the synthesizer's first voice.")
    api_keys: SecretStr = Field(
        SecretStr(""),
        description="Keys that clients must send as `Authorization: Bearer KEY`, separated by commas or lines.",
    )
    api_keys_file: Path | None = Field(None, description="File to read `COSYSERVE_API_KEYS` from.")
    auth: Literal["auto", "off"] = Field(
        "auto",
        description="`auto` asks for a key when keys are set or the address is not loopback, and makes a key when "
        "none is set. `off` lets everybody in who reaches the port.",
    )
    cors_origins: str = Field(
        "",
        description="Web origins whose pages may call the API, separated by commas; `*` is all. Empty is none.",
    )
    allowed_hosts: str = Field(
        "",
        description="Names by which a server that asks for no key may be addressed, besides those of this machine, "
        "separated by commas; `*` is all. A web page that has its own name point here is thus kept out.",
    )
    max_connections: int = Field(
        1024,
        ge=1,
        description="Connections that are open at the same time, as far as the system's limit of open files lets.",
    )
    idle_seconds: float = Field(
        300,
        gt=0,
        description="A WebSocket on which nothing is written or spoken for so many seconds is closed.",
    )
    max_streams: int = Field(
        16,
        ge=1,
        description="Requests that are served at the same time, at most. `/readyz` says for how many there is room, "
        "and what bounds it: a card's memory, the engine, or two on a processor.",
    )
    replicas: int = Field(
        0,
        ge=0,
        description="Replicas that speak on this machine, on Ray Serve, each with a graphics card of its own or a "
        "share of one; `COSYSERVE_MAX_STREAMS` is what each of them does. 0 is a server that speaks itself, without "
        "Ray.",
    )
    replica_python: Path | None = Field(
        None,
        description="The Python of another environment that replicas speak in, such as one with TensorRT-LLM, which "
        "cannot be installed beside Ray. Empty is the server's own.",
    )
    max_queue: int = Field(32, ge=0, description="Requests that may wait for a free stream; more get a 429.")
    queue_seconds: float = Field(
        30, gt=0, description="Longest wait for a free stream, in seconds; then a 429 is sent."
    )
    max_text_chars: int = Field(20_000, ge=1, description="Longest text of one request, in characters.")
    max_upload_bytes: int = Field(
        10 * 1024 * 1024, ge=1024, description="Largest body of one request, in bytes, uploads included."
    )
    max_audio_seconds: float = Field(
        3600, gt=0, description="Longest audio of one request, in seconds; the stream is cut off there."
    )
    stall_seconds: float = Field(
        60, gt=0, description="A client that takes or sends nothing for so many seconds loses its stream."
    )
    grace_seconds: float = Field(
        30, ge=0, description="Time that running streams get to finish after SIGTERM, in seconds."
    )
    idle_shutdown_minutes: float = Field(
        0,
        ge=0,
        description="A machine that is rented by the hour is switched off (`shutdown`) after so many minutes without a "
        "request. 0 is never. The page shows it and can call it off.",
    )
    launch: Literal["auto", "direct", "isolated", "mpirun"] = Field(
        "auto", description="How a server that needs MPI is started; `auto` tries each way until one works."
    )
    mpi: Literal["auto", "always"] = Field(
        "auto",
        description="`auto` starts MPI only for an engine of TensorRT-LLM, which needs it; `always` starts it as "
        "`import tensorrt_llm` would, to prove a machine.",
    )
    mpi_seconds: float = Field(
        20, gt=0, description="Longest start of MPI, in seconds, before the next way is tried. Healthy is 1."
    )
    ready_seconds: float = Field(600, gt=0, description="Longest start of a server, in seconds, loading included.")
    heartbeat_seconds: float = Field(
        30, gt=0, description="A server that is not heard of for so many seconds is restarted."
    )
    synthesis_seconds: float = Field(
        120,
        gt=0,
        description="A server whose synthesis owes audio and makes none for so many seconds is restarted.",
    )
    state_dir: Path = Field(
        Path("~/.local/state/cosyserve"),
        description="Folder for what CosyServe makes itself, such as an API key.",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="How much the log says.")
    log_format: Literal["auto", "text", "json"] = Field(
        "auto", description="`auto` writes text to a terminal, and JSON, an object a line, to anything else."
    )
    log_file: Path | None = Field(None, description="File that the server's log is written to as well.")
    log_file_bytes: int = Field(
        10 * 1024 * 1024, ge=1024, description="Size from which the log file is put aside and a new one begun."
    )
    log_files: int = Field(5, ge=1, le=1000, description="Log files that are kept beside the newest.")

    @model_validator(mode="after")
    def _read_secret_files(self) -> "Settings":
        for name in type(self).model_fields:
            path = getattr(self, f"{name}_file", None)
            if path is None:
                continue
            if getattr(self, name).get_secret_value():
                raise ValueError(f"{PREFIX}{name.upper()} and {PREFIX}{name.upper()}_FILE are both set")
            try:
                setattr(self, name, SecretStr(paths.text_of(path)))
            except ValueError as error:
                raise ValueError(f"{PREFIX}{name.upper()}_FILE cannot be read: {error}") from None
        return self

    @model_validator(mode="after")
    def _refuse_unusable_keys(self) -> "Settings":
        """What was set and comes to nothing would leave the door open."""
        given = self.api_keys.get_secret_value()
        if given or self.api_keys_file is not None:
            try:
                keys_in(given)
            except ValueError as error:
                name = "API_KEYS" if self.api_keys_file is None else "API_KEYS_FILE"
                raise ValueError(f"{PREFIX}{name}: {error}") from None
        return self

    def check_paths(self) -> None:
        """Raises `CS-SET-001` where something of another kind lies at a path.

        Loading does not look: a network disk that is dead would be waited for, which the doctor has to tell.
        """
        for name, expect in _EXPECTED.items():
            path = getattr(self, name)
            try:
                if path is not None:
                    expect(path)
            except ValueError as error:
                raise CosyError(errors.SETTING_INVALID, details=f"{PREFIX}{name.upper()}: {error}") from None

    def key_list(self) -> list[str]:
        """The configured API keys, in order; none where none is set."""
        given = self.api_keys.get_secret_value()
        return keys_in(given) if given else []

    def cors_list(self) -> list[str]:
        """Origins as browsers write them."""
        return [origin.lower().rstrip("/") for origin in _listed(self.cors_origins)]

    def allowed_host_list(self) -> list[str]:
        return _listed(self.allowed_hosts)


def _listed(text: str) -> list[str]:
    return [each.strip() for each in text.split(",") if each.strip()]


_EXPECTED = {
    "models_dir": paths.expect_folder,
    "voices_dir": paths.expect_folder,
    "state_dir": paths.expect_folder,
    "log_file": paths.expect_file,
    "replica_python": paths.expect_program,
}


def keys_in(text: str) -> list[str]:
    """Keys that commas or lines part. Raises ValueError where there is none, or one that no header can hold or nobody
    can have meant; the keys themselves are not told."""
    keys = [key.strip(" \t\r") for key in text.replace(",", "\n").split("\n")]
    keys = [key for key in keys if key]
    if not keys:
        raise ValueError("there is no API key in it")
    if not all(key.isprintable() and " " not in key for key in keys):
        raise ValueError("an API key holds white space, a control character or a byte order mark")
    return keys


def load_settings(**overrides: Any) -> Settings:
    """The settings of this process; `overrides` (command-line options) win where they are not None.

    Raises `CS-SET-001` where a setting has no usable value, `CS-SET-004` where `.env` cannot be read.
    """
    env_text()
    try:
        settings = Settings(**{name: value for name, value in overrides.items() if value is not None})
    except ValidationError as error:
        # No value is repeated: it may be a secret.
        details = "; ".join(
            ": ".join(
                [*(f"{PREFIX}{str(name).upper()}" for name in each["loc"]), each["msg"].removeprefix("Value error, ")]
            )
            for each in error.errors(include_input=False, include_url=False)
        )
        raise CosyError(errors.SETTING_INVALID, details=details) from None
    if "models_dir" not in settings.model_fields_set and wsl.on_windows_disk(Machine(), Path.cwd()):
        settings.models_dir = Path.home() / OFF_WINDOWS
    return settings


def env_text(path: Path = ENV_FILE) -> str:
    """What stands in a file of settings, empty where there is none; raises `CS-SET-004`.

    What is no file is passed over by those who read it, and so would be all the settings in it.
    """
    try:
        text = paths.text_of(path) if os.path.lexists(path) else ""
        _expect_whole(text)
    except ValueError as error:
        raise CosyError(errors.ENV_FILE_UNUSABLE, path=path.absolute(), reason=error) from None
    return text


def _expect_whole(text: str) -> None:
    """Raises ValueError where a line is passed over by its reader, or a setting of ours comes to nothing: a key that is
    lost so would leave the door open."""
    for line in parse_stream(StringIO(text)):
        if line.error:
            raise ValueError(f"line {line.original.line} cannot be understood")
    written = dotenv_values(stream=StringIO(text), interpolate=False)
    for name, value in dotenv_values(stream=StringIO(text)).items():
        if name.upper().startswith(PREFIX) and written[name] and not value:
            raise ValueError(f"{name} is made of something that is not set")


def unknown_keys() -> dict[str, str | None]:
    """`COSYSERVE_*` names in the environment or `.env` that are no setting, each with the nearest real one."""
    known = [*(name.upper() for name in Settings.model_fields), *_OF_CONTAINERS]
    given = {*os.environ, *(dotenv_values(ENV_FILE, encoding=_ENCODING) if ENV_FILE.is_file() else ())}
    names = [name.upper().removeprefix(PREFIX) for name in sorted(given) if name.upper().startswith(PREFIX)]
    nearest = {name: difflib.get_close_matches(name, known, 1) for name in names if name not in known}
    return {PREFIX + name: PREFIX + close[0] if close else None for name, close in nearest.items()}
