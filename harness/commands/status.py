"""`harness status [NAME]`: how a study is getting on, once, or again and again; without a NAME, a line for each."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from harness.commands.operands import ATTEMPTS, begun_study, out_of
from harness.commands.verb import Verb
from harness.records.errors import UserError
from harness.records.manifest import MANIFEST_FILE
from harness.records.plain import to_plain
from harness.records.quantities import floor_text, title_of

if TYPE_CHECKING:
    from typing import TypeAlias

    from rich.console import Console, RenderableType
    from rich.table import Table

    from harness.chain.status import ChainStatus
    from harness.launch.observe import Driver, Job
    from harness.records.sweep_summary import ReasonCount
    from harness.search.status import FrontPoint, RescoredStatus, SweepStatus
    from harness.trials.status import AblationStatus, Cell, JobsStatus

    Status: TypeAlias = SweepStatus | AblationStatus | JobsStatus | ChainStatus

EVERY_S, PIPE_EVERY_S = 2.0, 10.0
REST = 5  # between two looks it rests at least so many times as long as a look takes


def flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--watch", action="store_true", help="draw again until Ctrl-C or the study's end")
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")


def run(arguments: argparse.Namespace) -> int:
    from harness.records.terminal import console

    if arguments.watch and arguments.json:
        raise UserError("--json prints one object; leave out --watch, or ask again and again yourself")
    out, terminal = out_of(arguments.overrides, arguments.name), console()
    if arguments.name is None:
        return _list(out, terminal, arguments)
    name, folder = _begun(out, arguments.name)
    if arguments.watch:
        return _watch(out, folder, name, terminal)
    status = status_of(out, folder, name)
    if arguments.json:
        print(json.dumps(_plain(status), ensure_ascii=False))
    else:
        terminal.print(shown(status))
    return 0


VERB = Verb(
    summary="show how a sweep, an ablation, a training or a chain is getting on; without a NAME, list all",
    name="the sweep or ablation; of `harness train X`, train-X; of a chain, chains/NAME",
    operands="[NAME]",
    example="harness status laptop --watch",
    flags=flags,
    run=run,
)


def _begun(out: Path, name: str) -> tuple[str, Path]:
    """Name and folder of what was begun; UserError says what was."""
    from harness.chain.status import chains_in

    if name.strip("/") in (chains := chains_in(out)):
        return name.strip("/"), out / name
    return begun_study(out, name, ATTEMPTS, known=chains)  # attempts are all that `harness evaluate`'s jobs have


def status_of(out: Path, folder: Path, name: str) -> Status:
    """Whichever it is; of a command without a study, its jobs. A sweep that was begun and has no study yet is one
    sentence."""
    from harness.chain.status import chain_status
    from harness.commands.report import OF_CHAINS
    from harness.search.status import sweep_status
    from harness.search.study import SWEEP_FILE
    from harness.trials.status import ablation_status, jobs_status

    if name.startswith(OF_CHAINS):
        return chain_status(out, name)
    if not (folder / SWEEP_FILE).exists():
        return ablation_status(out, name) if (folder / MANIFEST_FILE).exists() else jobs_status(out, name)
    if (status := sweep_status(folder, name)) is None:
        raise UserError(f"the sweep in {folder} has no study; `harness sweep {name}` begins it")
    return status


def _list(out: Path, terminal: Console, arguments: argparse.Namespace) -> int:
    from harness.chain.status import chains_in
    from harness.search.study import MARKS, studies_in

    if arguments.watch:
        raise UserError("--watch shows one study; name it: `harness status NAME --watch`")
    names = [*studies_in(out, (*MARKS, ATTEMPTS)), *chains_in(out)]
    if not names:
        raise UserError(f"no study was begun in {out}; say where they lie with out=FOLDER")
    studies = {name: _tried(out, name) for name in names}
    if arguments.json:
        print(
            json.dumps(
                {name: {"error": each} if isinstance(each, str) else _plain(each) for name, each in studies.items()}
            )
        )
    else:
        terminal.print(listed(studies))
    return 0


def _tried(out: Path, name: str) -> Status | str:
    """A damaged folder does not hide the others."""
    try:
        return status_of(out, out / name, name)
    except UserError as error:
        return str(error)


def _watch(out: Path, folder: Path, name: str, terminal: Console) -> int:
    """Until Ctrl-C, or until no driver runs and no worker lives: in a terminal drawn again in its place, into a pipe or
    a file written again below."""
    from rich.live import Live

    try:
        if not terminal.is_terminal:
            _again(out, folder, name, terminal.print, PIPE_EVERY_S)
            return 0
        with Live(console=terminal, auto_refresh=False, vertical_overflow="crop") as live:
            _again(out, folder, name, lambda drawing: live.update(drawing, refresh=True), EVERY_S)
    except KeyboardInterrupt:
        pass
    return 0


def _again(out: Path, folder: Path, name: str, draw: Callable[[RenderableType], None], every_s: float) -> None:
    while True:
        began = time.monotonic()
        status = status_of(out, folder, name)
        took_s = time.monotonic() - began
        over = not status.driver.runs and not _lives(status)
        draw(_drawing(status, over))
        if over:
            return
        time.sleep(max(every_s, REST * took_s))


def _drawing(status: Status, over: bool) -> RenderableType:
    from rich.console import Group
    from rich.text import Text

    hint = (
        "no driver runs, so nothing more will change" if over else time.strftime("%H:%M:%S, Ctrl-C ends the watching")
    )
    return Group(shown(status), Text(hint, style="dim"))


def _lives(status: Status) -> bool:
    return any(job.worker == "lives" for job in status.all_jobs)


def _plain(status: Status) -> dict[str, object]:
    plain = to_plain(status)
    assert isinstance(plain, dict)
    return {"kind": status.kind, **plain}


MOST_REASONS = 3  # of one state
MOST_JOBS = 20
MOST_FRONT = 20
STOPPING = {"finish": "; asked to stop: it waits for what runs", "cancel": "; asked to stop now"}


def shown(status: Status) -> RenderableType:
    from harness.chain.status import ChainStatus
    from harness.search.status import SweepStatus
    from harness.trials.status import JobsStatus

    if isinstance(status, ChainStatus):
        return _chain(status)
    if isinstance(status, JobsStatus):
        return _of_jobs(status)
    return _sweep(status) if isinstance(status, SweepStatus) else _ablation(status)


def listed(studies: Mapping[str, Status | str]) -> RenderableType:
    """One line a study."""
    table = _table("study", "kind", "driver", "results")
    for name, status in studies.items():
        if isinstance(status, str):
            table.add_row(name, "", "", status)
            continue
        driver = f"{status.driver.host}, process {status.driver.pid}" if status.driver.runs else "none runs"
        table.add_row(name, status.kind, driver, _counted(status.states))
    return table


def _sweep(status: SweepStatus) -> RenderableType:
    from rich.console import Group

    trained = sum(status.states.values()) - status.states["refused"]
    of = f" of {status.trials:,}" if status.trials is not None else ""
    lines = [
        ("sweep", f"{status.name}, {status.place}"),
        ("driver", _driver(status.driver)),
        ("candidates", f"{trained:,}{of} submitted: {_counted(status.states)}"),
        *(("", f"  {line}") for state, reasons in status.reasons.items() for line in _reasons(state, reasons)),
        ("results", "; ".join(f"{each.steps:,} steps: {each.results:,}" for each in status.budgets)),
    ]
    if status.awaited:
        lines.append(("awaited", "; ".join(f"{name} of {count:,}" for name, count in status.awaited.items())))
    if status.rescored:
        lines.append(("finalists", "; ".join(map(_finalist, status.rescored))))
    if status.floor is not None:
        what = "promoted" if len(status.budgets) > 1 else "counts"
        lines.append(("floor", f"{what} {floor_text(status.score, status.floor)}"))
    lines += [*_times(status), ("driven", _spent(status))]
    jobs = [(each.name, f"{each.steps:,} steps", each.job, each.other_study) for each in status.running]
    return Group(_lines(lines), *_remarks(status.remarks), "", *_jobs("budget", jobs), *_front(status))


def _ablation(status: AblationStatus) -> RenderableType:
    from rich.console import Group

    lines = [
        (status.kind, f"{status.name}, {status.place}"),
        ("driver", _driver(status.driver)),
        ("trials", f"{len(status.cells):,}: {_counted(status.states)}"),
        *_times(status),
    ]
    seeds = sorted({cell.seed for cell in status.cells})
    table = _table("network" if status.is_training else "rung", *(f"seed {seed}" for seed in seeds))
    cells = {(cell.rung, cell.seed): cell for cell in status.cells}
    for rung in dict.fromkeys(cell.rung for cell in status.cells):
        table.add_row(rung, *(_cell(cells[rung, seed], status.score) for seed in seeds))
    running = [(f"{cell.rung}, seed {cell.seed}", "", cell.job, "") for cell in status.cells if cell.job is not None]
    others = [(job.key, "", job, "") for job in status.other_jobs]
    jobs = ["", *_jobs("", [*running, *others])] if running or others else []
    return Group(_lines(lines), *_remarks(status.remarks), "", table, *jobs)


def _of_jobs(status: JobsStatus) -> RenderableType:
    from rich.console import Group

    lines = [("jobs", f"of {status.name}, {status.place}"), ("driver", _driver(status.driver))]
    lines.append(("state", _counted(status.states)))
    jobs = [(job.key, "", job, "") for job in status.jobs]
    return Group(_lines(lines), *_remarks(status.remarks), "", *_jobs("", jobs))


def _chain(status: ChainStatus) -> RenderableType:
    from rich.console import Group

    from harness.records.eta import duration

    lines = [("chain", f"{status.name.partition('/')[2]}, {status.place}"), ("driver", _driver(status.driver))]
    if status.running:
        lines.append(("running", f"`{status.running}`"))
    table = _table("stage", "took", "commands", "newest ended")
    for stage in status.stages:
        table.add_row(
            stage.name, duration(stage.seconds), f"{stage.commands:,}", f"with {stage.status}: {stage.newest}"
        )
    return Group(_lines(lines), "", table)


def _lines(pairs: Iterable[tuple[str, str]]) -> Table:
    from rich.table import Table

    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="bold")
    grid.add_column()
    for name, value in pairs:
        grid.add_row(name, value)
    return grid


def _table(*columns: str) -> Table:
    from rich.table import Table

    return Table(*columns, box=None, padding=(0, 2, 0, 0), header_style="bold")


def _driver(driver: Driver) -> str:
    from harness.records.eta import duration

    if not driver.runs:
        return f"none runs; the last one was `{driver.command}`" if driver.command else "none runs"
    since = duration(time.time() - driver.since)
    return f"{driver.host}, process {driver.pid}, for {since}{STOPPING.get(driver.stopping or '', '')}"


def _counted(states: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} {state}" for state, count in states.items() if count) or "none yet"


def _reasons(state: str, reasons: Sequence[ReasonCount]) -> list[str]:
    lines = [f"{reason.times:,} {state}: {reason.text}" for reason in reasons[:MOST_REASONS]]
    rest = sum(reason.times for reason in reasons[MOST_REASONS:])
    return [*lines, f"{rest:,} {state} for {len(reasons) - MOST_REASONS} other reasons"] if rest else lines


def _finalist(finalist: RescoredStatus) -> str:
    """`trial-7: 2 re-scored, 1 running`."""
    counts = {"re-scored": finalist.scored, "failed": finalist.failed, "running": finalist.running}
    return f"{finalist.name}: {_counted(counts)}"


def _times(status: SweepStatus | AblationStatus) -> list[tuple[str, str]]:
    from harness.records.eta import duration

    pace, end = status.pace, status.end
    lines = []
    if pace is not None:
        lines.append(("pace", f"{pace.per_hour:.3g} an hour: {pace.ended} ended in {duration(3600 * pace.hours)}"))
    if end is not None:
        lines.append(("end", f"in about {duration(end.seconds)} ({end.rests_on})"))
    else:
        lines.append(("end", f"not known: {status.end_unknown}"))
    return lines


def _spent(status: SweepStatus) -> str:
    hours = f"{status.hours:.3g} hours" + (f" of {status.hours_limit:g}" if status.hours_limit is not None else "")
    limit = status.gpu_hours_limit
    return f"{hours}; {status.gpu_hours:.3g} GPU-hours" + (f" of {limit:g}" if limit is not None else "")


def _jobs(column: str, jobs: Sequence[tuple[str, str, Job | None, str]]) -> list[RenderableType]:
    """Only the columns in which one of them has something: a terminal is narrow."""
    if not jobs:
        return []
    names = ("running", column, "phase", "speed", "left", "newest", "attempt", "said", "worker")
    rows = [(name, budget, *_job(job, other_study)) for name, budget, job, other_study in jobs[:MOST_JOBS]]
    columns = [number for number in range(len(names)) if any(row[number] for row in rows)]
    table = _table(*(names[number] for number in columns))
    for row in rows:
        table.add_row(*(row[number] for number in columns))
    more = len(jobs) - MOST_JOBS
    return [table, *([f"and {more:,} more"] if more > 0 else []), ""]


def _job(job: Job | None, other_study: str) -> tuple[str, ...]:
    from harness.records.eta import duration
    from harness.trials.reported import left_text, newest_text, speed_text, stage_text

    if job is None:
        return *[""] * 6, f"study {other_study} trains it" if other_study else "waits for room"
    worker, attempt = f"{job.worker}: {job.where}" if job.where else job.worker, _attempt(job)
    if (progress := job.progress) is None:
        return *[""] * 4, attempt, "", worker
    if progress.processes > 1:
        worker = f"{worker}, first of {progress.processes}"
    said = f"{duration(max(0.0, time.time() - progress.time))} ago"
    cells = (stage_text(progress), speed_text(progress), left_text(progress), newest_text(progress))
    return *cells, attempt, said, worker


def _attempt(job: Job) -> str:
    """`3, time limit 1 of 10`: how often it was begun, and on Slurm what of that were time limits."""
    limits = f", time limit {job.time_limits} of {job.most_time_limits}" if job.time_limits else ""
    return f"{job.starts}{limits}" if job.starts else ""


def _stage(job: Job) -> str:
    from harness.trials.reported import stage_text

    return job.worker if job.progress is None else stage_text(job.progress)


def _cell(cell: Cell, score: str) -> str:
    if cell.job is not None and cell.state == "running":
        return f"{_stage(cell.job)}{', worker is gone' if cell.job.worker == 'is gone' else ''}"
    if cell.state == "complete":
        return "done" if cell.score is None else f"done, {title_of(score)} {cell.score:.4g}"
    return f"{cell.state}: {cell.reason}" if cell.reason else cell.state


def _front(status: SweepStatus) -> list[RenderableType]:

    if not status.front:
        counts = "" if status.floor is None else " and better than the floor"
        return [f"no candidate is trained to {status.budgets[-1].steps:,} steps{counts} yet" if status.budgets else ""]
    table = _table("Pareto front of the search's own values")
    for name in status.objectives:
        table.add_column(name, justify="right")
    table.add_column("candidate", overflow="fold")
    for point in status.front[:MOST_FRONT]:
        table.add_row(point.name, *(f"{value:.6g}" for value in point.values), _knobs(point))
    more = len(status.front) - MOST_FRONT
    return [table, *([f"and {more:,} more"] if more > 0 else [])]


def _knobs(point: FrontPoint) -> str:
    return ", ".join(f"{knob}={value}" for knob, value in point.parameters.items())


def _remarks(remarks: Sequence[str]) -> list[RenderableType]:
    from rich.text import Text

    return [Text(remark, style="yellow") for remark in remarks]
