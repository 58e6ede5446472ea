"""`harness report NAME`: the report of an ablation, from its manifest and the store."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from harness.commands.verb import Verb
from harness.records.errors import UserError
from harness.records.manifest import read_manifest, study_folder

if TYPE_CHECKING:
    from harness.trials.ablation_study import AblationStudy


def run(arguments: argparse.Namespace) -> int:
    from harness.trials.ablation_study import ablation_study
    from harness.trials.studies import read_study

    if "architecture" not in read_study("sweeps", arguments.name):
        raise UserError(
            f"'{arguments.name}' is no ablation, and only ablations have reports; "
            f"`harness promote {arguments.name} --best` writes its best candidate"
        )
    study, settings = ablation_study(arguments.name, arguments.overrides)
    print(report(settings.out, Path(arguments.name).stem, study))
    return 0


VERB = Verb(
    summary="write an ablation's report again from its records",
    name="the ablation",
    example="harness report fig3",
    lists="ablations",
    run=run,
)


def report(out: Path, name: str, study: AblationStudy) -> Path:
    """Write OUT/NAME/report.html as the study's report definition says, with the latencies that arrived since; its
    path."""
    from harness.reporting.report import write_report
    from harness.trials.outcomes import collect
    from harness.trials.spec import store_of
    from harness.trials.studies import read_study

    manifest = read_manifest(out, name)
    definition = study.report or name
    shown = read_study("reports", definition)
    published = read_study("reports/published", str(shown.pop("published", definition)))
    store = store_of(out)
    collect(store)
    return write_report(store, manifest, shown, published, study_folder(out, name) / "report.html")
