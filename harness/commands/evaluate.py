"""`harness evaluate (KEY | FOLDER | FILE)`: the quality of a stored checkpoint, or of images or networks that others
made."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from harness.commands.verb import Verb
from harness.diffusion.config import SamplingConfig
from harness.measure.quality_config import Build
from harness.records.errors import UserError
from harness.records.plain import fingerprint, to_plain
from harness.records.quantity import Failed, Measured, Quantity
from harness.records.store import check_file_writable
from harness.records.terminal import quantities_table, table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.reporting.score_sweep import ScorePoint
    from harness.trials.score_sweep import SweepPoint


def flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--beside", metavar="KEY", help="another trial: the difference too, sampled from the same noise"
    )
    parser.add_argument("--to", type=Path, metavar="FILE.npz", help="write the images' statistics, mu and sigma, too")
    parser.add_argument("--build", choices=get_args(Build), help="who made a FILE of statistics that does not say so")
    parser.add_argument(
        "--guidance", nargs="+", type=_number, metavar="W",
        help="score a trained network at these guidance scales, each with all of --steps; 1 is none",
    )  # fmt: skip
    parser.add_argument(
        "--steps", nargs="+", type=_whole_number, metavar="N", help="the same with these numbers of solver steps"
    )
    parser.add_argument(
        "--plot", type=Path, metavar="FILE.html", help="where their picture goes; default OUT/scores/KEY-SETTINGS.html"
    )
    parser.add_argument(
        "--workers", type=int, metavar="N",
        help="sample a network in N jobs of the launcher; default: in this process, on Slurm launcher.max_in_flight",
    )  # fmt: skip
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"'{text}' is no number; separate several by spaces: 1 1.5 2") from error


def _whole_number(text: str) -> int:
    try:
        return int(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"'{text}' is no whole number; separate several by spaces: 10 25") from error


def check(arguments: argparse.Namespace) -> None:
    from harness.trials.checks import check_device
    from harness.trials.settings import settings_of
    from harness.trials.trained import OTHERS, names_network, network_and_settings

    overrides = [*arguments.overrides, "count_only=false"]
    arguments.trained = None
    _check_flags(arguments)
    if names_network(arguments.name):
        arguments.trained, arguments.settings = network_and_settings(arguments.name, overrides, OTHERS, scored=True)
    else:
        arguments.settings = settings_of(overrides)
    check_device(arguments.settings)
    if _is_pipeline(arguments):
        _check_pipeline(arguments)
    if _is_sweep(arguments):
        _check_sweep(arguments)


def _check_flags(arguments: argparse.Namespace) -> None:
    """What the command line alone tells, before anything is loaded."""
    if arguments.workers is not None and arguments.workers < 1:
        raise UserError(f"--workers is a whole number from 1, not {arguments.workers}")
    if arguments.plot is not None and not _is_sweep(arguments):
        raise UserError("--plot is the picture of scores over --guidance or --steps; give one of them, or leave it out")
    if arguments.to is not None and arguments.to.suffix != ".npz":
        raise UserError(f"--to names an .npz file, not {arguments.to}")
    if arguments.to is not None:
        check_file_writable(arguments.to)
    if not _is_sweep(arguments):
        return
    for flag in ("beside", "to", "build"):
        if getattr(arguments, flag) is not None:
            raise UserError(f"--{flag} is of one score, and --guidance and --steps ask for several; leave one out")
    for scale in arguments.guidance or ():
        SamplingConfig(guidance_scale=scale)
    for steps in arguments.steps or ():
        SamplingConfig(steps=steps)


def _check_pipeline(arguments: argparse.Namespace) -> None:
    """Refuse what a pipeline is sampled without, rather than leave it out."""
    from harness.launch.config import SlurmLauncher

    asked = next((each for each in arguments.overrides if each.lstrip("+~").startswith("sampling.solver=")), None)
    if asked is not None:
        raise UserError(f"{arguments.name} is sampled by its own call, with its own scheduler; leave out {asked}")
    if isinstance(arguments.settings.launcher, SlurmLauncher):
        raise UserError(
            f"{arguments.name} is a pipeline, which is sampled in this process; leave out launcher=slurm, and submit "
            "this command as a job of your own where it shall run on a cluster"
        )


def run(arguments: argparse.Namespace) -> int:
    from harness.trials.evaluate import differences, evaluate

    if _is_sweep(arguments):
        return _sweep(arguments)
    settings, workers = arguments.settings, arguments.workers
    evaluated = evaluate(arguments.name, settings, to=arguments.to, build=arguments.build, workers=workers)
    quantities = evaluated.quantities
    if arguments.beside is not None:
        other = evaluate(arguments.beside, settings, workers=workers)
        quantities |= differences(quantities, other.quantities, arguments.beside)
    for remark in evaluated.remarks:
        print(remark, file=sys.stderr)
    if arguments.json:
        print(json.dumps(to_plain(quantities)))
        return 0
    measured = (each for each in quantities.values() if isinstance(each, Measured))
    labels = dict.fromkeys(str(each.conditions["label"]) for each in measured if "label" in each.conditions)
    title = (
        f"{arguments.name} against {evaluated.against}: {'; '.join(labels)}"  # `KID-EffLite0@64, N=60 against 14; ...`
    )
    print(quantities_table(title, quantities))
    return 0


def _is_sweep(arguments: argparse.Namespace) -> bool:
    return arguments.guidance is not None or arguments.steps is not None


def _is_pipeline(arguments: argparse.Namespace) -> bool:
    """Of diffusers; torch is loaded for a folder alone."""
    if not Path(arguments.name).is_dir():
        return False
    from harness.trials.pipeline import is_pipeline

    return is_pipeline(Path(arguments.name))


def _swept(arguments: argparse.Namespace) -> list[SweepPoint]:
    from harness.trials.pipeline_sweep import pipeline_sweep
    from harness.trials.score_sweep import score_sweep

    if _is_pipeline(arguments):
        return pipeline_sweep(Path(arguments.name), arguments.settings, arguments.grid)
    return score_sweep(arguments.trained, arguments.settings, arguments.grid, arguments.workers)


def _check_sweep(arguments: argparse.Namespace) -> None:
    """Compose every point before anything is sampled."""
    from harness.trials.score_sweep import sampling_grid

    if arguments.trained is not None:
        arguments.title, name = arguments.trained.title, arguments.trained.key
    elif _is_pipeline(arguments):
        arguments.title = name = Path(arguments.name).resolve().name
    else:
        raise UserError(
            f"--guidance and --steps sample a trained network, and {arguments.name} is none; leave them out"
        )
    if arguments.trained is None and arguments.workers is not None:
        raise UserError(f"--workers sample a trained network, and {arguments.name} is a pipeline; leave it out")
    settings = arguments.settings
    arguments.grid = sampling_grid(settings.sampling, arguments.guidance, arguments.steps)
    asked = to_plain({"grid": arguments.grid, "quality": settings.quality, "data": settings.data})
    asked_key = fingerprint(asked, schema="score-plot-1")  # a picture with other settings is another file
    arguments.plot = arguments.plot or settings.out / "scores" / f"{name}-{asked_key}.html"
    arguments.title = f"{arguments.title}, {settings.data.kind}"
    if arguments.plot.suffix != ".html":
        raise UserError(f"--plot names an .html file, not {arguments.plot}")
    check_file_writable(arguments.plot)


def _sweep(arguments: argparse.Namespace) -> int:
    from harness.records.store import write_atomic
    from harness.reporting.score_sweep import ScorePoint, score_sweep_figure
    from harness.trials.score_sweep import ranked_by

    swept = _swept(arguments)
    points = [
        ScorePoint(guidance=each.sampling.guidance_scale, steps=each.sampling.steps, scores=each.scores)
        for each in swept
    ]
    score, title = ranked_by(arguments.settings.quality), arguments.title
    if solver := next((each.own["solver"] for each in swept if each.own is not None), ""):
        print(f"sampled by the pipeline's own call, {solver}; sampling.solver is not asked for", file=sys.stderr)
    page = score_sweep_figure(points, score, title=title).to_html(include_plotlyjs=True)
    write_atomic(arguments.plot, page.encode())
    if arguments.json:
        print(json.dumps([to_plain({"sampling": each.settings, "scores": each.scores}) for each in swept]))
        return 0
    print(_sweep_table(title, points, [each.evaluations for each in swept], score))
    print(arguments.plot)
    return 0


def _sweep_table(title: str, points: Sequence[ScorePoint], evaluations: Sequence[int | None], score: str) -> str:
    from harness.reporting.score_sweep import best_note, best_of, less_the_best, score_label

    names = list(points[0].scores)
    best, apart = best_of(points, score), less_the_best(points, score)
    rows = [
        (
            f"{point.guidance:g}",
            point.steps,
            "-" if nfe is None else nfe,
            *(_shown(point.scores[name]) for name in names),
            "the best" if point is best else "-" if interval is None else f"{interval[0]:+.3g} to {interval[1]:+.3g}",
        )
        for point, nfe, interval in zip(points, evaluations, apart, strict=True)
    ]
    columns = ("guidance", "steps", "NFE", *names, f"{score} less the best, 95%")
    return table(columns, rows, f"{title}, {score_label(points, score)}; {best_note(points, score)}")


def _shown(quantity: Quantity) -> str:
    if isinstance(quantity, Measured):
        return f"{quantity.value:.4g}"
    return "failed" if isinstance(quantity, Failed) else "unavailable"


VERB = Verb(
    summary="score a trial's checkpoint, or images that others made, against a data set or a reference file",
    name="a trial's key or its first digits, a file of weights, a promoted YAML, a folder of images or of a diffusers "
    "pipeline, an .npz of images (arr_0) or of statistics (mu, sigma)",
    example="harness evaluate ~/generated data=digits --json",
    flags=flags,
    check=check,
    run=run,
)
