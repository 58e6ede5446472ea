"""`harness evaluate (KEY | FOLDER | FILE)`: the quality of a stored checkpoint, or of images or networks that others
made."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
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
    from collections.abc import Mapping, Sequence

    from harness.reporting.score_sweeps import ScorePoint


def flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--beside", metavar="KEY", help="another trial: the difference too, sampled from the same noise"
    )
    parser.add_argument("--to", type=Path, metavar="FILE.npz", help="write the images' statistics, mu and sigma, too")
    parser.add_argument("--build", choices=get_args(Build), help="who made a FILE of statistics that does not say so")
    parser.add_argument(
        "--guidance", nargs="+", type=_number, metavar="W",
        help="score a network or a pipeline at these guidance scales, each with all of --steps; 1 is none",
    )  # fmt: skip
    parser.add_argument(
        "--steps", nargs="+", type=_whole_number, metavar="N", help="the same with these numbers of solver steps"
    )
    parser.add_argument(
        "--ema", nargs="+", type=_number, metavar="SPAN",
        help="the same with averages of these spans of its weights, of a training with recipe.ema_spans",
    )  # fmt: skip
    parser.add_argument(
        "--plot", type=Path, metavar="FILE.html", help="where their picture goes; default OUT/scores/KEY-SETTINGS.html"
    )
    parser.add_argument(
        "--workers", type=int, metavar="N",
        help="sample it in N jobs of the launcher; default: in this process, on Slurm launcher.max_in_flight",
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
    from harness.trials.scores.reconstructed import reconstructs
    from harness.trials.scores.request import check_jobs
    from harness.trials.settings import settings_of
    from harness.trials.trained import OTHERS, names_network, network_of, settings_about

    overrides = [*arguments.overrides, "count_only=false"]
    _check_flags(arguments)
    arguments.reconstructs = False
    if names_network(arguments.name):
        arguments.what = network_of(arguments.name, overrides, OTHERS)
        if reconstructs(arguments.what):
            _check_reconstruction(arguments, overrides)
            return
        arguments.settings = settings_about(arguments.what, overrides, scored=True)
    else:
        arguments.what = Path(arguments.name)
        _check_at_hand(arguments)
        arguments.settings = settings_of(overrides)
    check_jobs(arguments.what, arguments.settings, arguments.workers)
    check_device(arguments.settings)
    if _is_sweep(arguments):
        _check_sweep(arguments)


def _check_reconstruction(arguments: argparse.Namespace, overrides: list[str]) -> None:
    """Of a decoder or an autoencoder: its settings; flags of sampling are refused."""
    from harness.trials.checks import check_device
    from harness.trials.scores.reconstructed import scoring_settings

    for flag in ("beside", "to", "build", "guidance", "steps", "ema", "plot", "workers"):
        if getattr(arguments, flag) is not None:
            raise UserError(
                f"--{flag} is of pictures that are sampled, and {arguments.what.title} decodes; leave it out"
            )
    arguments.reconstructs, arguments.settings = True, scoring_settings(arguments.what, overrides)
    check_device(arguments.settings)


def _check_flags(arguments: argparse.Namespace) -> None:
    """What the command line alone tells, before anything is loaded."""
    from harness.trials.scores.request import check_workers, sampling_grid

    check_workers(arguments.workers)
    if arguments.plot is not None and not _is_sweep(arguments):
        raise UserError("--plot is the picture of scores over --guidance, --steps or --ema; give one, or leave it out")
    for flag, file, suffix in (("to", arguments.to, ".npz"), ("plot", arguments.plot, ".html")):
        if file is not None and file.suffix != suffix:
            raise UserError(f"--{flag} names an {suffix} file, not {file}")
        if file is not None:
            check_file_writable(file)
    if not _is_sweep(arguments):
        return
    for flag in ("beside", "to", "build"):
        if getattr(arguments, flag) is not None:
            raise UserError(
                f"--{flag} is of one score, and --guidance, --steps and --ema ask for several; leave one out"
            )
    sampling_grid(SamplingConfig(), arguments.guidance, arguments.steps)
    for flag, setting in (("guidance", "guidance_scale"), ("steps", "steps")):
        if getattr(arguments, flag) is not None and (word := _override(arguments, f"sampling.{setting}")) is not None:
            raise UserError(f"--{flag} says at which {setting} to score, and so does {word}; leave one out")


def _check_at_hand(arguments: argparse.Namespace) -> None:
    """Refuse what a pipeline is sampled without, and sampling what is there already, rather than leave it out."""
    from harness.trials.scores.request import is_pipeline

    solver = _override(arguments, "sampling.solver")
    if is_pipeline(arguments.what) and solver is not None:
        raise UserError(f"{arguments.name} is sampled by its own call, with its own scheduler; leave out {solver}")
    if _is_sweep(arguments) and not is_pipeline(arguments.what):
        raise UserError(
            f"--guidance, --steps and --ema are of a trained network or a pipeline, and {arguments.name} is neither; "
            "leave them out"
        )


def _override(arguments: argparse.Namespace, setting: str) -> str | None:
    """The word of the command line that gives the setting, as it was written."""
    return next((each for each in arguments.overrides if each.lstrip("+~").startswith(f"{setting}=")), None)


def run(arguments: argparse.Namespace) -> int:
    from harness.trials.scores.evaluate import differences, evaluate
    from harness.trials.scores.request import against
    from harness.trials.trained import TrainedNetwork

    if arguments.reconstructs:
        return _reconstruct(arguments)
    if _is_sweep(arguments):
        return _sweep(arguments)
    settings, workers = arguments.settings, arguments.workers
    network = arguments.what if isinstance(arguments.what, TrainedNetwork) else None
    evaluated = evaluate(
        arguments.name, settings, network=network, to=arguments.to, build=arguments.build, workers=workers
    )
    quantities, remarks = evaluated.quantities, evaluated.remarks
    if arguments.beside is not None:
        other = evaluate(arguments.beside, settings, workers=workers)
        quantities |= differences(quantities, other.quantities, arguments.beside)
        remarks += other.remarks
    for remark in dict.fromkeys(remarks):
        print(remark, file=sys.stderr)
    # `digits.npz against digits: KID-EffLite0@64, N=60 against 14; ...`
    return _show(f"{arguments.name} against {against(settings)}", quantities, as_json=arguments.json)


def _reconstruct(arguments: argparse.Namespace) -> int:
    from harness.trials.scores.reconstructed import reconstruction_scores

    quantities = reconstruction_scores(arguments.settings)
    measured = (each for each in quantities.values() if isinstance(each, Measured))
    data = next(str(each.conditions["data"]) for each in measured)
    return _show(f"{arguments.name} on {data}", quantities, as_json=arguments.json)


def _show(title: str, quantities: Mapping[str, Quantity], *, as_json: bool) -> int:
    if as_json:
        print(json.dumps(to_plain(quantities)))
        return 0
    measured = (each for each in quantities.values() if isinstance(each, Measured))
    labels = dict.fromkeys(str(each.conditions["label"]) for each in measured if "label" in each.conditions)
    print(quantities_table(f"{title}: {'; '.join(labels)}", quantities))
    return 0


def _is_sweep(arguments: argparse.Namespace) -> bool:
    return any(each is not None for each in (arguments.guidance, arguments.steps, arguments.ema))


def _check_sweep(arguments: argparse.Namespace) -> None:
    """Compose every point before anything is sampled."""
    from harness.trials.scores.request import against, check_averages, sampling_grid

    settings, what = arguments.settings, arguments.what
    arguments.grid = sampling_grid(settings.sampling, arguments.guidance, arguments.steps)
    arguments.averages = check_averages(what, arguments.ema)
    varied = {"grid": arguments.grid, "averages": arguments.averages}
    content = to_plain({**varied, "quality": settings.quality, "data": settings.data})
    asked_key = fingerprint(content, schema="score-plot-1")  # a picture with other settings is another file
    if isinstance(what, Path):
        name = title = what.resolve().name
    else:
        name, title = what.key, what.title if what.record is None else f"{what.record.name}, trial {what.key}"
    arguments.title = f"{title}, against {against(settings)}"
    if arguments.plot is None:
        arguments.plot = settings.out / "scores" / f"{name}-{asked_key}.html"
        check_file_writable(arguments.plot)


def _sweep(arguments: argparse.Namespace) -> int:
    from harness.records.store import write_atomic
    from harness.reporting.score_sweeps import ScorePoint, score_sweep_figure
    from harness.trials.scores.request import ScoreRequest, ranked_by
    from harness.trials.scores.workers import scores

    settings, title = arguments.settings, arguments.title
    request = ScoreRequest(
        what=arguments.what, settings=settings, grid=arguments.grid, averages=arguments.averages
    )  # fmt: skip
    swept, score = scores(request, arguments.workers), ranked_by(settings.quality)
    variants = [(span, config) for span in arguments.averages for config in arguments.grid]
    points = [
        ScorePoint(guidance=config.guidance_scale, steps=config.steps, span=span, scores=each.quantities)
        for (span, config), each in zip(variants, swept, strict=True)
    ]
    for remark in dict.fromkeys(remark for each in swept for remark in each.source.remarks):
        print(remark, file=sys.stderr)
    page = score_sweep_figure(points, score, title=title).to_html(include_plotlyjs=True)
    write_atomic(arguments.plot, page.encode())
    if arguments.json:
        rows = [
            {
                "sampling": {**asdict(config), **each.source.identity["sampling"]},
                **({} if span is None else {"average_span": span}),
                "scores": each.quantities,
            }
            for (span, config), each in zip(variants, swept, strict=True)
        ]
        print(json.dumps(to_plain(rows)))
        return 0
    print(_sweep_table(title, points, [each.source.conditions.get("evaluations") for each in swept], score))
    print(arguments.plot)
    return 0


def _sweep_table(title: str, points: Sequence[ScorePoint], evaluations: Sequence[int | None], score: str) -> str:
    from harness.reporting.score_sweeps import best_note, best_of, less_the_best, score_label

    names, spans = list(points[0].scores), any(point.span is not None for point in points)
    best, apart = best_of(points, score), less_the_best(points, score)
    rows = [
        (
            *((f"{point.span:g}",) if spans else ()),
            f"{point.guidance:g}",
            point.steps,
            "-" if nfe is None else nfe,
            *(_shown(point.scores[name]) for name in names),
            "the best" if point is best else "-" if interval is None else f"{interval[0]:+.3g} to {interval[1]:+.3g}",
        )
        for point, nfe, interval in zip(points, evaluations, apart, strict=True)
    ]
    columns = (*(("EMA span",) if spans else ()), "guidance", "steps", "NFE", *names, f"{score} less the best, 95%")
    return table(columns, rows, f"{title}, {score_label(points, score)}; {best_note(points, score)}")


def _shown(quantity: Quantity) -> str:
    if isinstance(quantity, Measured):
        return f"{quantity.value:.4g}"
    return "failed" if isinstance(quantity, Failed) else "unavailable"


VERB = Verb(
    summary="score a trial's checkpoint, or images that others made, against a data set or a reference file; a decoder "
    "by the pictures that it makes again",
    name="a trial's key or its first digits, a file of weights, a promoted YAML, a folder of images or of a diffusers "
    "pipeline, an .npz of images (arr_0) or of statistics (mu, sigma)",
    example="harness evaluate ~/generated data=digits --json",
    flags=flags,
    check=check,
    run=run,
)
