"""`harness export NAME [path.of.knob=value ...]`: a Core ML package, what it consists of, what may leave the engine."""

from __future__ import annotations

import argparse
import json
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
    from harness.coreml.config import Mlprogram
    from harness.coreml.limits import Finding
    from harness.coreml.parity import ParityResult


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
    latent_of(arguments.latent, architecture, arguments.weights or arguments.name)


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
    for flag in ("to", "weights"):
        if getattr(arguments, flag) is not None:
            raise UserError(f"--preflight writes no package, so it takes no --{flag}; leave one of them out")
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
    from harness.coreml.export import check_package_place, export_package
    from harness.coreml.parity import parity
    from harness.coreml.preflight import check_package
    from harness.models.build import build, example_inputs
    from harness.models.parameters import fill_weights
    from harness.models.weights import read_weights

    path = Path(arguments.to or f"{Path(arguments.name).stem}.mlpackage")
    check_package_place(path)
    inputs = example_inputs(architecture, latent=latent)
    if arguments.weights is not None:
        module = read_weights(Path(arguments.weights), architecture).network()
    else:
        module = build(architecture)
        if arguments.parity:
            fill_weights(module)
    summary = export_package(module, inputs, path, config)
    findings = check_package(summary.path)
    result = parity(module, inputs, summary.path) if arguments.parity else None
    if arguments.json:
        _print_json(_head(arguments.name, latent, summary) | ({"parity": to_plain(result)} if result else {}), findings)
        return _judged(result, config)
    title = f"{arguments.name} at a {latent}x{latent} latent: {summary.bytes:,} bytes, {summary.target}"
    _print_operators(summary.operators, f"{title}, {_weights(config)}, layout {config.layout}")
    _print_findings(findings)
    if result is not None:
        print(
            f"parity with the module: {result.float32_db:.1f} dB computed in float32, "
            f"{result.float16_db:.1f} dB rounded to fp16; it proves the graph, not the Neural Engine's arithmetic"
        )
    print(path)
    return _judged(result, config)


def _judged(result: ParityResult | None, config: Mlprogram) -> int:
    """ParityError below a gate; palettes change the weights, so theirs is a number without one."""
    if result is not None and config.bits == 16:
        result.check()
    return 0


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
    title += f"{report.weight_bytes:,} bytes of weights ({_weights(config)}), layout {config.layout}"
    _print_operators(report.operators, title)
    shape = " x ".join(map(str, report.largest_tensor))
    print(f"largest tensor: {shape}, {report.largest_tensor_bytes:,} bytes in fp16")
    if report.not_laid_out:
        print(f"no laid-out form, exported as they are: {', '.join(report.not_laid_out)}")
    _print_findings(report.findings)
    return 0


def _weights(config: Mlprogram) -> str:
    return config.precision if config.bits == 16 else f"{config.bits}-bit palettes"


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
