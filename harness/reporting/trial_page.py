"""The page of one trial, and the page of two networks side by side: the sections of a study's page, over one subject
or two, with the networks' drawings and what they cost place by place."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from harness.records.judging import GENERATED_PICTURES, Judging
from harness.records.store import Store, write_atomic
from harness.reporting.definition import read_definition
from harness.reporting.links import links_from
from harness.reporting.networks import ShownNetwork
from harness.reporting.page import render
from harness.reporting.report import UNPUBLISHED, frames_of, script_address
from harness.reporting.sections import SECTIONS
from harness.reporting.subjects import Study, Subject


@dataclass(frozen=True, kw_only=True, slots=True)
class Compared:
    """A network, and its trainings: of a trial's page that one; of an architecture none."""

    network: ShownNetwork
    trials: Mapping[int, str]  # seed -> key


def write_trial_page(
    store: Store,
    compared: Sequence[Compared],
    path: Path,
    *,
    protocol: Mapping[str, Any],
    protocol_fingerprint: str = "",
    protocol_name: str = "",
    judging: Judging = GENERATED_PICTURES,
    title: str = "",
    scripts: Path | None = None,
) -> Path:
    """Write the page as one HTML file that opens offline, and return its path.

    compared: one network, or two of which the second is held against the first
    protocol: the first one's; empty for architectures alone
    title:    by default the network's, or `A and B`
    scripts:  the folder in which plotly's script lies, or then lies, for pages to share; None: the page has its own
    """
    names = [f"network-{index}" for index in range(len(compared))] if len(compared) > 1 else ["trial"]
    study = Study(
        kind="comparison" if len(compared) > 1 else "trial",
        name=" and ".join(one.network.key or one.network.title for one in compared),
        subjects=tuple(
            Subject(
                name=name, title=one.network.title, trials=one.trials, against=names[0] if index else None
            )
            for index, (name, one) in enumerate(zip(names, compared, strict=True))
        ),
        seeds=tuple(dict.fromkeys(seed for one in compared for seed in one.trials)),
        protocol=protocol,
        protocol_fingerprint=protocol_fingerprint,
        protocol_name=protocol_name,
        command="",
        judging=judging,
    )  # fmt: skip
    own: dict[str, Any] = {"title": title or " and ".join(one.network.title for one in compared)}
    if not all(one.trials for one in compared):
        own["claims"] = []  # there is nothing to test
    if not any(one.trials for one in compared):
        own["sections"] = ["trial_summary", "network", "places"]  # the others are of trainings
    definition = read_definition(own, study.kind, judging)
    frames = frames_of(store, study, definition, UNPUBLISHED)
    networks = {name: one.network for name, one in zip(names, compared, strict=True)}
    frames = replace(frames, networks=networks, links=links_from(path, store.root.parent))
    sections = [SECTIONS[name] for name in frames.definition.sections]
    write_atomic(path, render(frames, sections, script_address(scripts, path)).encode())
    return path
