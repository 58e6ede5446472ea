"""`harness latency predict NAME|timm:MODEL|diffusers:UNET --chip CHIP`: milliseconds on a chip, from shapes alone."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.commands.operands import edited, latent_of, say_latent
from harness.commands.verb import Verb
from harness.records.errors import UserError
from harness.records.quantity import Predicted, Unavailable

if TYPE_CHECKING:
    from harness.predictor.rebuilt import Network

TIMM_INPUT = "3x224x224"


def flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--chip", help='the chip, for example "A17 Pro"; without it, the chips are listed')
    units = ("CPU_AND_NE", "ALL", "CPU_AND_GPU", "CPU_ONLY")
    parser.add_argument("--compute-unit", default="CPU_AND_NE", choices=units, help="for Core ML; default CPU_AND_NE")
    parser.add_argument("--weight-bits", type=float, default=16, metavar="N", help="below 16: palettized; default 16")
    parser.add_argument(
        "--latent",
        type=int,
        help="of the latent, its side; default: as trained, else its own, else 128",
    )
    parser.add_argument("--batch", type=int, default=1, metavar="N", help="inputs of one forward pass; default 1")
    parser.add_argument("--input", metavar="CxHxW", help="the image of a timm: model; default 3x224x224")
    parser.add_argument("--calibration", metavar="FILE", help="what `latency calibrate --to` wrote; default: installed")
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")


def run(arguments: argparse.Namespace) -> int:
    from torch.utils._pytree import tree_leaves

    from harness.predictor import calibration
    from harness.predictor.chips import CHIPS, chip_named
    from harness.predictor.networks import TIMM
    from harness.predictor.predict import predict_latency

    if arguments.chip is None:
        raise UserError(f'say for which chip: --chip "NAME", one of: {", ".join(CHIPS)}')
    chip_named(arguments.chip)  # before the network, which takes longer
    if arguments.batch < 1:
        raise UserError(f"--batch is 1 or more, not {arguments.batch}")
    module, inputs = _network(arguments)
    try:
        latency = predict_latency(
            module,
            inputs,
            chip=arguments.chip,
            compute_unit=arguments.compute_unit,
            weight_bits=arguments.weight_bits,
            calibration=calibration.read(Path(arguments.calibration)) if arguments.calibration else None,
        )
    except (AssertionError, RuntimeError, ValueError, TypeError) as error:  # timm's models check their input each so
        if not arguments.name.startswith(TIMM):
            raise
        why = " ".join(str(error).split()) or type(error).__name__
        raise UserError(
            f"{arguments.name} does not run on {_shapes_text(inputs)} ({why}); give another --input"
        ) from error
    shapes = [list(x.shape) for x in tree_leaves(inputs)]
    print(json.dumps(as_plain(arguments, shapes, latency)) if arguments.json else _text(arguments, inputs, latency))
    return 0


VERB = Verb(
    summary="predict the latency of a network on a chip of Apple's, with an interval",
    name="an architecture of the catalogue, the path of its YAML, timm:MODEL, or diffusers:sd1.5, sd2.1 or sdxl",
    example='harness latency predict snapgen --chip "A18 Pro"',
    flags=flags,
    run=run,
)


def as_plain(
    arguments: argparse.Namespace, shapes: list[list[int]], latency: Predicted | Unavailable
) -> dict[str, Any]:
    """What `--json` prints."""
    named = {name: getattr(arguments, name) for name in ("name", "chip", "compute_unit", "weight_bits")}
    head = {**named, "inputs": shapes, "kind": latency.kind}
    if isinstance(latency, Unavailable):
        return {**head, "reason": latency.reason}
    shown = ("extrapolated_because", "nominal", "calibration", "fitted_on", "fitted_to")
    numbers = {"latency_ms": latency.value, "low_ms": latency.low, "high_ms": latency.high}
    return head | numbers | {"extrapolated": latency.extrapolated} | {name: latency.conditions[name] for name in shown}


def shape_of(text: str) -> tuple[int, int, int]:
    """`3x224x224`: channels, height, width."""
    parts = text.lower().split("x")
    if len(parts) != 3 or not all(part.isascii() and part.isdigit() and int(part) > 0 for part in parts):
        raise UserError(f"--input is CHANNELSxHEIGHTxWIDTH, such as {TIMM_INPUT}, not '{text}'")
    channels, height, width = map(int, parts)
    return channels, height, width


def _network(arguments: argparse.Namespace) -> Network:
    import torch

    from harness.models.build import build, example_inputs
    from harness.predictor.networks import DIFFUSERS, TIMM, diffusers_network, timm_network

    name, batch = arguments.name, arguments.batch
    if name.startswith(TIMM):
        if arguments.latent is not None or arguments.overrides:
            raise UserError(f"{name} takes --input, and neither --latent nor settings; leave those out")
        return timm_network(name.removeprefix(TIMM), shape_of(arguments.input or TIMM_INPUT), batch)
    if arguments.input is not None:
        raise UserError(f"--input is for timm: models; for {name} give the latent's side with --latent")
    if name.startswith(DIFFUSERS):
        if arguments.overrides:
            raise UserError(f"{name} takes --latent and no settings ('{arguments.overrides[0]}'); leave those out")
        return diffusers_network(name.removeprefix(DIFFUSERS), checked_latent(arguments.latent), batch)
    architecture = edited(name, arguments.overrides)
    latent = latent_of(arguments.latent, architecture, name)
    say_latent(latent, name)
    with torch.device("meta"):
        return build(architecture), example_inputs(architecture, latent=latent, batch=batch, device="meta")


def checked_latent(side: int | None) -> int | None:
    """Of Stable Diffusion's UNets, which halve it three times."""
    if side is not None and (side < 8 or side % 8):
        raise UserError(f"--latent is a multiple of 8, which Stable Diffusion's UNets halve, not {side}")
    return side


def _text(arguments: argparse.Namespace, inputs: Any, latency: Predicted | Unavailable) -> str:
    head = f"{arguments.name} on {_shapes_text(inputs)}: {arguments.chip}, {arguments.compute_unit}"
    head += f", {arguments.weight_bits:g}-bit weights"
    if isinstance(latency, Unavailable):
        return f"{head}\nno latency: {latency.reason}"
    share = f"{latency.conditions['nominal']:.0%} interval {latency.low:.3g} to {latency.high:.3g} ms"
    lines = [head, f"{latency.value:.3g} ms, predicted, not measured; {share}; from {latency.conditions['fitted_on']}"]
    if fitted_to := latency.conditions["fitted_to"]:
        lines.append(f"fitted, so this tests nothing: the data have {fitted_to}")
    lines += [f"extrapolated: {why}" for why in latency.conditions["extrapolated_because"]]
    return "\n".join(lines)


def _shapes_text(inputs: Any) -> str:
    from torch.utils._pytree import tree_leaves

    return ", ".join("x".join(map(str, x.shape)) for x in tree_leaves(inputs))
