"""What pages of single networks are made from: a trial by its key, an architecture by its name; what each costs place
by place, the studies that it belongs to, and the commands that repeat it.

    OUT/pages/KEY.html        a trial's page
    OUT/pages/A_and_B.html    a comparison
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.records.errors import UserError
from harness.records.manifest import MANIFEST_FILE, Manifest, Rung, read_manifest
from harness.records.plain import from_plain
from harness.records.quantities import TWIN
from harness.records.record import KEY_PREFIX, TrialRecord, key_that_begins, trial_key, why
from harness.records.store import Store
from harness.reporting.links import PAGES, links_from
from harness.reporting.links import trial_page as page_of_trial

if TYPE_CHECKING:
    from harness.architecture.config import ArchitectureConfig
    from harness.records.placed_cost import PlacedCost
    from harness.reporting.networks import Before, Link
    from harness.reporting.trial_page import Compared

OF_TRIALS = "trials/"
"""May begin the name of a trial, which else a study of that name is."""
SEEDS = range(16)
"""Of other trainings of the same network under the same protocol that a comparison looks for."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Belongs:
    """A study that a trial is of, and there the rung."""

    study: str
    rung: Rung | None = None  # of an ablation
    manifest: Manifest | None = None
    command: str = ""


def names_trial(name: str, out: Path) -> bool:
    """Whether it is trials/KEY, or the beginning of the key of a trial in the store under `out`."""
    from harness.trials.spec import store_of

    if name.startswith(OF_TRIALS):
        return True
    return KEY_PREFIX.fullmatch(name) is not None and any(
        key.startswith(name) for key in store_of(out).keys(TrialRecord)
    )


def trial_page(out: Path, name: str, *, linked: bool = False) -> Path:
    """Write OUT/pages/KEY.html; its path. UserError for a name that begins no key, or several."""
    from harness.reporting.trial_page import write_trial_page
    from harness.trials.spec import store_of

    store, key = store_of(out), _key(out, name)
    record, error = _read(store, key)
    path, scripts = out / page_of_trial(key), out if linked else None
    if record is None:
        return write_trial_page(
            store, [_unreadable(store, key, error)], path, protocol={}, title=f"Trial {key}", scripts=scripts
        )
    compared = _of_trial(out, store, record)
    return write_trial_page(store, [compared], path, **_protocol_of(record), title=_title(record), scripts=scripts)


def comparison_page(out: Path, a: str, b: str, latent: int | None = None, *, linked: bool = False) -> Path:
    """Write OUT/pages/A_and_B.html of two trials, or two architectures; its path."""
    from harness.reporting.trial_page import write_trial_page
    from harness.trials.spec import store_of

    store = store_of(out)
    trials = [names_trial(name, out) for name in (a, b)]
    if trials[0] != trials[1]:
        raise UserError(f"{a} and {b} are a trial and an architecture; compare two trials, or two architectures")
    if not trials[0]:
        compared = [_of_architecture(name, latent, (a, b)) for name in (a, b)]
        more: dict[str, Any] = {"protocol": {}}
    else:
        records = [_readable(store, _key(out, name)) for name in (a, b)]
        networks = {(each.architecture_fingerprint, each.protocol_fingerprint) for each in records}
        seeds = _siblings if len(networks) == 2 else _alone  # two trainings of one network are compared as such
        compared, more = [_of_trial(out, store, each, seeds(store, each)) for each in records], _protocol_of(records[0])
        compared = _told_apart(compared, records)
    compared[1] = _edited(*compared)
    path = out / PAGES / f"{_file_name(a)}_and_{_file_name(b)}.html"
    return write_trial_page(store, compared, path, scripts=out if linked else None, **more)


def _key(out: Path, name: str) -> str:
    from harness.trials.spec import store_of

    store = store_of(out)
    key = key_that_begins(name.removeprefix(OF_TRIALS), dict.fromkeys(store.keys(TrialRecord), ""))
    if key is None:
        raise UserError(
            f"'{name}' begins the key of no trial in {store.root}; the files in its folder trials/ are named by their "
            "keys, and out=FOLDER says where it lies"
        )
    return key


def _read(store: Store, key: str) -> tuple[TrialRecord | None, str]:
    """The record, or why this version cannot read it."""
    try:
        return store.trial(key), ""
    except UserError as error:
        return None, str(error)


def _readable(store: Store, key: str) -> TrialRecord:
    record, error = _read(store, key)
    if record is None:
        raise UserError(error)
    return record


def _title(record: TrialRecord) -> str:
    return f"{record.name}, seed {record.seed}"


def _protocol_of(record: TrialRecord) -> dict[str, Any]:
    from harness.trials.protocols import protocol_name_of
    from harness.trials.task_config import task_of

    sections = record.protocol
    judging = {"judging": task_of(sections).judging} if "data" in sections else {}
    name = protocol_name_of(sections)
    return {
        "protocol": sections, "protocol_fingerprint": record.protocol_fingerprint, "protocol_name": name, **judging,
    }  # fmt: skip


def _unreadable(store: Store, key: str, error: str) -> Compared:
    """Of a record of another version, or a damaged one: what can be told of it."""
    from harness.reporting.networks import ShownNetwork
    from harness.reporting.trial_page import Compared

    path = store.root / "trials" / f"{key}.json"
    try:
        plain = json.loads(path.read_text())
        fields = ", ".join(f"{name}: {plain[name]}" for name in ("name", "seed", "state") if name in plain)
    except (ValueError, TypeError, OSError):
        fields = ""
    fields = f" The file says {fields}." if fields else ""
    said = (f"its record cannot be read, so this page has no numbers. {error}.{fields}",)
    network = ShownNetwork(title=f"Trial {key}", key=key, said=said, unknown="its record cannot be read")
    return Compared(network=network, trials={})


def _of_trial(out: Path, store: Store, record: TrialRecord, compared: Mapping[int, str] | None = None) -> Compared:
    """`compared`: of a comparison, its trainings that are, by seed; what it is an edit of is then the other one."""
    from harness.reporting.networks import ShownNetwork
    from harness.reporting.trial_page import Compared

    config, unknown = _architecture(record.architecture)
    cost, twin, no_cost = _costs(record, config)
    belongs = list(studies_of(out, record.key))
    network = ShownNetwork(
        title=record.name,
        config=config,
        unknown=unknown,
        before=_before(store, record, belongs) if compared is None else None,
        cost=cost,
        twin=twin,
        no_cost=no_cost,
        key=record.key,
        said=tuple(_said(record)),
        links=tuple(_links(out, record, belongs, compared=compared is not None)),
        commands=tuple(_commands(out, record, belongs)),
    )
    return Compared(network=network, trials=_alone(store, record) if compared is None else compared)


def _architecture(plain: Mapping[str, Any]) -> tuple[ArchitectureConfig | None, str]:
    from harness.architecture.config import ArchitectureConfig

    try:
        return from_plain(ArchitectureConfig, plain), ""
    except UserError as error:
        return None, f"its architecture is of another version ({error})"


def _costs(
    record: TrialRecord, config: ArchitectureConfig | None
) -> tuple[PlacedCost | None, PlacedCost | None, tuple[str, ...]]:
    """Its own at the latent that its counts are of, its twin's; and why one of them is not there."""
    from harness.trials.placed import placed_cost

    if config is None:
        return None, None, ()
    latent = _condition(record, "macs", "latent") or record.trained_latent or config.native_latent
    own = None if latent is None else placed_cost(config, latent)
    fingerprint, twin = _condition(record, "twin.macs", "twin_fingerprint"), None
    if fingerprint is None:
        return own, None, ()
    known = _in_catalogue(str(fingerprint))
    if known is not None:
        twin = placed_cost(known, int(_condition(record, "twin.macs", "latent") or 0))
        return own, twin, ()
    base = _condition(record, "twin.macs", "twin")
    return own, None, (
        f"Its deployment twin, an edit of {base}, is no architecture of the catalogue: its whole costs are among the "
        "numbers, its places are not known here.",
    )  # fmt: skip


def network_cost(record: TrialRecord) -> PlacedCost | None:
    """Of the network itself, at the latent that its counts are of, predicted as its record's latency is; None where
    another version made it, or it has no counts."""
    return _cost_as_counted(record, record.architecture)


def twin_cost(record: TrialRecord, rung: Rung) -> PlacedCost | None:
    """The same of the rung's deployment twin; None also where the record has counted another one."""
    if _condition(record, "twin.macs", "twin_fingerprint") != rung.twin_fingerprint:
        return None
    return _cost_as_counted(record, rung.twin_architecture, TWIN)


def _cost_as_counted(record: TrialRecord, architecture: Mapping[str, Any], prefix: str = "") -> PlacedCost | None:
    from harness.latency.predicted import PredictedLatency
    from harness.trials.placed import placed_cost

    config, latent = _architecture(architecture)[0], _condition(record, f"{prefix}macs", "latent")
    if config is None or latent is None:
        return None
    conditions = {
        name: _condition(record, f"{prefix}latency_predicted", name) for name in ("chip", "compute_unit", "weight_bits")
    }
    backend = PredictedLatency(**{name: value for name, value in conditions.items() if value is not None})
    return placed_cost(config, int(latent), backend)


def _condition(record: TrialRecord, quantity: str, name: str) -> Any:
    return dict(getattr(record.quantities.get(quantity), "conditions", {})).get(name)


def _in_catalogue(fingerprint: str) -> ArchitectureConfig | None:
    from harness.architecture.catalogue import architecture, catalogue_names

    configs = (architecture(name) for name in catalogue_names())
    return next((config for config in configs if config.fingerprint == fingerprint), None)


def _siblings(store: Store, record: TrialRecord) -> dict[int, str]:
    """Trainings of the same network under the same protocol, by seed."""
    parts = record.architecture_fingerprint, record.protocol_fingerprint
    keys = {seed: trial_key(*parts, seed) for seed in sorted({*SEEDS, record.seed})}
    there = set(store.keys(TrialRecord))
    return {seed: key for seed, key in keys.items() if key in there and _read(store, key)[0] is not None}


def _alone(_store: Store, record: TrialRecord) -> dict[int, str]:
    return {record.seed: record.key}


def studies_of(out: Path, key: str) -> Iterator[Belongs]:
    """The studies under `out` whose trial it is; one that cannot be read is none."""
    for name in sorted(path.parent.name for path in out.glob(f"*/{MANIFEST_FILE}")):
        try:
            manifest = read_manifest(out, name)
        except UserError:
            continue
        for rung in manifest.rungs:
            if any(manifest.key(rung, seed) == key for seed in manifest.seeds):
                yield Belongs(study=name, rung=rung, manifest=manifest, command=manifest.command)
    yield from _sweeps_of(out, key)


def _sweeps_of(out: Path, key: str) -> Iterator[Belongs]:
    folders = sorted(path.parent for path in out.glob("*/sweep.json"))
    if not folders:
        return
    from harness.search.status import sweep_summary

    for folder in folders:
        try:
            summary = sweep_summary(folder, folder.name)
        except UserError:
            continue
        finals = [] if summary.conclusions is None else summary.conclusions.finalists
        keys = [candidate.key for candidate in summary.candidates]
        if key in keys or any(key in each.trials.values() for each in finals):
            yield Belongs(study=folder.name, command=summary.command)


def _before(store: Store, record: TrialRecord, belongs: Sequence[Belongs]) -> Before | None:
    """The network of the rung that its rung is set against, of the same seed."""
    from harness.reporting.networks import Before

    for each in belongs:
        if each.manifest is None or each.rung is None or each.rung.against is None:
            continue
        against = next((rung for rung in each.manifest.rungs if rung.name == each.rung.against), None)
        if against is None or record.seed not in each.manifest.seeds:
            continue
        other = _read(store, each.manifest.key(against, record.seed))[0]
        config = None if other is None else _architecture(other.architecture)[0]
        if config is not None:
            return Before(title=against.name, config=config)
    return None


def _said(record: TrialRecord) -> Iterator[str]:
    from harness.reporting.remarks import remarks_of, teacher_played

    if record.state == "failed":
        yield f"this trial failed: {why(record)}."
    elif record.state == "rejected":
        yield f"this trial was refused before training: {why(record)}."
    elif not record.curve:
        yield "its record has no curve: the network was counted, not trained."
    if record.state == "failed" and record.curve:
        last = max(point.step for point in record.curve)
        yield f"its curve ends at step {last}."
    if record.parent is not None:
        yield f"it trains further, or scores again, what trial {record.parent} found."
    yield from (f"{remark}." for remark in remarks_of(record))
    if played := teacher_played(record):
        yield f"{played}."


def _links(out: Path, record: TrialRecord, belongs: Sequence[Belongs], *, compared: bool) -> Iterator[Link]:
    """To its studies' pages, its parent's and, from a comparison, its own, where they are; else how to make them."""
    from harness.reporting.networks import Link

    links, where = links_from(out / page_of_trial(record.key), out), "".join(f" {word}" for word in out_words(out))
    for each in belongs:
        rung, href = f", {each.rung.title}" if each.rung else "", links.study(each.study)
        note = "" if href else f"(its page: harness report {each.study}{where})"
        yield Link(text=f"study {each.study}{rung}", href=href, note=note)
    for key in filter(None, (record.key if compared else None, record.parent)):
        href = links.trial(key)
        note = "" if href else f"(its page: harness report {key}{where})"
        yield Link(text=f"trial {key}", href=href, note=note)
    if links.index:
        yield Link(text="all studies", href=links.index)


def _commands(out: Path, record: TrialRecord, belongs: Sequence[Belongs]) -> Iterator[tuple[str, str]]:
    """What repeats it, and what uses it."""
    for each in belongs:
        yield f"study {each.study} again, this trial with it", each.command
    if not belongs and record.provenance.get("command"):
        yield "as it was begun", str(record.provenance["command"])
    if "ema.safetensors" in record.artifacts and "sampling" in record.protocol:
        yield f"more samples of {record.name}", shlex.join(["harness", "sample", record.key, *out_words(out)])


def out_words(out: Path) -> list[str]:
    return [] if out == Path("runs") else [f"out={out}"]


def _of_architecture(name: str, latent: int | None, names: tuple[str, str]) -> Compared:
    from harness.architecture.catalogue import architecture
    from harness.commands.operands import latent_of
    from harness.reporting.networks import ShownNetwork
    from harness.reporting.trial_page import Compared
    from harness.trials.placed import placed_cost

    config = architecture(name)
    cost = placed_cost(config, latent_of(latent, config, *names))
    command = ("this page again", shlex.join(["harness", "compare", *names, "--html"]))
    return Compared(network=ShownNetwork(title=name, config=config, cost=cost, commands=(command,)), trials={})


def _edited(a: Compared, b: Compared) -> Compared:
    from harness.reporting.networks import Before

    if a.network.config is None:
        return b
    before = Before(title=a.network.title, config=a.network.config)
    return replace(b, network=replace(b.network, before=before))


def _told_apart(compared: Sequence[Compared], records: Sequence[TrialRecord]) -> list[Compared]:
    """Two of one name by their seeds, or else by their keys."""
    names = [record.name for record in records]
    if names[0] != names[1]:
        return list(compared)
    by_seed = records[0].seed != records[1].seed
    titles = [_title(each) if by_seed else f"{each.name} ({each.key})" for each in records]
    return [
        replace(one, network=replace(one.network, title=title)) for one, title in zip(compared, titles, strict=True)
    ]


def _file_name(name: str) -> str:
    """Without what a path has: `laptop/thin_sdxl` is `laptop-thin_sdxl`."""
    return re.sub(r"[^\w.-]+", "-", name.removesuffix(".yaml").removeprefix(OF_TRIALS)).strip("-.")
