"""`harness report NAME`: the page of a study, from what was written down of it and the store's records."""

from __future__ import annotations

import argparse
import shlex
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.commands.verb import Verb
from harness.records.errors import UserError, of_file
from harness.records.judging import Judging
from harness.records.manifest import Manifest, StudyKind, read_manifest, study_folder
from harness.records.plain import from_plain

if TYPE_CHECKING:
    from harness.architecture.config import ArchitectureConfig
    from harness.chain.stages import Chain
    from harness.records.placed_cost import PlacedCost
    from harness.records.quantity import Quantity
    from harness.records.store import Store
    from harness.records.sweep_summary import SweepSummary
    from harness.reporting.published import Published

NO_TABLE = "the main table as LaTeX is an ablation's or a sweep's; leave out --latex"
PAGES, NUMBERS = "reports", "reports/published"
"""Where pages and published numbers lie."""


def flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--linked",
        action="store_true",
        help="plotly's script (5 MB) lies once in OUT, and pages link to it; without this flag a page has it in "
        "itself, and opens wherever it is sent",
    )
    parser.add_argument(
        "--latex",
        action="store_true",
        help="the main table as LaTeX too, OUT/NAME/report.tex: of an ablation, or a sweep's finalists, else its front",
    )
    parser.add_argument(
        "--watch", action="store_true", help="of a sweep: draw it anew while a driver runs, or to Ctrl-C"
    )
    parser.add_argument("--trials", action="store_true", help="with the pages of its trials, linked to each other")
    parser.add_argument("--index", action="store_true", help="the page of all studies in out=: OUT/index.html")


def run(arguments: argparse.Namespace) -> int:
    if arguments.index or arguments.name is None:
        print(_index(arguments))
        return 0
    if (out := _trials_out(arguments)) is not None:
        from harness.commands.pages import trial_page

        _refuse(arguments, "trials", "watch", "latex")
        print(trial_page(out, arguments.name, linked=arguments.linked))
        return 0
    if is_chain(arguments.name):
        _refuse(arguments, "trials")
        if arguments.watch:
            raise _not_watched(arguments.name)
        if arguments.latex:
            raise UserError(NO_TABLE)
        print(_of_chain(arguments))
        return 0
    name = _named(arguments.name)
    out, page = _study(name, arguments.overrides)
    if arguments.watch and isinstance(source_of(out, Path(name).stem), Manifest):
        raise _not_watched(name)
    if arguments.watch:
        for flag in ("trials", "latex"):
            if getattr(arguments, flag):
                raise UserError(
                    f"--watch draws the one page anew; leave out --{flag}, or give it when the sweep has ended"
                )
        return _watch(out, Path(name).stem, page, linked=arguments.linked)
    form = {"linked": arguments.linked, "latex": arguments.latex}
    if arguments.trials:
        from harness.commands.pages_index import report_with_trials

        path = report_with_trials(out, Path(name).stem, page, **form)
    else:
        path = report(out, Path(name).stem, page, **form)
    print(path)
    if arguments.latex:
        print(path.with_suffix(".tex"))
    return 0


def _index(arguments: argparse.Namespace) -> Path:
    from harness.commands.operands import out_of
    from harness.commands.pages_index import index_page

    if arguments.name is None and not arguments.index:
        raise UserError("name a study or a trial, or give --index for the page of all studies")
    if arguments.name is not None:
        raise UserError(f"--index is of all studies, and takes no name; leave {arguments.name} out")
    _refuse(arguments, "trials", "watch", "latex", "linked")
    return index_page(out_of(arguments.overrides))


def _refuse(arguments: argparse.Namespace, *flags: str) -> None:
    """Flags that mean nothing for what is named."""
    for flag in flags:
        if getattr(arguments, flag):
            what = "the index" if arguments.name is None else arguments.name
            raise UserError(f"--{flag} is for studies of trainings, and not for {what}; leave it out")


EVERY_S, REST = 20.0, 4.0
"""How often a watched page is drawn anew, and how many times as long as that took is waited at least."""


def _not_watched(name: str) -> UserError:
    return UserError(f"--watch draws the page of a sweep anew, and {name} is none; leave it out")


def _watch(out: Path, name: str, page: str | None, *, linked: bool = False) -> int:
    """Draw the page anew until no driver runs, or until Ctrl-C; the last one does not load itself any more."""
    from harness.launch.observe import driver_of

    try:
        print(report(out, name, page, linked=linked, redrawn_every_s=EVERY_S), flush=True)
        took_s = 0.0
        while driver_of(study_folder(out, name) / "attempts").runs:
            time.sleep(max(EVERY_S, REST * took_s))
            began = time.monotonic()
            report(out, name, page, linked=linked, redrawn_every_s=EVERY_S)
            took_s = time.monotonic() - began
    except KeyboardInterrupt:
        report(out, name, page, linked=linked)
    return 0


VERB = Verb(
    summary="write the page of an ablation, a sweep, a chain, a promoted training or a trial from its records",
    name="an ablation or a sweep in sweeps/, chains/NAME, the path of a YAML, a promoted file that was trained, or a "
    "trial's key or its first digits",
    operands="[NAME]",
    example="harness report fig3",
    lists="studies",
    flags=flags,
    run=run,
)


def _trials_out(arguments: argparse.Namespace) -> Path | None:
    """Where the trial lies that is named; None for the name of a study, which goes before a key that begins so."""
    from harness.commands.operands import is_defined, out_of
    from harness.commands.pages import OF_TRIALS, names_trial
    from harness.records.record import KEY_PREFIX

    name = arguments.name
    if not name.startswith(OF_TRIALS) and (KEY_PREFIX.fullmatch(name) is None or is_defined(name)):
        return None
    out = out_of(arguments.overrides)
    return out if names_trial(name, out) and not study_folder(out, name).is_dir() else None


def report(
    out: Path,
    name: str,
    page: str | None = None,
    *,
    linked: bool = False,
    latex: bool = False,
    redrawn_every_s: float | None = None,
) -> Path:
    """Write OUT/NAME/report.html, with the latencies that arrived since; its path.

    `redrawn_every_s`: the page of a sweep says so while a driver runs, and loads itself as often.
    `page` is the study's own, as its YAML names it now; None: the one that it named when it ran, else
    reports/NAME.yaml, else the default page of its kind.
    """
    from harness.reporting.report import write_report
    from harness.trials.outcomes import collect
    from harness.trials.protocols import protocol_name_of
    from harness.trials.spec import store_of

    source, store = source_of(out, name), store_of(out)
    if not isinstance(source, Manifest):
        from harness.search.chance import random_arm

        source = replace(source, redrawn_every_s=redrawn_every_s, chance=random_arm(out, name))
    kind: StudyKind = "ablation" if isinstance(source, Manifest) else "sweep"
    check_page(kind, name, page or source.report, source.judging)
    definition, published = read_page(name, page or source.report)
    collect(store)
    path = study_folder(out, name) / "report.html"
    name_of = protocol_name_of(source.protocol)
    return write_report(
        store, source, definition, published, path, name_of, others_cost(definition),
        placed=operators_cost(store, source, definition), scripts=out if linked else None, latex=latex,
    )  # fmt: skip


OF_CHAINS = "chains/"
"""Begins the name of a chain, which a sweep or an ablation may have too."""


def is_chain(name: str) -> bool:
    """Whether it is chains/NAME, or the path of a chain's YAML."""
    from harness.trials.studies import read_study

    return name.startswith(OF_CHAINS) or (name.endswith((".yaml", ".yml")) and "stages" in read_study("sweeps", name))


def _of_chain(arguments: argparse.Namespace) -> Path:
    from harness.chain.definition import chain_study
    from harness.chain.stages import Chain

    given = arguments.name
    name = given if given.endswith((".yaml", ".yml")) else given.removeprefix(OF_CHAINS)
    chain = Chain(*chain_study(name, arguments.overrides))
    words = [name if word == given else word for word in shlex.split(arguments.command)[2:]]
    return chain_report(chain, shlex.join(["harness", "chain", *words]), linked=arguments.linked)


def chain_report(chain: Chain, command: str, *, linked: bool = False) -> Path:
    """Write OUT/chains/NAME/report.html, as far as the chain has come; its path. UserError before its first network."""
    from harness.chain.summary import summary_of
    from harness.reporting.report import write_report
    from harness.trials.outcomes import collect
    from harness.trials.protocols import protocol_name_of

    collect(chain.store)
    summary, page = summary_of(chain, command), chain.study.report
    definition, published = ({}, None) if page is None else read_page(chain.name, page)
    name = protocol_name_of(summary.protocol)
    scripts = chain.out if linked else None
    return write_report(
        chain.store, summary, definition, published, chain.folder / "report.html", name, scripts=scripts
    )


def check_page(kind: StudyKind, name: str, page: str | None, judging: Judging) -> None:
    """UserError where the page of a study that is judged so cannot be made; asked before anything is trained."""
    from harness.trials.studies import find_study

    definition, published = read_page(name, page)
    if definition:
        from harness.reporting.report import checked_definition

        with of_file(find_study(PAGES, page or name)):
            checked_definition(definition, published, kind, judging)
            others_architectures(definition)


def others_cost(definition: Mapping[str, Any]) -> dict[str, Mapping[str, Quantity]]:
    """Name of others' weights on the page -> what their architecture counts at the latent that it is made for."""
    from harness.architecture.latents import FULL_LATENT

    if not (others := others_architectures(definition)):
        return {}
    from harness.trials.costs import counted  # loads torch

    return {name: counted(config, config.native_latent or FULL_LATENT) for name, config in others.items()}


def operators_cost(
    store: Store, source: Manifest | SweepSummary, definition: Mapping[str, Any]
) -> dict[str, PlacedCost]:
    """Rung -> what its network costs operator by operator, where the page shows it and a record says what it is: its
    deployment twin, where the study has one. The prediction is for the chip of the record's own, or the default one."""
    if not isinstance(source, Manifest) or "operators" not in definition.get("sections", ()):
        return {}
    from harness.commands.pages import network_cost, twin_cost  # load torch

    keys = {rung.name: source.key(rung, source.seeds[0]) for rung in source.rungs}
    readable = {record.key: record for record in store.readable_trials() if record.key in keys.values()}
    costs = {
        rung.name: network_cost(record) if source.twin is None else twin_cost(record, rung)
        for rung in source.rungs
        if (record := readable.get(keys[rung.name])) is not None
    }
    return {name: cost for name, cost in costs.items() if cost is not None}


def others_architectures(definition: Mapping[str, Any]) -> dict[str, ArchitectureConfig]:
    """Name of others' weights on the page -> their architecture; UserError for one that the catalogue does not have."""
    from harness.architecture.catalogue import architecture
    from harness.reporting.definition import OthersWeights

    plain = definition.get("others", {}).items()
    others = {name: from_plain(OthersWeights, each, where=f"others.{name}") for name, each in plain}
    return {name: architecture(each.architecture) for name, each in others.items()}


def read_page(name: str, page: str | None) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """The content of the study's page, empty for the default one, and of the published numbers that it names."""
    from harness.trials.studies import find_study, read_study, study_names

    if page is None and name not in study_names(PAGES):
        return {}, None
    definition = read_study(PAGES, page or name)
    if not (numbers := definition.get("published")):
        return definition, None
    with of_file(find_study(PAGES, page or name)):
        path = find_study(NUMBERS, str(numbers))
    published_numbers(str(path))
    return definition, read_study(NUMBERS, str(path))


def published_numbers(name: str) -> Published:
    """reports/published/NAME.yaml; UserError names the file."""
    from harness.reporting.published import Published
    from harness.trials.studies import find_study, read_study

    content = read_study(NUMBERS, name)
    with of_file(find_study(NUMBERS, name)):
        return from_plain(Published, content)


def _named(name: str) -> str:
    """Of a promotion's file the study that its training is."""
    from harness.records.manifest import TRAINING
    from harness.trials.promoted import promoted_in

    return name if promoted_in(Path(name)).origin is None else f"{TRAINING}{Path(name).stem}"


def source_of(out: Path, name: str) -> Manifest | SweepSummary:
    """What was written down of the study."""
    from harness.search.status import sweep_summary
    from harness.search.study import SWEEP_FILE

    folder = study_folder(out, name)
    return sweep_summary(folder, name) if (folder / SWEEP_FILE).exists() else read_manifest(out, name)


def _study(name: str, overrides: Sequence[str]) -> tuple[Path, str | None]:
    """Where the study lies, and the page that its YAML names; one that ran from a file elsewhere goes by its name."""
    from harness.commands.operands import begun_study, is_defined, out_of
    from harness.trials.studies import read_study

    out = out_of(overrides, name)
    if not is_defined(name) and "/" not in name and study_folder(out, name).is_dir():
        begun_study(out, name)
        return out, None
    return out, read_study("sweeps", name).get("report")
