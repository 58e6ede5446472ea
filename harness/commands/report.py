"""`harness report NAME`: the report of an ablation, from its manifest and the store."""

import argparse
from pathlib import Path

from harness.records.errors import UserError
from harness.records.manifest import read_manifest, study_folder
from harness.records.plain import from_plain
from harness.reporting.report import write_report
from harness.trials.ablation_study import AblationStudy
from harness.trials.settings import settings_of
from harness.trials.spec import store_of
from harness.trials.studies import read_study
from harness.trials.waiting import collect


def run(arguments: argparse.Namespace) -> int:
    content = read_study("sweeps", arguments.name)
    if "architecture" not in content:
        raise UserError(
            f"'{arguments.name}' is no ablation, and only ablations have reports; "
            f"`harness promote {arguments.name} --best` writes its best candidate"
        )
    study = from_plain(AblationStudy, content)
    out = settings_of(arguments.overrides, study.settings).out
    print(report(out, Path(arguments.name).stem, study))
    return 0


def report(out: Path, name: str, study: AblationStudy) -> Path:
    """Write OUT/NAME/report.html as the study's report definition says, with the latencies that arrived since; its
    path."""
    manifest = read_manifest(out, name)
    definition = study.report or name
    shown = read_study("reports", definition)
    published = read_study("reports/published", str(shown.pop("published", definition)))
    store = store_of(out)
    collect(store)
    return write_report(store, manifest, shown, published, study_folder(out, name) / "report.html")
