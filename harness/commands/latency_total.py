"""`harness latency total UNET --decoder DECODER --steps 4 8 --chip CHIP`: what one picture takes on a phone.

Without a decoder it is of a network that makes pictures itself.
"""

import argparse
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from harness.commands.operands import edited, latent_of, say_latent
from harness.commands.report import published_numbers
from harness.commands.verb import Verb
from harness.records.quantity import Measured, Predicted, Quantity, Unavailable
from harness.records.terminal import table

PAPERS = ("snapgen_t2i", "decoder/tiny")  # the pair of reports/published/on_device.yaml,
PAPERS_CHIP = "A18 Pro"  # and the chip of its iPhone 16 Pro Max
COLUMNS: Mapping[str | int, str] = {"unet": "unet_step", "decoder": "decoder", 4: "four_steps", 8: "eight_steps"}
LEFT_OUT = "one UNet pass a step, no guidance; text encoders left out"
MS = {"ms": 1.0, "ms a step": 1.0, "s": 1000.0}


@dataclass(frozen=True, kw_only=True, slots=True)
class Line:
    """One latency, and what is published of it."""

    title: str
    quantity: Quantity
    published_ms: float | None = None
    source: str = ""

    @property
    def fitted_to(self) -> str:
        """What the data have of a network whose latency is predicted; "" where it tests the predictor."""
        return str(self.quantity.conditions.get("fitted_to", "")) if isinstance(self.quantity, Predicted) else ""

    @property
    def plain(self) -> dict[str, Any]:
        """The keys of `harness latency predict --json`, and the published number."""
        quantity, is_known = self.quantity, isinstance(self.quantity, Measured | Predicted)
        return {
            "latency_ms": quantity.value if isinstance(quantity, Measured | Predicted) else None,
            "low_ms": getattr(quantity, "low", None),
            "high_ms": getattr(quantity, "high", None),
            "kind": quantity.kind,
            **({"extrapolated": quantity.extrapolated} if isinstance(quantity, Predicted) else {}),
            **({"fitted_to": self.fitted_to} if self.fitted_to else {}),
            **({} if is_known else {"reason": getattr(quantity, "reason", "")}),
            **({} if self.published_ms is None else {"published_ms": self.published_ms, "published_by": self.source}),
        }


def flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--decoder", metavar="NAME", help="the decoder, named likewise; none of a network of pixels")
    parser.add_argument("--steps", type=int, nargs="+", default=[4, 8], metavar="N", help="UNet passes; default 4 8")
    parser.add_argument("--chip", required=True, help='the phone\'s, for example "A18 Pro"')
    parser.add_argument("--latent", type=int, help="height and width of the latent; default: the UNet's own, or 128")
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")


def run(arguments: argparse.Namespace) -> int:
    from harness.latency.predicted import PredictedLatency
    from harness.trials.on_device import check_pair, latency_on_chip, total
    from harness.trials.outcomes import collect
    from harness.trials.settings import settings_of
    from harness.trials.spec import store_of

    unet = edited(arguments.name, ())
    decoder = None if arguments.decoder is None else edited(arguments.decoder, ())
    check_pair(unet, decoder)
    predictor = PredictedLatency(chip=arguments.chip)
    latent = latent_of(arguments.latent, unet, arguments.name)
    say_latent(latent, arguments.name)
    store = store_of(settings_of(arguments.overrides).out)
    collect(store)  # what a phone answered since
    step = latency_on_chip(store, unet, latent, predictor)
    decoding = None if decoder is None else latency_on_chip(store, decoder, latent, predictor)
    quantities: dict[str | int, Quantity] = {"unet": step, **({} if decoding is None else {"decoder": decoding})}
    quantities.update((steps, total(step, decoding, steps)) for steps in arguments.steps)
    printed = published_of(arguments.name, arguments.decoder, arguments.chip, latent)
    behind = "" if decoder is None else " and decoder"
    lines = {key: _line(key, quantity, printed, behind) for key, quantity in quantities.items()}
    head = {"unet": arguments.name, "decoder": arguments.decoder, "chip": predictor.chip, "latent": latent}
    print(json.dumps(_object(head, lines)) if arguments.json else _text(head, lines))
    return 0


VERB = Verb(
    summary="tell what one picture takes on a phone: steps x UNet + decoder",
    name="the UNet: an architecture of the catalogue, the path of its YAML, or a trial's ema.safetensors",
    operands="UNET [--decoder NAME] --chip CHIP",
    example='harness latency total snapgen_t2i --decoder decoder/tiny --steps 4 8 --chip "A18 Pro"',
    flags=flags,
    run=run,
)


def published_of(unet: str, decoder: str | None, chip: str, latent: int) -> Mapping[str | int, tuple[float, str]]:
    """`unet`, `decoder` or a number of steps -> (ms, label), where the paper prints it of this very pair."""
    from harness.architecture.catalogue import architecture
    from harness.device.targets import same_chip

    if (unet, decoder) != PAPERS or not same_chip(chip, PAPERS_CHIP):
        return {}
    if latent != latent_of(None, architecture(unet), unet):
        return {}
    published = published_numbers("on_device")
    printed: dict[str | int, tuple[float, str]] = {}
    for key, column in COLUMNS.items():
        cell = published.cell(unet, column)
        if cell is not None and cell.value is not None:
            printed[key] = (cell.value * MS[published.columns[column].unit], cell.source)
    return printed


def _line(key: str | int, quantity: Quantity, printed: Mapping[str | int, tuple[float, str]], behind: str) -> Line:
    title = {"unet": "UNet, one step", "decoder": "decoder"}.get(str(key), f"{key} steps{behind}")
    value, source = printed.get(key, (None, ""))
    return Line(title=title, quantity=quantity, published_ms=value, source=source)


def _object(head: Mapping[str, Any], lines: Mapping[str | int, Line]) -> dict[str, Any]:
    totals = [{"steps": key, **line.plain} for key, line in lines.items() if isinstance(key, int)]
    parts = {f"{key}_latency": line.plain for key, line in lines.items() if isinstance(key, str)}
    return {**head, **parts, "totals": totals}


def _text(head: Mapping[str, Any], lines: Mapping[str | int, Line]) -> str:
    rows = [(line.title, *_quantity_cells(line.quantity), _printed(line)) for line in lines.values()]
    printed = any(line.published_ms is not None for line in lines.values())
    width = None if printed else -1
    columns = ("", "ms", "interval", "how", "published, ms")[:width]
    networks = " and ".join(str(head[name]) for name in ("unet", "decoder") if head[name] is not None)
    title = f"{networks} on the {head['chip']}, {head['latent']}x{head['latent']} latent"
    totals = [line.quantity for key, line in lines.items() if isinstance(key, int)]
    notes = dict.fromkeys(one.reason for one in totals if isinstance(one, Unavailable))
    for line in lines.values():
        if line.fitted_to:
            notes[f"fitted, so that meeting it proves little: the data have {line.fitted_to}"] = None
    return "\n".join([table(columns, [row[:width] for row in rows], title), LEFT_OUT, *notes])


def _quantity_cells(quantity: Quantity) -> tuple[str, str, str]:
    if not isinstance(quantity, Measured | Predicted):
        return "", "", quantity.kind
    between = "" if quantity.low is None or quantity.high is None else f"{quantity.low:,.0f} to {quantity.high:,.0f}"
    extrapolated = isinstance(quantity, Predicted) and quantity.extrapolated
    return f"{quantity.value:,.0f}", between, quantity.kind + (", extrapolated" if extrapolated else "")


def _printed(line: Line) -> str:
    return "" if line.published_ms is None else f"{line.published_ms:,.0f} {line.source}"
