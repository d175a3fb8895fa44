"""Checks everything that a start depends on, changes nothing, and ends within a minute on any host."""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from pathlib import Path

from cosyserve import __version__
from cosyserve.host import folders, gpu, kernels, models, mpi, network, system, wsl
from cosyserve.host.report import Check, Finding, Report, Text, worst
from cosyserve.machine import Machine, is_container, platform_of
from cosyserve.settings import Settings
from cosyserve.store.chosen import chosen

UNANSWERED = Check("CS-HOST-011", Text("Unanswered checks", "未完成的检查"))
CRASHED = Check("CS-HOST-012", Text("Failed checks", "出错的检查"))

_SECONDS = 58
_PROBE_SECONDS = 8  # a start takes 0.4 to 1.5 s on a healthy host; there are five probes at most
_IMPORT_SECONDS = 45  # only asked for with --deep

Question = Callable[[], "Finding | list[Finding]"]


def examine(
    settings: Settings,
    models_folder: Path,
    *,
    key_is_made: bool = False,
    deep: bool = False,
    quick: bool = False,
    machine: Machine | None = None,
) -> Report:
    """The report on this machine. A check that does not answer in time is reported instead of waited for.

    `quick` leaves out what takes seconds: starts of MPI, which a launch tries by itself, and the network.
    """
    machine = machine or Machine()
    began = time.monotonic()
    findings = list(_answers(_questions(settings, models_folder, machine, key_is_made, deep, quick), began + _SECONDS))
    return Report(
        cosyserve=__version__,
        platform=platform_of(machine).value,
        state=worst(findings),
        seconds=round(time.monotonic() - began, 2),
        findings=findings,
    )


def _questions(
    settings: Settings, folder: Path, machine: Machine, key_is_made: bool, deep: bool, quick: bool
) -> list[Question]:
    here = settings.model_copy(update={"models_dir": folder})
    # Do not warn about what is not used here: the preview on a processor is all that the README asks for.
    for_engine = settings.backend == "trtllm" or system.installed("tensorrt-llm") is not None or gpu.has_device(machine)
    for_card = settings.device == "cuda" or for_engine or (is_container(machine) and gpu.cuda_of_packages() is not None)
    for_model = settings.insists or for_card
    questions: list[Question] = [
        lambda: system.platform(machine),
        lambda: system.system(machine, for_engine=for_engine),
        lambda: system.python(for_engine=for_engine),
        lambda: system.processor(machine),
        lambda: system.memory(machine, for_model=for_model or models.are_there(here)),
        lambda: system.shared_memory(machine),
        lambda: system.disk(machine, folder, chosen(here) if for_model or models.are_there(here) else None),
        lambda: folders.folders(settings, machine, key_is_made=key_is_made),
        lambda: folders.volume(machine, folder),
        lambda: system.port(settings.host, settings.port),
        system.clock,
        system.text_encoding,
        lambda: wsl.examine(machine, folder.absolute(), settings.port),
        lambda: gpu.examine(machine, settings.past_seconds, settings.flow_steps, model=chosen(here), needed=for_card),
        lambda: kernels.examine(machine, settings),
        lambda: mpi.tools(machine),
        lambda: mpi.gl_plugin(machine),
        lambda: mpi.leftover_variables(machine),
        lambda: mpi.temporary_folder(machine),
        mpi.names,
        lambda: models.weights(here),
        lambda: models.engines(folder),
        lambda: network.proxies(machine),
    ]
    if not quick:
        questions.append(network.sources)
        questions.append(
            lambda: mpi.tensorrt_llm(machine, _IMPORT_SECONDS) if deep else mpi.start(machine, _PROBE_SECONDS)
        )
    return questions


def _answers(questions: list[Question], deadline: float) -> Iterator[Finding]:
    """Asks all questions at once and returns the answers in their order. A stuck disk or resolver does not hold up the
    others."""
    unanswered = 0
    for future in [_ask(question) for question in questions]:
        try:
            answer = future.result(max(0.0, deadline - time.monotonic()))
        except FutureTimeoutError:
            unanswered += 1
        except Exception as error:
            yield _crashed(error)
        else:
            yield from answer if isinstance(answer, list) else [answer]
    if unanswered:
        yield UNANSWERED.fail(
            Text(
                f"{unanswered} checks did not answer in time: a disk, a driver or a name server hangs",
                f"{unanswered} 项检查未在时限内完成：可能是磁盘、驱动或域名服务器挂起",
            ),
            Text("ps -eo pid,stat,wchan:32,cmd | grep ' D'", "ps -eo pid,stat,wchan:32,cmd | grep ' D'"),
        )


def _crashed(error: Exception) -> Finding:
    what = f"{type(error).__name__}: {error}"
    return CRASHED.warn(
        Text(f"the check itself failed ({what})", f"某项检查自身出错（{what}）"),
        Text("please report this line; the other checks are not affected", "欢迎反馈此行；其他检查不受影响"),
    )


def _ask(question: Question) -> "Future[Finding | list[Finding]]":
    """Runs in a daemon thread, which does not stop the process from exiting when it hangs; an executor would."""
    future: Future[Finding | list[Finding]] = Future()

    def answer() -> None:
        try:
            future.set_result(question())
        except Exception as error:
            future.set_exception(error)

    threading.Thread(target=answer, daemon=True).start()
    return future
