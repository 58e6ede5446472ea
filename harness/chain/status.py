"""What `harness status chains/NAME` shows: which stages ran, what each took, and the command that is at work."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from harness.chain.definition import FOLDER, chain_folder
from harness.chain.runner import COMMAND_LOCK, LOG, Ran, read_log
from harness.launch.observe import Driver, Job, driver_of
from harness.processes.locks import DRIVER_LOCK, holder, is_held


@dataclass(frozen=True, kw_only=True, slots=True)
class StageStatus:
    """A stage of which a command ended."""

    name: str
    commands: int  # that ended
    seconds: float  # of all of them
    newest: str  # command
    status: int  # that one's: 0 is done


@dataclass(frozen=True, kw_only=True, slots=True)
class ChainStatus:
    kind: ClassVar[str] = "chain"

    name: str  # `chains/digits`
    place: str
    driver: Driver
    stages: tuple[StageStatus, ...]  # in the order in which they first ran
    running: str = ""  # the command at work

    @property
    def states(self) -> Mapping[str, int]:
        """How many stages, by how their newest command ended."""
        return Counter("done" if stage.status == 0 else "stopped or failed" for stage in self.stages)

    @property
    def all_jobs(self) -> tuple[Job, ...]:
        """Its commands have them: they are studies of their own."""
        return ()


def chains_in(out: Path) -> list[str]:
    """`chains/NAME` of those that were begun in `out`, sorted."""
    marks = (LOG, DRIVER_LOCK)
    return sorted({f"{FOLDER}/{path.parent.name}" for mark in marks for path in (out / FOLDER).glob(f"*/{mark}")})


def chain_status(out: Path, name: str) -> ChainStatus:
    """Of `chains/NAME`, which is one of `chains_in(out)`."""
    folder = chain_folder(out, name.removeprefix(f"{FOLDER}/"))
    log = read_log(folder)
    stages = [_stage(stage, log) for stage in dict.fromkeys(ran.stage for ran in log)]
    return ChainStatus(
        name=name, place=str(folder), driver=driver_of(folder), stages=tuple(stages), running=_running(out, folder)
    )


def _stage(name: str, log: list[Ran]) -> StageStatus:
    own = [ran for ran in log if ran.stage == name]
    last = own[-1]
    return StageStatus(
        name=name,
        commands=len(own),
        seconds=sum(ran.seconds for ran in own),
        newest=last.command,
        status=last.status,
    )


def _running(out: Path, folder: Path) -> str:
    """One with a driver has a lock in its study's folder, any other the chain's own."""
    if is_held(folder / COMMAND_LOCK):
        return str(holder(folder / COMMAND_LOCK).get("command", ""))
    held = (lock.parent for lock in out.glob(f"*/attempts/{DRIVER_LOCK}") if is_held(lock))
    commands = [driver_of(attempts).command for attempts in held]
    return next((command for command in commands if f"{folder}/" in command), "")
