"""Every setting of CosyServe, in one class with one prefix. `docs/settings.md` is generated from it."""

import difflib
import os
from collections.abc import Iterable
from io import StringIO
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Any, Literal

from dotenv import dotenv_values
from dotenv.parser import parse_stream
from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from cosyserve import errors, paths
from cosyserve.errors import CosyError
from cosyserve.machine import Machine, on_windows_disk

PREFIX = "COSYSERVE_"
OFF_WINDOWS = Path(".local/share/cosyserve/models")  # in the home folder
ENV_FILE = Path(".env")
_OTEL = "OTEL_"
KEY_FILE = "api_key"  # in the state folder, where a key that is made lies
_COSYVOICE2 = "cosyvoice2-0.5b"
_OF_CONTAINERS = ("NAME", "IMAGE")  # of scripts/image and docker/compose.yaml, which read the same file
_EVERYWHERE = ("0.0.0.0/0", "::/0")
_ENCODING = "utf-8-sig"  # Windows' editors begin a file with a mark that says so


class Settings(BaseSettings):
    """Read from the environment, then from `.env` in the working directory; the environment wins."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_file=ENV_FILE, env_file_encoding=_ENCODING, env_ignore_empty=True, extra="ignore"
    )

    host: str = Field(
        "127.0.0.1",
        description="Address to listen on. Any address but loopback lets other machines connect, and clients then "
        "need a key.",
    )
    port: int = Field(6008, ge=0, le=65535, description="Port to listen on. 0 takes a free port and prints it.")
    publish: str = Field(
        "",
        pattern=r"^(\S+:\d{1,5})?$",
        description="In a container: the address and port on which the host publishes it, `ADDRESS:PORT`, as in "
        "`docker run --publish`. `make docker-run` and compose set it. The server prints this address. If "
        "it is loopback, requests from the host itself need no key unless keys are set.",
    )
    synthesizer: Literal["auto", "preview", "cosyvoice", "cosyvoice2"] = Field(
        "auto",
        description="Which synthesizer speaks. `auto` uses CosyVoice if its model is there, else the preview; the "
        "server says which one and why. `cosyvoice` uses CosyVoice or does not start. `cosyvoice2` is the "
        "same with `COSYSERVE_MODEL=cosyvoice2-0.5b`.",
    )
    model: Literal["auto", "cosyvoice2-0.5b", "cosyvoice3-0.5b"] = Field(
        "auto",
        description="Which model CosyVoice speaks with. `auto` uses the one that is there: CosyVoice3, if both are. "
        "`cosyserve fetch` without `--model` fetches this one; with `auto` and none there, CosyVoice2.",
    )
    models_dir: Path = Field(
        Path("pretrained_models"),
        description="Folder that contains `CosyVoice2-0.5B` or `Fun-CosyVoice3-0.5B`. In WSL2, in a folder on a "
        "Windows disk, which is slow to read, the default is `~/.local/share/cosyserve/models`.",
    )
    offer: Literal["auto", "always", "never"] = Field(
        "auto",
        description="Whether `make run-local` offers to download the model if it is missing. `auto` asks in a "
        "terminal until you say no once; `always` asks at each start in a terminal.",
    )
    hf_mirror: str = Field(
        "https://hf-mirror.com", description="Mirror of Hugging Face that `cosyserve fetch` may download models from."
    )
    fetch_stall_seconds: float = Field(
        60, gt=0, description="If a download receives nothing for this many seconds, the next source is tried."
    )
    voices_dir: Path = Field(Path("voices"), description="Folder of your voices. It is created when you add one.")
    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description="Where CosyVoice runs. `auto` uses a CUDA device if PyTorch finds one."
    )
    dtype: Literal["auto", "float32", "bfloat16", "float16", "int8"] = Field(
        "auto",
        description="Number type that CosyVoice computes in. `auto` is bfloat16 on a CUDA device, and on a processor "
        "if that is faster, which the first start measures; else float32. `int8`, for processors, stores "
        "the language model's weights in eight bits and treats everything else as `auto` does.",
    )
    backend: Literal["auto", "torch", "trtllm"] = Field(
        "auto",
        description="What draws CosyVoice's speech tokens. `auto` uses a TensorRT-LLM engine if `cosyserve build` "
        "has made one for this card, else PyTorch.",
    )
    build_seconds: float = Field(
        1800, gt=0, description="Longest time for building an engine, in seconds. A build takes minutes."
    )
    keep_engines: int = Field(2, ge=1, description="Number of engines to keep. Older ones are removed after a build.")
    past_seconds: float = Field(
        15,
        ge=0,
        description="How far back CosyVoice2's flow sees, in seconds of speech, including the voice's recording. Each "
        "second takes 115 MB per stream in bfloat16 and twice that in float32; on a CUDA device a "
        "recording takes its share only once for all its streams. 0 means everything, as the model was "
        "trained.",
    )
    flow_steps: int = Field(
        10,
        ge=4,
        le=10,
        description="Number of Euler steps of CosyVoice's flow. Upstream uses ten. Fewer steps take proportionally "
        "less time and memory, and change the sound. `cosyserve bench flow-steps` prints what they save "
        "and change.",
    )
    recording_seconds: float = Field(
        8,
        gt=0,
        description="How many of those seconds may be the voice's recording. The flow sees only the end of a longer "
        "one, and always at least one second less than COSYSERVE_PAST_SECONDS. The language model always "
        "reads the whole recording.",
    )
    whole_attention: bool = Field(
        True,
        description="Whether CosyVoice sees a whole segment at once if the client waits for the complete audio "
        "(`stream: false`), as upstream does. It sounds a little better. If off, a seed gives the same "
        "samples as in a stream.",
    )
    trim_silence: bool = Field(
        False, description="Whether to remove the silence before the first sound of each of CosyVoice's segments."
    )
    voice: str = Field("", description="Voice for requests that name none. Empty means the synthesizer's first voice.")
    label: Literal["metadata", "audible", "off"] = Field(
        "metadata",
        description="How speech says that a machine made it (docs/labels.md). `metadata` writes it into files and "
        "response headers; `audible` also begins each response with a rhythm of tones, 1.1 s long.",
    )
    label_producer: str = Field(
        "CosyServe",
        min_length=1,
        max_length=100,
        pattern=r"^[^\x00-\x1f\x7f]+$",
        description="Who made the speech, for its label: the name or the code of who offers the service.",
    )
    label_id_prefix: str = Field(
        "",
        pattern=r"^[\w.:-]{0,64}$",
        description="What the content id in each label begins with, before 32 hexadecimal digits.",
    )
    api_keys: SecretStr = Field(
        SecretStr(""),
        description="Main keys, separated by commas or lines. Clients send one as `Authorization: Bearer KEY`. Keys "
        "with names and limits are made with `cosyserve keys add` (docs/keys.md).",
    )
    api_keys_file: Path | None = Field(None, description="File to read `COSYSERVE_API_KEYS` from.")
    api_key: SecretStr = Field(
        SecretStr(""), description="Key that `cosyserve say --server` sends (docs/long-texts.md#with-a-server)."
    )
    auth: Literal["auto", "off"] = Field(
        "auto",
        description="`auto` requires a key if keys are set or the address is not loopback, and generates one if none "
        "is set. `off` lets in everybody who can reach the port.",
    )
    cors_origins: str = Field(
        "",
        description="Web origins whose pages may call the API, separated by commas. `*` means all, empty means none.",
    )
    allowed_hosts: str = Field(
        "",
        description="Host names that requests may use for a server without keys, besides the names of this machine, "
        "separated by commas. `*` means all. This keeps out web pages whose own name is made to point "
        "here (DNS rebinding).",
    )
    wyoming_port: int | None = Field(
        None,
        ge=0,
        le=65535,
        description="Port for Home Assistant and other clients of the Wyoming protocol, usually 10200 "
        "(docs/clients.md). Empty means none; 0 takes a free port and prints it.",
    )
    wyoming_host: str = Field(
        "127.0.0.1",
        description="Address to listen on for the Wyoming protocol. It has no key, so any address but loopback needs "
        "`COSYSERVE_WYOMING_CLIENTS`.",
    )
    wyoming_clients: str = Field(
        "",
        description="Addresses and networks from which Wyoming clients may connect, besides this machine, separated "
        "by commas: `192.168.1.20, 10.0.0.0/8`. `*` means all, `gateway` the host of a container.",
    )
    max_connections: int = Field(
        1024,
        ge=1,
        description="Most connections open at a time. The system's limit of open files may lower it.",
    )
    idle_seconds: float = Field(
        300,
        gt=0,
        description="A WebSocket is closed after this many seconds without text or audio.",
    )
    max_streams: int = Field(
        16,
        ge=1,
        description="Most requests spoken at a time. `/readyz` shows how many there is room for and what limits that: "
        "the card's memory, the engine, or two on a processor.",
    )
    replicas: int = Field(
        0,
        ge=0,
        description="Number of replicas on this machine, run by Ray Serve. Each has a graphics card of its own or an "
        "equal share of one, and speaks up to `COSYSERVE_MAX_STREAMS` requests. 0 means that the server "
        "speaks by itself, without Ray.",
    )
    replica_python: Path | None = Field(
        None,
        description="Python interpreter of another environment in which replicas run, such as one with TensorRT-LLM, "
        "which cannot be installed beside Ray. Empty means the server's own.",
    )
    max_queue: int = Field(
        32, ge=0, description="Most requests that may wait for a free stream. Further ones get a 429."
    )
    queue_seconds: float = Field(
        30, gt=0, description="Longest wait for a free stream, in seconds. Then the client gets a 429."
    )
    max_text_chars: int = Field(20_000, ge=1, description="Longest text of one request, in characters.")
    max_upload_bytes: int = Field(
        10 * 1024 * 1024, ge=1024, description="Largest body of one request, in bytes, including uploads."
    )
    max_audio_seconds: float = Field(
        3600, gt=0, description="Longest audio of one request, in seconds. The stream is cut off there."
    )
    max_jobs: int = Field(
        100,
        ge=0,
        description="Most jobs that are kept at a time, waiting and finished ones (docs/long-texts.md). 0 means that "
        "the server takes none.",
    )
    max_job_chars: int = Field(
        500_000,
        ge=1,
        description="Longest text of one job, in characters. The bytes of the request count for "
        "COSYSERVE_MAX_UPLOAD_BYTES, too.",
    )
    job_streams: int = Field(
        4,
        ge=1,
        description="Most streams that jobs use at a time, of those that requests leave free. More finish a job "
        "sooner, and requests beside it hear their first sound later.",
    )
    job_bytes: int = Field(
        10 * 1024**3, ge=1024, description="Room for all jobs together in the state folder, in bytes."
    )
    job_hours: float = Field(24, gt=0, description="How long a finished job is kept with its audio, in hours.")
    stall_seconds: float = Field(
        60, gt=0, description="A client that reads or sends nothing for this many seconds loses its stream."
    )
    grace_seconds: float = Field(
        30, ge=0, description="How long running streams may take to finish after SIGTERM, in seconds."
    )
    idle_shutdown_minutes: float = Field(
        0,
        ge=0,
        description="Switches off a machine rented by the hour (`shutdown`) after this many minutes without a "
        "request. 0 means never. The page shows the countdown and can cancel it.",
    )
    unload_seconds: float = Field(
        0,
        ge=0,
        description="After this many seconds without a request, CosyVoice's weights leave the graphics card, and the "
        "next request brings them back (docs/model.md). `/readyz` then says `asleep`. 0 means never.",
    )
    unload_to: Literal["memory", "disk"] = Field(
        "memory",
        description="Where the weights are meanwhile: `memory` keeps them in the host's memory (2 GB in bfloat16), "
        "`disk` reads the model's files again, which takes longer.",
    )
    wake_seconds: float = Field(
        60,
        gt=0,
        description="Longest wait of a request for the weights, in seconds. Then the client gets a 503.",
    )
    launch: Literal["auto", "direct", "isolated", "mpirun"] = Field(
        "auto", description="How to start a server that needs MPI. `auto` tries each way until one works."
    )
    mpi: Literal["auto", "always"] = Field(
        "auto",
        description="`auto` starts MPI only for a TensorRT-LLM engine, which needs it. `always` starts it as `import "
        "tensorrt_llm` would, to test a machine.",
    )
    mpi_seconds: float = Field(
        20,
        gt=0,
        description="How long MPI may take to start, in seconds, before the next way is tried. A healthy machine "
        "takes 1.",
    )
    ready_seconds: float = Field(
        600, gt=0, description="How long a server may take to start, in seconds, including loading the model."
    )
    heartbeat_seconds: float = Field(
        30, gt=0, description="A server that sends no heartbeat for this many seconds is restarted."
    )
    synthesis_seconds: float = Field(
        120,
        gt=0,
        description="A server that owes audio but makes none for this many seconds is restarted.",
    )
    state_dir: Path = Field(
        Path("~/.local/state/cosyserve"),
        description="Folder for files that CosyServe makes itself, such as an API key and compiled kernels.",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="How much to log.")
    log_format: Literal["auto", "text", "json"] = Field(
        "auto", description="`auto` logs text to a terminal and JSON, one object per line, to anything else."
    )
    log_file: Path | None = Field(None, description="File to which the log is also written.")
    log_file_bytes: int = Field(
        10 * 1024 * 1024, ge=1024, description="Size at which the log file is rotated, in bytes."
    )
    log_files: int = Field(5, ge=1, le=1000, description="Number of rotated log files to keep.")

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
    def _refuse_two_models(self) -> "Settings":
        if self.synthesizer == "cosyvoice2" and self.model not in ("auto", _COSYVOICE2):
            raise ValueError(
                f"{PREFIX}SYNTHESIZER=cosyvoice2 and {PREFIX}MODEL={self.model} name two models; "
                f"{PREFIX}SYNTHESIZER=cosyvoice takes the second"
            )
        return self

    @model_validator(mode="after")
    def _refuse_unusable_keys(self) -> "Settings":
        """Keys that were set but turn out empty would leave the server open to everybody."""
        given = self.api_keys.get_secret_value()
        if given or self.api_keys_file is not None:
            try:
                keys_in(given)
            except ValueError as error:
                name = "API_KEYS" if self.api_keys_file is None else "API_KEYS_FILE"
                raise ValueError(f"{PREFIX}{name}: {error}") from None
        return self

    @field_validator("api_key")
    @classmethod
    def _refuse_what_is_not_one_key(cls, given: SecretStr) -> SecretStr:
        if (key := given.get_secret_value()) and keys_in(key) != [key]:
            raise ValueError("it holds more than one key")
        return given

    @model_validator(mode="after")
    def _refuse_what_is_no_network(self) -> "Settings":
        try:
            self.wyoming_networks()
        except ValueError as error:
            raise ValueError(f"{PREFIX}WYOMING_CLIENTS: {error}") from None
        return self

    @property
    def named_model(self) -> str:
        """The model that is asked for by name; empty where whichever is there will do."""
        if self.synthesizer == "cosyvoice2":
            return _COSYVOICE2
        return "" if self.model == "auto" else self.model

    @property
    def insists(self) -> bool:
        """Whether CosyVoice is to speak or nobody."""
        return self.synthesizer in ("cosyvoice", "cosyvoice2")

    def check_paths(self) -> None:
        """Raises `CS-SET-001` if a path has the wrong kind of file. Loading the settings does not check: it would wait
        for a dead network disk, which the doctor has to report."""
        for name, expect in _EXPECTED.items():
            path = getattr(self, name)
            try:
                if path is not None:
                    expect(path)
            except ValueError as error:
                raise CosyError(errors.SETTING_INVALID, details=f"{PREFIX}{name.upper()}: {error}") from None

    def key_list(self) -> list[str]:
        """The configured API keys, in order; empty if none is set."""
        given = self.api_keys.get_secret_value()
        return keys_in(given) if given else []

    def cors_list(self) -> list[str]:
        """Origins as browsers write them."""
        return [origin.lower().rstrip("/") for origin in _listed(self.cors_origins)]

    def allowed_host_list(self) -> list[str]:
        return _listed(self.allowed_hosts)

    def wyoming_networks(self, gateways: Iterable[str] = ()) -> list[IPv4Network | IPv6Network]:
        """Whose clients may connect; `gateways` are the addresses that the name means."""
        meanings = {"*": _EVERYWHERE, "gateway": tuple(gateways)}
        return [ip_network(each) for name in _listed(self.wyoming_clients) for each in meanings.get(name, (name,))]


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
    """Keys separated by commas or lines. Raises ValueError if there is none, or if one cannot be sent in a header or is
    clearly a mistake; the message never contains the keys."""
    keys = [key.strip(" \t\r") for key in text.replace(",", "\n").split("\n")]
    keys = [key for key in keys if key]
    if not keys:
        raise ValueError("there is no API key in it")
    if not all(key.isprintable() and " " not in key for key in keys):
        raise ValueError("an API key holds white space, a control character or a byte order mark")
    return keys


def load_settings(**overrides: Any) -> Settings:
    """The settings of this process; `overrides` (command-line options) win if they are not None.

    Raises `CS-SET-001` if a setting has an invalid value, `CS-SET-004` if `.env` cannot be read.
    """
    return _loaded(Settings, Path(), {name: value for name, value in overrides.items() if value is not None})


def settings_in(folder: Path) -> Settings:
    """The settings of a server that is started in `folder` with none of them in its environment: those of its `.env`.

    Their paths are what they are to that server, wherever this process works. Raises as `load_settings` does.
    """

    class InFolder(Settings):
        model_config = SettingsConfigDict(env_file=folder / ENV_FILE)

        @classmethod
        def settings_customise_sources(
            cls,
            settings_cls: type[BaseSettings],
            init_settings: PydanticBaseSettingsSource,
            env_settings: PydanticBaseSettingsSource,
            dotenv_settings: PydanticBaseSettingsSource,
            file_secret_settings: PydanticBaseSettingsSource,
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            return (dotenv_settings,)

        @field_validator("models_dir", "voices_dir", "state_dir", "api_keys_file", "log_file")
        @classmethod
        def _within(cls, path: Path | None) -> Path | None:
            return path if path is None or str(path).startswith("~") else folder / path

    return _loaded(InFolder, folder, {})


def _loaded(kind: type[Settings], folder: Path, given: dict[str, Any]) -> Settings:
    env_text(folder / ENV_FILE)
    try:
        settings = kind(**given)
    except ValidationError as error:
        # No value is repeated: it may be a secret.
        details = "; ".join(
            ": ".join(
                [*(f"{PREFIX}{str(name).upper()}" for name in each["loc"]), each["msg"].removeprefix("Value error, ")]
            )
            for each in error.errors(include_input=False, include_url=False)
        )
        raise CosyError(errors.SETTING_INVALID, details=details) from None
    if "models_dir" not in settings.model_fields_set and on_windows_disk(Machine(), folder.absolute()):
        settings.models_dir = Path.home() / OFF_WINDOWS
    return settings


def env_text(path: Path = ENV_FILE) -> str:
    """The text of a settings file; empty if there is none; raises `CS-SET-004`. Its readers would ignore a path that is
    not a file, and with it all the settings."""
    try:
        text = paths.text_of(path) if os.path.lexists(path) else ""
        _expect_whole(text)
    except ValueError as error:
        raise CosyError(errors.ENV_FILE_UNUSABLE, path=path.absolute(), reason=error) from None
    return text


def _expect_whole(text: str) -> None:
    """Raises ValueError if the reader of the file would skip a line, or if a setting would end up empty: losing a key
    would leave the server open."""
    for line in parse_stream(StringIO(text)):
        if line.error:
            raise ValueError(f"line {line.original.line} cannot be understood")
    written = dotenv_values(stream=StringIO(text), interpolate=False)
    for name, value in dotenv_values(stream=StringIO(text)).items():
        if name.upper().startswith(PREFIX) and written[name] and not value:
            raise ValueError(f"{name} is made of something that is not set")


def open_telemetry_variables() -> dict[str, str]:
    """OpenTelemetry's own variables, from the environment, then from `.env`."""
    written = dotenv_values(ENV_FILE, encoding=_ENCODING) if ENV_FILE.is_file() else {}
    return {name: value for name, value in {**written, **os.environ}.items() if value and name.startswith(_OTEL)}


def unknown_keys() -> dict[str, str | None]:
    """`COSYSERVE_*` names in the environment or `.env` that are not settings, each with the nearest real one."""
    known = [*(name.upper() for name in Settings.model_fields), *_OF_CONTAINERS]
    given = {*os.environ, *(dotenv_values(ENV_FILE, encoding=_ENCODING) if ENV_FILE.is_file() else ())}
    names = [name.upper().removeprefix(PREFIX) for name in sorted(given) if name.upper().startswith(PREFIX)]
    nearest = {name: difflib.get_close_matches(name, known, 1) for name in names if name not in known}
    return {PREFIX + name: PREFIX + close[0] if close else None for name, close in nearest.items()}
