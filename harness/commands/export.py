"""`harness export NAME [path.of.knob=value ...]`: a Core ML package, what it consists of, what may leave the engine."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.commands.operands import WEIGHTS, edited, latent_of, say_latent
from harness.commands.verb import Verb
from harness.records.errors import UserError
from harness.records.plain import from_plain, to_plain
from harness.records.terminal import table

if TYPE_CHECKING:
    from harness.architecture.config import ArchitectureConfig
    from harness.coreml.config import Mlprogram, WeightBits
    from harness.coreml.export import Converted
    from harness.coreml.limits import Finding
    from harness.coreml.mil_program import Program
    from harness.coreml.palettize import Palettes
    from harness.trials.shipping import Subject


def flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--latent",
        type=int,
        help="of the latent, its side; default: as trained, else its own, else 128",
    )
    parser.add_argument("--to", metavar="FILE", help="where the .mlpackage goes; default NAME.mlpackage here")
    parser.add_argument("--weights", metavar="FILE", help="a trial's ema.safetensors; default: untrained weights")
    parser.add_argument("--target", choices=("iOS16", "iOS17", "iOS18"), help="the oldest system; default iOS17")
    parser.add_argument("--layout", choices=("ane", "plain"), help="for the Neural Engine, or as it is; default ane")
    parser.add_argument("--bits", type=int, choices=(16, 8, 6, 4), help="of a weight; below 16 palettized; default 16")
    parser.add_argument(
        "--at-most-mb",
        type=float,
        metavar="SIZE",
        help="palettize each tensor at 2, 4, 6 or 8 bits, so that all take at most SIZE MB and the output errs least; "
        "the plan is written beside the package",
    )
    parser.add_argument("--plan", type=Path, metavar="FILE", help="palettize by a plan that --at-most-mb wrote")
    parser.add_argument("--cut", action="store_true", help="write it in two parts too, which run one after the other")
    parser.add_argument("--preflight", action="store_true", help="from shapes alone, in seconds: write no package")
    parser.add_argument(
        "--parity",
        action="store_true",
        help="hold the package against the module; without --weights both get random ones",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")


def check(arguments: argparse.Namespace) -> None:
    architecture = edited(arguments.name, arguments.overrides)
    if arguments.name.endswith(WEIGHTS) and arguments.weights is None and not arguments.preflight:
        arguments.weights = arguments.name
    _check_palettes(arguments)
    latent_of(arguments.latent, architecture, arguments.weights or arguments.name)


def _check_palettes(arguments: argparse.Namespace) -> None:
    from harness.coreml.palette_plan import read_plan

    given = [name for name in ("bits", "at_most_mb", "plan") if getattr(arguments, name) is not None]
    if len(given) > 1:
        flags = " and ".join(f"--{name.replace('_', '-')}" for name in given)
        raise UserError(f"{flags} each say of how many bits weights are; leave one out")
    if arguments.plan is not None:
        arguments.palettes = read_plan(arguments.plan)
    if arguments.at_most_mb is None:
        return
    if not arguments.at_most_mb > 0:
        raise UserError(f"--at-most-mb is a size above 0, not {arguments.at_most_mb:g}")
    if arguments.weights is None:
        raise UserError("--at-most-mb measures trained weights; name them with --weights FILE")


def run(arguments: argparse.Namespace) -> int:
    from harness.coreml.config import Mlprogram

    architecture = edited(arguments.name, arguments.overrides)
    latent = latent_of(arguments.latent, architecture, arguments.weights or arguments.name)
    say_latent(latent, arguments.weights or arguments.name)
    flags = {name: getattr(arguments, name) for name in ("target", "layout", "bits")}
    config = from_plain(Mlprogram, {name: value for name, value in flags.items() if value is not None})
    if not arguments.preflight:
        return _export(arguments, architecture, latent, config)
    if arguments.parity:
        raise UserError("--preflight writes no package, so there is none for --parity; leave one of them out")
    for flag in ("to", "weights", "at_most_mb", "plan", "cut"):
        if getattr(arguments, flag) not in (None, False):
            word = flag.replace("_", "-")
            raise UserError(f"--preflight writes no package, so it takes no --{word}; leave one of them out")
    return _preflight(arguments, architecture, latent, config)


VERB = Verb(
    summary="export an architecture to a Core ML package",
    name="an architecture of the catalogue, the path of its YAML, or a trial's ema.safetensors",
    example="harness export winner.yaml --to winner.mlpackage",
    lists="architectures",
    flags=flags,
    check=check,
    run=run,
)


def _export(arguments: argparse.Namespace, architecture: ArchitectureConfig, latent: int, config: Mlprogram) -> int:
    from harness.coreml.export import check_package_place, convert, write_package
    from harness.coreml.mil_program import read_program
    from harness.coreml.preflight import check_package
    from harness.trials.trained import BITS

    path = Path(arguments.to or f"{Path(arguments.name).stem}.mlpackage")
    check_package_place(path)
    subject = _subject(arguments, architecture, latent)
    converted = convert(subject.module, subject.inputs[0], config)
    weights = _weights_as(arguments, subject, path, converted)
    bits = weights if isinstance(weights, int) else "mixed"
    summary = write_package(converted, path, weights, about={**subject.about, BITS: str(bits)})
    findings = check_package(summary.path)
    answer: dict[str, Any] = _head(arguments.name, latent, summary)
    lines = []
    program = read_program(summary.path) if arguments.parity or arguments.cut else None
    if program is not None and arguments.parity:
        answers, line = _parity(subject, program, is_palettized=bits != 16)
        answer |= answers
        lines.append(line)
    if program is not None and arguments.cut:
        answers, line = _cut(subject, summary.path, program)
        answer |= answers
        lines.append(line)
    if arguments.json:
        return _print_json(answer, findings)
    title = f"{arguments.name} at a {latent}x{latent} latent: {summary.bytes:,} bytes, {summary.target}"
    _print_operators(summary.operators, f"{title}, {_weights(bits, config)}, layout {config.layout}")
    _print_findings(findings)
    print("\n".join([*lines, str(path)]))
    return 0


def _subject(arguments: argparse.Namespace, architecture: ArchitectureConfig, latent: int) -> Subject:
    from harness.trials.shipping import of_weights, untrained

    held_against = bool(arguments.parity or arguments.cut)
    if arguments.weights is None:
        return untrained(architecture, latent, filled=held_against)
    tried = held_against or arguments.at_most_mb is not None
    return of_weights(Path(arguments.weights), architecture, latent, tried=tried)


def _weights_as(
    arguments: argparse.Namespace, subject: Subject, path: Path, converted: Converted
) -> WeightBits | Palettes:
    """The bits of all weights; or the plan that is named, or made here and written beside the package."""
    from harness.coreml.palette_plan import cheapest, write_plan
    from harness.trials.shipping import palette_errors

    if arguments.plan is not None:
        palettes: Palettes = arguments.palettes
        return palettes
    if arguments.at_most_mb is None:
        return converted.config.bits
    at_most_bytes = round(1e6 * arguments.at_most_mb)
    layers = palette_errors(subject, converted, at_most_bytes)
    plan = cheapest(layers, at_most_bytes)
    file = path.with_suffix(".palettes.yaml")
    about = (
        f"At most {arguments.at_most_mb:g} MB of palettized tensors, for {arguments.name}, measured on {subject.source}"
    )
    write_plan(file, plan, layers, about)
    print(f"the plan: {file}", file=sys.stderr)
    return plan


def _parity(subject: Subject, program: Program, *, is_palettized: bool) -> tuple[dict[str, Any], str]:
    """The worst of all inputs, for JSON and for people. ParityError below a gate; palettes change the weights, so
    theirs is a number without one."""
    from harness.coreml.parity import EXPECTED_DB, ParityResult, costliest_operator, parity

    results = [parity(subject.module, each, program) for each in subject.inputs]
    worst = ParityResult(
        float32_db=min(each.float32_db for each in results), float16_db=min(each.float16_db for each in results)
    )
    line = (
        f"parity with the module, {subject.source}: {worst.float32_db:.1f} dB computed in float32, "
        f"{worst.float16_db:.1f} dB rounded to fp16; it proves the graph, not the Neural Engine's arithmetic"
    )
    answers: dict[str, Any] = {"parity": to_plain(worst), "inputs": subject.source}
    if is_palettized:
        return answers, line
    worst.check()
    if worst.float16_db < EXPECTED_DB:
        at = min(range(len(results)), key=lambda number: results[number].float16_db)
        operator, left_db = costliest_operator(subject.module, subject.inputs[at], program)
        answers["costliest"] = {"operator": operator, "alone_db": left_db}
        line += (
            f"\nless than the {EXPECTED_DB:g} dB that Apple expects of fp16; most of it by '{operator}': "
            f"{left_db:.1f} dB with its results alone rounded"
        )
    return answers, line


def _cut(subject: Subject, package: Path, program: Program) -> tuple[dict[str, Any], str]:
    from harness.coreml.chunks import check_chain, chunks_psnr_db, cut_in_two
    from harness.coreml.mil_program import read_program

    chunks = cut_in_two(package)
    parts = [read_program(each) for each in chunks]
    nearness = min(chunks_psnr_db(program, parts, each) for each in subject.inputs)
    check_chain(nearness)
    names = " and ".join(map(str, chunks))
    line = f"in two parts, {names}: one after the other, {nearness:.1f} dB of the whole"
    return {"chunks": [str(each) for each in chunks], "chunks_db": nearness}, line


def _preflight(arguments: argparse.Namespace, architecture: ArchitectureConfig, latent: int, config: Mlprogram) -> int:
    import torch

    from harness.coreml.preflight import preflight
    from harness.models.build import build, example_inputs

    with torch.device("meta"):
        module = build(architecture)
    report = preflight(module, example_inputs(architecture, latent=latent, device="meta"), config)
    if arguments.json:
        return _print_json(_head(arguments.name, latent, config) | _head(arguments.name, latent, report), ())
    title = f"{arguments.name} at a {latent}x{latent} latent, before converting: {report.params:,} parameters, "
    title += f"{report.weight_bytes:,} bytes of weights ({_weights(config.bits, config)}), layout {config.layout}"
    _print_operators(report.operators, title)
    shape = " x ".join(map(str, report.largest_tensor))
    print(f"largest tensor: {shape}, {report.largest_tensor_bytes:,} bytes in fp16")
    if report.not_laid_out:
        print(f"no laid-out form, exported as they are: {', '.join(report.not_laid_out)}")
    _print_findings(report.findings)
    return 0


def _weights(bits: WeightBits | str, config: Mlprogram) -> str:
    if bits == 16:
        return config.precision
    return "mixed palettes" if bits == "mixed" else f"{bits}-bit palettes"


def _head(name: str, latent: int, what: Any) -> dict[str, Any]:
    plain: Any = to_plain(what)
    return {"name": name, **plain, "latent": latent}


def _print_json(head: Mapping[str, Any], findings: Sequence[Finding]) -> int:
    print(json.dumps({"findings": to_plain(findings), **head}))
    return 0


def _print_operators(operators: Mapping[str, int], title: str) -> None:
    print(table(("operator", "times"), [*operators.items(), ("all", sum(operators.values()))], title))


def _print_findings(findings: Sequence[Finding]) -> None:
    for finding in findings:
        where = f", first at {finding.place}" if finding.place else ""
        times = f" ({finding.times} times{where})" if finding.times > 1 else f" ({where[2:]})" * bool(where)
        print(f"warning: {finding.message}{times} [{finding.evidence}: {finding.source}]")
    if not findings:
        print("no known limit is met")
