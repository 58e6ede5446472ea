"""`harness status [NAME]`: how a study is getting on, once, or again and again; without a NAME, a line for each."""

import argparse
import json
import time
from pathlib import Path

from rich.console import Console, Group, RenderableType
from rich.live import Live

from harness.commands.places import begun_study, out_of
from harness.commands.status_tables import listed, shown
from harness.records.errors import UserError
from harness.records.plain import to_plain
from harness.search.begun import begun
from harness.search.status import SweepStatus, sweep_status
from harness.search.storage import SWEEP_FILE
from harness.trials.status import AblationStatus, ablation_status

EVERY_S = 2.0
REST = 5  # between two looks it rests at least so many times as long as a look takes


def run(arguments: argparse.Namespace) -> int:
    if arguments.watch and arguments.json:
        raise UserError("--json prints one object; leave out --watch, or ask again and again yourself")
    out, console = out_of(arguments.overrides, arguments.name), Console()
    if arguments.name is None:
        return _list(out, console, arguments)
    name, folder = begun_study(out, arguments.name)
    if arguments.watch:
        return _watch(out, folder, name, console)
    status = status_of(out, folder, name)
    if arguments.json:
        print(json.dumps(_plain(status), ensure_ascii=False))
    else:
        console.print(shown(status))
    return 0


def status_of(out: Path, folder: Path, name: str) -> SweepStatus | AblationStatus:
    """Whichever it is. A sweep that was begun and has no study yet is one sentence."""
    if not (folder / SWEEP_FILE).exists():
        return ablation_status(out, name)
    if (status := sweep_status(folder, name)) is None:
        raise UserError(f"the sweep in {folder} has no study; `harness sweep {name}` begins it")
    return status


def _list(out: Path, console: Console, arguments: argparse.Namespace) -> int:
    if arguments.watch:
        raise UserError("--watch shows one study; name it: `harness status NAME --watch`")
    names = begun(out)
    if not names:
        raise UserError(f"no study was begun in {out}; say where they lie with out=FOLDER")
    found = {name: _tried(out, name) for name in names}
    if arguments.json:
        print(
            json.dumps(
                {name: {"error": each} if isinstance(each, str) else _plain(each) for name, each in found.items()}
            )
        )
    else:
        console.print(listed(found))
    return 0


def _tried(out: Path, name: str) -> SweepStatus | AblationStatus | str:
    """A damaged folder does not hide the others."""
    try:
        return status_of(out, out / name, name)
    except UserError as error:
        return str(error)


def _watch(out: Path, folder: Path, name: str, console: Console) -> int:
    """Until Ctrl-C, or until no driver runs and no worker lives."""
    try:
        with Live(console=console, auto_refresh=False, vertical_overflow="crop") as live:
            while True:
                began = time.monotonic()
                status = status_of(out, folder, name)
                took_s = time.monotonic() - began
                over = not status.driver.runs and not _lives(status)
                live.update(_drawing(status, over), refresh=True)
                if over:
                    return 0
                time.sleep(max(EVERY_S, REST * took_s))
    except KeyboardInterrupt:
        return 0


def _drawing(status: SweepStatus | AblationStatus, over: bool) -> RenderableType:
    hint = (
        "no driver runs, so nothing more will change" if over else time.strftime("%H:%M:%S, Ctrl-C ends the watching")
    )
    return Group(shown(status), f"[dim]{hint}[/dim]")


def _lives(status: SweepStatus | AblationStatus) -> bool:
    jobs = status.running if isinstance(status, SweepStatus) else status.cells
    return any(each.job is not None and each.job.worker == "lives" for each in jobs)


def _plain(status: SweepStatus | AblationStatus) -> dict[str, object]:
    plain = to_plain(status)
    assert isinstance(plain, dict)
    return {"kind": "sweep" if isinstance(status, SweepStatus) else "ablation", **plain}
