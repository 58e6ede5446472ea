"""`harness measure NAME [path.of.knob=value ...]`: what an architecture costs, counted."""

import argparse
import json
from collections.abc import Sequence

from harness.architecture.catalogue import architecture
from harness.architecture.config import ArchitectureConfig
from harness.architecture.edits import with_edits
from harness.commands.tables import table
from harness.records.errors import UserError
from harness.trials.compose import parsed
from harness.trials.costs import cost_of
from harness.trials.prepared import FULL_LATENT


def run(arguments: argparse.Namespace) -> int:
    made, latent = edited(arguments.name, arguments.overrides), latent_of(arguments.latent)
    cost = cost_of(made, latent)
    totals = {
        "params": cost.params,
        "macs": cost.macs,
        "macs_without_attention": cost.macs_without_attention,
        "flops_fvcore": cost.flops_fvcore,
    }
    if arguments.json:
        print(json.dumps({"name": arguments.name, **totals, "latent": latent, "fingerprint": made.fingerprint}))
        return 0
    rows = [
        (place or "all", tally.params, tally.macs, tally.macs_without_attention, tally.flops_fvcore)
        for depth in (0, 2)
        for place, tally in cost.by_place(depth=depth).items()
    ]
    print(table(("place", *totals), rows, f"{arguments.name} at a {latent}x{latent} latent ({made.fingerprint})"))
    return 0


def edited(name: str, edits: Sequence[str]) -> ArchitectureConfig:
    """The architecture with knobs set on the command line: feed_forward.ratio=3."""
    return with_edits(architecture(name), parsed(edits))


def latent_of(flag: int | None) -> int:
    if flag is not None and flag < 1:
        raise UserError(f"--latent is at least 1, not {flag}")
    return flag or FULL_LATENT
