"""`harness report NAME`: the page of a study, from what was written down of it and the store's records."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.commands.verb import Verb
from harness.records.errors import UserError
from harness.records.manifest import StudyKind, read_manifest, study_folder

if TYPE_CHECKING:
    from harness.records.manifest import Manifest

PAGES, NUMBERS = "reports", "reports/published"
"""Where pages and published numbers lie."""


def run(arguments: argparse.Namespace) -> int:
    out, page = _study(arguments.name, arguments.overrides)
    print(report(out, Path(arguments.name).stem, page))
    return 0


VERB = Verb(
    summary="write a study's report again from its records",
    name="the ablation",
    example="harness report fig3",
    lists="ablations",
    run=run,
)


def report(out: Path, name: str, page: str | None = None) -> Path:
    """Write OUT/NAME/report.html, with the latencies that arrived since; its path.

    `page` is the study's own, as its YAML names it now; None: the one that it named when it ran, else
    reports/NAME.yaml, else the default page of its kind.
    """
    from harness.reporting.report import write_report
    from harness.trials.outcomes import collect
    from harness.trials.spec import store_of

    source, store = _source(out, name), store_of(out)
    definition, published = read_page(name, page or source.report)
    collect(store)
    return write_report(store, source, definition, published, study_folder(out, name) / "report.html")


def check_page(kind: StudyKind, name: str, page: str | None) -> None:
    """UserError where the page of a study that is about to run cannot be made: before anything is trained."""
    definition, published = read_page(name, page)
    if definition:
        from harness.reporting.report import checked_definition

        try:
            checked_definition(definition, published, kind)
        except UserError as error:
            from harness.trials.studies import find_study

            raise UserError(f"{find_study(PAGES, page or name)}: {error}") from error


def read_page(name: str, page: str | None) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """The content of the study's page, empty for the default one, and of the published numbers that it names."""
    from harness.trials.studies import read_study, study_names

    if page is None and name not in study_names(PAGES):
        return {}, None
    definition = read_study(PAGES, page or name)
    numbers = definition.get("published")
    return definition, read_study(NUMBERS, str(numbers)) if numbers else None


def _source(out: Path, name: str) -> Manifest:
    """What was written down of the study."""
    return read_manifest(out, name)


def _study(name: str, overrides: Sequence[str]) -> tuple[Path, str | None]:
    """Where the study lies, and the page that its YAML names."""
    from harness.trials.ablation_study import ablation_study
    from harness.trials.studies import read_study

    if "architecture" not in read_study("sweeps", name):
        raise UserError(
            f"'{name}' is no ablation, and only ablations have reports; "
            f"`harness promote {name} --best` writes its best candidate"
        )
    study, settings = ablation_study(name, overrides)
    return settings.out, study.report
