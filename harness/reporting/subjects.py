"""What a page is about: the subjects of a study, the trials that tell of each, and how subjects relate.

ablation   its rungs; each is `against` another, to which its changes are computed
sweep      its candidates, of which some are a `rung_of` a ladder; a finalist's fresh trainings are a `child_of` it
chain      the networks of its stages; each is `against` the one before it
trial, comparison   no studies: one network, or two of which the second is `against` the first
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from harness.records.chain_summary import ChainSummary
from harness.records.errors import UserError
from harness.records.judging import GENERATED_PICTURES, Judging
from harness.records.manifest import Manifest, Promotion, StudyKind
from harness.records.sweep_summary import CandidateSummary, SweepSummary

PageKind: TypeAlias = StudyKind | Literal["trial", "comparison"]
NOUNS: Mapping[PageKind, str] = {
    "ablation": "rung", "sweep": "candidate", "chain": "stage", "trial": "trial", "comparison": "network",
}  # fmt: skip


@dataclass(frozen=True, kw_only=True, slots=True)
class Subject:
    name: str  # `mqa`, `trial-7`
    title: str  # "MHSA to MQA"
    trials: Mapping[int, str]  # seed -> the key of its trial record
    against: str | None = None  # the subject that its changes are computed against
    child_of: str | None = None  # the subject that it trains again
    rung_of: str | None = None  # the rung of a ladder that it is
    edits: Mapping[str, Any] = field(default_factory=dict)  # the knobs that differ from `against`
    varied: tuple[str, ...] = ()  # paths of the protocol that the study compares, beside those of `edits`
    levels: Mapping[str, str] = field(default_factory=dict)  # of a factorial's combination: knob -> choice
    touched: Mapping[str, float] = field(default_factory=dict)  # see the manifest's
    twin_fingerprint: str | None = None  # of its deployment twin; None where it is not known

    @property
    def compared(self) -> frozenset[str]:
        """Paths of the protocol in which it may differ from the study's: that is what the study compares."""
        return frozenset((*self.edits, *self.varied))


@dataclass(frozen=True, kw_only=True, slots=True)
class Study:
    kind: PageKind
    name: str
    subjects: tuple[Subject, ...]
    seeds: tuple[int, ...]
    protocol: Mapping[str, Any]
    protocol_fingerprint: str
    command: str  # what to type to repeat it
    protocol_name: str = ""  # `fig3, but recipe.steps=20000`; empty where the caller does not say
    controls: Mapping[str, str] = field(default_factory=dict)  # `floor`, `noise`, ... -> key of a Measurement
    twin: Mapping[str, Any] | None = None  # {base, latent}: the deployment size that costs are counted at
    judging: Judging = GENERATED_PICTURES  # of its task
    promotion: Promotion | None = None  # of a promoted network's training
    search: SweepSummary | None = None  # of a sweep: what its subjects alone do not say
    chain: ChainSummary | None = None  # the same of a chain

    @property
    def noun(self) -> str:
        """What a subject is called: `rung`."""
        return NOUNS[self.kind]

    @property
    def twin_name(self) -> str:
        """`thin_sdxl at a 128x128 latent`; empty without a twin."""
        if self.twin is None:
            return ""
        return f"{self.twin.get('base')} at a {self.twin.get('latent')}x{self.twin.get('latent')} latent"

    @property
    def titles(self) -> dict[str, str]:
        return {subject.name: subject.title for subject in self.subjects}

    @property
    def against(self) -> dict[str, str | None]:
        return {subject.name: subject.against for subject in self.subjects}


def study_of(source: Manifest | SweepSummary | ChainSummary) -> Study:
    """The study that was written down so."""
    if isinstance(source, ChainSummary):
        return _chained(source)
    return _planned(source) if isinstance(source, Manifest) else _searched(source)


def _planned(manifest: Manifest) -> Study:
    if not manifest.rungs or not manifest.seeds:
        raise UserError(f"the manifest of '{manifest.name}' has no rungs or no seeds: there is nothing to report")
    subjects = (
        Subject(
            name=rung.name,
            title=rung.title,
            trials={seed: manifest.key(rung, seed) for seed in manifest.seeds},
            against=rung.against,
            edits=rung.edits,
            varied=rung.varied,
            levels=rung.levels,
            touched=rung.touched,
            twin_fingerprint=rung.twin_fingerprint,
        )
        for rung in manifest.rungs
    )
    return Study(
        kind="ablation",
        name=manifest.name,
        subjects=tuple(subjects),
        seeds=manifest.seeds,
        protocol=manifest.protocol,
        protocol_fingerprint=manifest.protocol_fingerprint,
        command=manifest.command,
        controls=manifest.controls,
        twin=manifest.twin,
        judging=manifest.judging,
        promotion=manifest.promotion,
    )


def _chained(summary: ChainSummary) -> Study:
    if not summary.networks:
        raise UserError(f"the chain '{summary.name}' has no network yet: there is nothing to report")
    names = [network.name for network in summary.networks]
    subjects = (
        Subject(
            name=network.name,
            title=network.title,
            trials=network.trials,
            against=network.before if network.before in names else None,
            varied=summary.varied,
        )
        for network in summary.networks
    )
    return Study(
        kind="chain",
        name=summary.name,
        subjects=tuple(subjects),
        seeds=summary.seeds,
        protocol=summary.protocol,
        protocol_fingerprint=summary.protocol_fingerprint,
        command=summary.command,
        judging=summary.judging,
        chain=summary,
    )


def _searched(summary: SweepSummary) -> Study:
    trained = [candidate for candidate in summary.candidates if candidate.key]
    return Study(
        kind="sweep",
        name=summary.name,
        subjects=(*(_candidate(each, summary.seed) for each in trained), *_finalists(summary)),
        seeds=(summary.seed,),
        protocol=summary.protocol,
        protocol_fingerprint=summary.protocol_fingerprint,
        command=summary.command,
        twin=summary.twin,
        judging=summary.judging,
        search=summary,
    )


def _candidate(candidate: CandidateSummary, seed: int) -> Subject:
    return Subject(
        name=candidate.name,
        title=candidate.rung or candidate.name,
        trials={seed: candidate.key},
        rung_of=candidate.rung or None,
        edits=candidate.parameters,
    )


def _finalists(summary: SweepSummary) -> Iterable[Subject]:
    for finalist in summary.conclusions.finalists if summary.conclusions else ():
        yield Subject(
            name=f"{finalist.name}, fresh seeds",
            title=f"{finalist.name}, fresh seeds",
            trials=finalist.trials,
            child_of=finalist.name,
            edits=finalist.parameters,
        )
