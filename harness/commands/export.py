"""`harness export NAME [path.of.knob=value ...]`: a Core ML package, and what it consists of."""

import argparse
from pathlib import Path

from harness.commands.measure import edited, latent_of
from harness.commands.tables import table
from harness.coreml.export import export_package
from harness.models.build import build, example_inputs


def run(arguments: argparse.Namespace) -> int:
    made = edited(arguments.name, arguments.overrides)
    latent = latent_of(arguments.latent, made)
    path = Path(arguments.to or f"{Path(arguments.name).stem}.mlpackage")
    summary = export_package(build(made), example_inputs(made, latent=latent), path)
    title = f"{arguments.name} at a {latent}x{latent} latent: {summary.bytes:,} bytes, {summary.target}"
    print(table(("operator", "times"), list(summary.operators.items()), f"{title}, {summary.precision}"))
    print(path)
    return 0
