"""Runs a chain: each stage's commands, one after another, as processes of their own.

What a user would see of a command is seen, since it has the same terminal. A signal that reaches the chain reaches the
command, which ends as it always does, and then the chain. Killed, a chain leaves its command at work: the next one
waits for it to end, and goes on.

    OUT/chains/NAME/log.jsonl       a line each command that ended: stage, command, began, seconds, status
    OUT/chains/NAME/command.lock    of a command that neither searches nor trains, which have locks of their own: held
                                    by it and by the chain
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from types import FrameType
from typing import Any, TypeAlias

from harness.chain.stages import Chain
from harness.chain.step import Step
from harness.processes.locks import DRIVER_LOCK, FileLock, holder, is_held, lock_driver, waited_for
from harness.records.eta import duration
from harness.records.lines import append_line, whole_lines
from harness.records.store import write_atomic

LOG = "log.jsonl"
COMMAND_LOCK = "command.lock"
ENDINGS = (signal.SIGTERM, signal.SIGHUP)
WAIT_S = 1.0
INTERRUPTED = 128 + signal.SIGINT

Say: TypeAlias = Callable[[str], None]
Call: TypeAlias = Callable[[Step, FileLock | None], int]
"""Runs a command, which holds the lock for as long as it lives; its exit status, below 0 the signal that ended it."""


class ChainEnded(KeyboardInterrupt):
    """SIGTERM or SIGHUP reached the chain, and its command has ended."""

    def __init__(self, number: int, said: str) -> None:
        self.status = 128 + number
        super().__init__(said)


class StageError(Exception):
    """A command of a stage did not do its part; it said why. `status` is the chain's."""

    def __init__(self, said: str, status: int) -> None:
        super().__init__(said)
        self.status = status


@dataclass(frozen=True, slots=True)
class Ran:
    """A command that ended."""

    stage: str
    command: str
    began: float  # Unix seconds
    seconds: float
    status: int


def in_a_process(step: Step, lock: FileLock | None = None) -> int:
    """The command as a process of its own. KeyboardInterrupt, when it has ended, where the chain was asked to end."""
    if step.output is None:
        return _status(step, None, lock)
    with kept(step.output) as output:
        status = _status(step, output.fileno(), lock)
        if status != 0:
            output.truncate(0)
    return status


def _status(step: Step, output: int | None, lock: FileLock | None) -> int:
    """In a group of its own, so that it hears a Ctrl-C once: from here."""
    words = [sys.executable, "-m", "harness", *step.words]
    held = () if lock is None else (lock.fileno(),)
    with (
        _heard() as heard,
        subprocess.Popen(words, stdout=output, stdin=subprocess.DEVNULL, process_group=0, pass_fds=held) as child,
        heard.passed_on_to(child),
    ):
        if lock is not None:
            lock.sign(pid=child.pid, command=step.command)
        status = child.wait()
    if heard.number is not None:
        said = f"stopped in `{step.command}`"
        raise KeyboardInterrupt(said) if heard.number == signal.SIGINT else ChainEnded(heard.number, said)
    return status


class _Heard:
    """The first signal that asked the chain to end."""

    def __init__(self) -> None:
        self.number: int | None = None
        self._child: subprocess.Popen[bytes] | None = None

    def __call__(self, number: int, _frame: FrameType | None) -> None:
        self.number = self.number or number
        if self._child is not None:
            self._child.send_signal(number)

    @contextmanager
    def passed_on_to(self, child: "subprocess.Popen[bytes]") -> Iterator[None]:
        self._child = child
        if self.number is not None:  # between the beginning and now
            child.send_signal(self.number)
        try:
            yield
        finally:
            self._child = None


@contextmanager
def _heard() -> Iterator[_Heard]:
    """Inside, what asks the chain to end is kept, unless it was ignored before, as by `nohup`."""
    heard, before = _Heard(), {}
    for number in (signal.SIGINT, *ENDINGS):
        if signal.getsignal(number) is not signal.SIG_IGN:
            before[number] = signal.signal(number, heard)
    try:
        yield heard
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def kept(path: Path) -> Iterator[Any]:
    """A file that is there whole, or not at all: not where nothing was written."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with temporary.open("wb") as file:
            yield file
        if temporary.stat().st_size:
            temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def run_chain(
    chain: Chain,
    say: Say,
    *,
    until: str | None = None,
    left: Callable[[str], str] = lambda _stage: "",
    call: Call = in_a_process,
) -> None:
    """Every stage up to `until`, as far as it is not done. `left` says what is expected to be left from a stage on.
    StageError for a command that fails; UserError for another chain at work."""
    stages = list(chain.study.stages)
    stages = stages[: stages.index(until) + 1] if until is not None else stages
    with lock_driver(chain.folder):
        _wait_for_command(chain, say)
        for number, stage in enumerate(stages, 1):
            place = f"stage {number} of {len(stages)}: {stage}"
            steps = [step for step in chain.look(stage).steps if not step.done]
            if not steps:
                say(f"{place}, done" if chain.looked[stage].steps else f"{place}, of which export and total hear")
                continue
            say(f"{place}{_times(chain, left(stage))}")
            _run_stage(chain, stage, steps, say, call)


def _times(chain: Chain, left: str) -> str:
    spent = sum(each.seconds for each in read_log(chain.folder))
    parts = [f"{duration(spent)} so far"] if spent else []
    return "".join(f", {each}" for each in [*parts, *([left] if left else [])])


def _run_stage(chain: Chain, stage: str, steps: Sequence[Step], say: Say, call: Call) -> None:
    """Until it is done. What a first command gave may decide what others are left."""
    ran: set[tuple[str, ...]] = set()
    while steps:
        for step in steps:
            for edit in step.edited:
                say(f"{stage} was edited: {edit}; it runs again, and so does what follows from it")
            _run(chain, stage, step, say, call)
            ran.add(step.words)
        left = [step for step in chain.look(stage).steps if not step.done]
        steps = [step for step in left if step.words not in ran]
    keys = chain.looked[stage].keys
    for key in keys.values():
        record = chain.store.trial(key)
        if record is None or record.state != "complete":
            why = "has no record" if record is None else f"is {record.state}"
            raise StageError(f"trial {key} of stage {stage} {why}, so the chain ends; the same command tries again", 1)


def _run(chain: Chain, stage: str, step: Step, say: Say, call: Call) -> None:
    _wait_for_driver(chain, step, say)
    if step.old is not None:
        aside = _aside(step.old)
        step.old.rename(aside)
        say(f"{step.old.name} is {aside.name} now")
    for path, text in step.files.items():
        write_atomic(path, text.encode())
    say(f"$ {step.command}")
    began = time.time()
    status = INTERRUPTED
    try:
        with _command_lock(chain, step) as lock:
            status = call(step, lock)
    finally:
        _log(chain.folder, Ran(stage, step.command, began, time.time() - began, status))
    if status == 0:
        return
    verb = " ".join(step.words[: 2 if step.words[0] == "latency" else 1])
    if status < 0:
        raise StageError(
            f"`harness {verb}` of stage {stage} was ended by {signal.Signals(-status).name}; the same command goes on",
            1,
        )
    raise StageError(f"`harness {verb}` of stage {stage} ended with status {status}, as it says above", status)


def _wait_for_command(chain: Chain, say: Say) -> None:
    """That a killed chain left behind, and that has no driver: what it still writes, another would write too."""
    path = chain.folder / COMMAND_LOCK
    if not is_held(path):
        return
    who = holder(path)
    say(f"process {who.get('pid')} on {who.get('host')} is at `{who.get('command')}` already; waiting for it to end")
    while is_held(path):
        time.sleep(WAIT_S)


@contextmanager
def _command_lock(chain: Chain, step: Step) -> Iterator[FileLock | None]:
    """None for a command with a driver, whose folder has a lock."""
    if step.study:
        yield None
        return
    with waited_for(chain.folder / COMMAND_LOCK, f"`{step.command}`") as lock:
        yield lock


def _wait_for_driver(chain: Chain, step: Step, say: Say) -> None:
    """A chain that was killed left its command behind, which does what this one would do."""
    folder = chain.out / step.study / "attempts"
    if not step.study or not is_held(folder / DRIVER_LOCK):
        return
    who = holder(folder / DRIVER_LOCK)
    say(f"process {who.get('pid')} on {who.get('host')} is at {step.study} already; waiting for it to end")
    while is_held(folder / DRIVER_LOCK):
        time.sleep(WAIT_S)


def _aside(path: Path) -> Path:
    numbers = iter(range(1, 10_000))
    return next(each for number in numbers if not (each := path.with_name(f"{path.name}.{number}")).exists())


def _log(folder: Path, ran: Ran) -> None:
    append_line(folder / LOG, asdict(ran))


def read_log(folder: Path) -> list[Ran]:
    """The commands that ended, oldest first; a line that a kill cut short is none."""
    names = {field.name for field in fields(Ran)}
    return [Ran(**line) for line in whole_lines(folder / LOG) if line.keys() == names]
