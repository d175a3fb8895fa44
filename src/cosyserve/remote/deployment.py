"""From a command to a speaking instance: survey, plan, carry out, and report the result."""

import re
import shlex
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cosyserve import errors
from cosyserve.errors import CosyError
from cosyserve.host.report import Text
from cosyserve.remote import bundle, removal, survey
from cosyserve.remote.machine import BrokenOffError, Machine
from cosyserve.remote.plan import DEFAULT_FOLDER, FOLLOW_MARK, DeployPlan, Options, Step, follow, plan
from cosyserve.remote.suitability import choose_flavour, refuse
from cosyserve.remote.survey import Instance

Say = Callable[[str], None]
Take = Callable[[bytes], None]

_VANISHED = 77  # the job was ended with its instance
_SAID_ITSELF = 2  # a CosyError of `cosyserve instance`, whose words have been shown


class WorkEndedError(Exception):
    """The work on the instance has failed and has already said why."""


@dataclass(frozen=True)
class Prepared:
    instance: Instance
    plan: DeployPlan


def look(machine: Machine, folder: str) -> Instance:
    """Raises `CS-DEP-021` if there is no shell to ask."""
    _, answer = _run(machine, survey.script(folder, made_on_demand=folder != DEFAULT_FOLDER))
    return survey.parse(answer.decode(errors="replace"))


def prepare(machine: Machine, sources: Path, options: Options) -> Prepared:
    """Survey the instance and plan; changes nothing on it."""
    instance = look(machine, options.folder)
    refuse(instance, options.folder, time.time())
    chosen, why = choose_flavour(instance)
    if options.flavour is not None:
        chosen, why = options.flavour, Text("as asked for", "按指定")
    return Prepared(instance, plan(instance, bundle.make(sources, chosen), options, why))


def carry_out(machine: Machine, planned: DeployPlan, folder: str, say: Say, take: Take) -> None:
    """Carry out the plan. Every step can be repeated, so a step whose connection broke off is."""
    for number, step in enumerate(planned.steps, 1):
        say(f"[{number}/{len(planned.steps)}] {step.title.en} · {step.title.zh}")
        status = _do(machine, step, folder, take)
        if status:
            raise _failure(status, planned, folder)


def _do(machine: Machine, step: Step, folder: str, take: Take) -> int:
    status, _ = _run(machine, step.script, step.data, take)
    return _follow(machine, folder, take) if step.followed and not status else status


def _run(machine: Machine, script: str, data: bytes = b"", take: Take | None = None) -> tuple[int, bytes]:
    while True:
        try:
            return machine.run(script, data, take)
        except BrokenOffError:
            machine.reconnect()


def _follow(machine: Machine, folder: str, take: Take) -> int:
    """Show the job's output, each byte once, however often it has to reconnect; returns its status."""
    seen = 0
    while True:
        head: bytes | None = b""

        def show(piece: bytes) -> None:
            nonlocal head, seen
            if head is not None:  # a login may print what it likes before the script does
                before, mark, piece = (head + piece).partition(FOLLOW_MARK)
                head = None if mark else before
            seen += len(piece)
            if piece:
                take(piece)

        try:
            return machine.run(follow(folder, seen), take=show)[0]
        except BrokenOffError:
            machine.reconnect()


def _failure(status: int, planned: DeployPlan, folder: str) -> Exception:
    """What the user is told for the exit status of a script on the instance."""
    if status == _SAID_ITSELF:
        return WorkEndedError()
    disk, log, flavour = folder.rpartition("/")[0], f"{folder}/run/job.log", planned.flavour
    pythons = "3.12 or 3.10" if flavour.startswith("cuda") else "3.10 to 3.13"
    told = {
        71: CosyError(errors.NO_PYTHON, wanted=pythons, folder=disk),
        72: CosyError(errors.NO_INDEX),
        73: CosyError(errors.INSTALL_FAILED),
        74: CosyError(
            errors.INSTANCE_FULL, folder=disk, free="0 MiB", needed=f"{planned.needed_mib} MiB", flavour=flavour
        ),
        75: CosyError(errors.RELEASE_BROKEN, release=planned.release, reason="it does not start", log=log),
        76: CosyError(errors.BUSY, release=planned.release),
    }
    ended = "killed" if status == _VANISHED else status
    return told.get(status) or CosyError(errors.WORK_FAILED, status=ended, log=log)


def command(machine: Machine, folder: str, arguments: list[str], take: Take) -> int:
    """Run `cosyserve instance …` of the current release; raises `CS-DEP-016` if there is none."""
    words = shlex.join(arguments)
    root = shlex.quote(folder)
    script = (
        f"[ -x {root}/current/venv/bin/python ] || exit 78\n"
        f"cd {root} && exec {root}/current/venv/bin/python -m cosyserve instance --root {root} {words} 2>&1"
    )
    try:
        status, _ = machine.run(script, take=take)
    except BrokenOffError:  # it is not known how far it came, and some may not be done twice
        raise CosyError(errors.COMMAND_BROKEN_OFF, command=arguments[0]) from None
    if status == 78:
        raise CosyError(errors.NOT_INSTALLED, folder=folder)
    return status


def uninstall(machine: Machine, folder: str, *, everything: bool, take: Take) -> None:
    """Remove an installation, even an interrupted one, or what an earlier uninstall kept.

    Raises `CS-DEP-016` if there is nothing, and `CS-DEP-018` while an installation runs.
    """
    try:
        status, _ = machine.run(removal.script(folder, everything=everything), take=take)
    except BrokenOffError:
        raise CosyError(errors.COMMAND_BROKEN_OFF, command="uninstall") from None
    if status == removal.NOTHING:
        raise CosyError(errors.NOT_INSTALLED, folder=folder)
    if status == removal.BUSY:
        raise CosyError(errors.BUSY, release=folder)
    if status:
        raise CosyError(errors.WORK_FAILED, status=status, log=f"{folder}/run/job.log")


def log_lines(folder: str, lines: int, *, follows: bool) -> str:
    """The script that shows the server's log, and that of the last start if it is not empty."""
    logs = f"{shlex.quote(folder)}/shared/logs"
    return (
        f"[ -d {logs} ] || exit 78\ncd {logs}\n"
        f"[ ! -s start.log ] || {{ echo '== start.log'; tail -n {lines} start.log; }}\n"
        f"exec tail -n {lines} {'-F' if follows else ''} server.log"
    )


def public_address(instance: Instance, port: int) -> str | None:
    """The address at which AutoDL publishes the port, from its environment; an address with anything else in it is
    rejected."""
    address = instance.public.get(port, "")
    return address if re.fullmatch(r"https?://[\w.:/-]+", address) else None
