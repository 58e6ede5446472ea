"""What an ablation consists of: written beside its runs, read by the report."""

import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias

from harness.records.errors import UserError
from harness.records.judging import GENERATED_PICTURES, Judging
from harness.records.plain import from_plain, to_plain
from harness.records.record import trial_key
from harness.records.store import write_atomic

MANIFEST_FILE = "manifest.json"
StudyKind: TypeAlias = Literal["ablation", "sweep", "chain"]
STUDY_FILES: Mapping[StudyKind, str] = {"ablation": MANIFEST_FILE, "sweep": "sweep.json"}
"""What lies in OUT/NAME once a study of that kind began there. A chain lies in OUT/chains/NAME."""

TRAINING = "train-"
"""How the folder of a single training begins, an ablation of one rung: OUT/train-NAME."""
SCORING = "score-"
"""How the folder of the jobs that sample for scores begins: OUT/score-KEY."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Rung:
    name: str  # `mqa`
    title: str  # "MHSA to MQA"
    architecture_fingerprint: str
    against: str | None  # the name of the rung that changes are computed against; None for the base
    edits: Mapping[str, Any]  # the knobs that differ from `against`
    levels: Mapping[str, str] = field(default_factory=dict)  # of a factorial ablation's combination: knob -> choice
    twin_fingerprint: str | None = None  # of the same edits on the study's deployment twin
    twin_architecture: Mapping[str, Any] = field(default_factory=dict)  # that twin, whole
    trained: Mapping[str, Any] = field(default_factory=dict)  # in what its training is not the settings': path -> value
    protocol_fingerprint: str | None = None  # of its own training, where that is not the first rung's
    seed_protocols: tuple[str, ...] = ()  # fingerprints, seed by seed, where each has a protocol of its own
    varied: tuple[str, ...] = ()  # paths in which that protocol may not be the first's: `objective`, `teacher`
    touched: Mapping[str, float] = field(default_factory=dict)
    """`network`, `twin`: the share (0.009 is 0.9%) of the multiply-adds of `against` in modules that the edits change.
    Without a twin there is no `twin`; the first rung, which is compared with none, has neither."""


Rule: TypeAlias = Literal["best", "knee", "limit"]
"""By which a promotion chooses (`harness.search.rules`)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Promotion:
    """How a network came from a study to its full training: its numbers there are read by that."""

    trials: tuple[str, ...] = ()  # the keys of its trainings there; of a rung, one a seed
    rule: str = ""  # a Rule; empty where somebody named it
    basis: Literal["", "search", "rescored", "rungs"] = ""  # whose values the rule went by
    among: int = 0  # how many it chose among


@dataclass(frozen=True, kw_only=True, slots=True)
class Manifest:
    name: str  # the ablation's: `fig3`
    rungs: tuple[Rung, ...]
    seeds: tuple[int, ...]
    protocol: Mapping[str, Any]  # of the first rung; of the others too, unless they say otherwise
    protocol_fingerprint: str
    controls: Mapping[str, str]  # those of its task, `floor`, `noise`, ... -> key of a Measurement
    command: str  # what to type to repeat it
    twin: Mapping[str, Any] | None = None  # {base, latent}: the deployment size that costs are counted at
    judging: Judging = GENERATED_PICTURES  # of its task
    report: str | None = None  # the page that the study names: reports/NAME.yaml
    refused: Mapping[str, str] = field(default_factory=dict)  # combinations that a rule refuses -> why
    settings: Mapping[str, Any] = field(default_factory=dict)  # as its YAML and the command line chose them
    promotion: Promotion | None = None  # of a promoted network's training

    def key(self, rung: Rung, seed: int) -> str:
        """Of the rung's trial."""
        protocol = rung.protocol_fingerprint or self.protocol_fingerprint
        if rung.seed_protocols:
            protocol = rung.seed_protocols[self.seeds.index(seed)]
        return trial_key(rung.architecture_fingerprint, protocol, seed)

    @property
    def keys(self) -> frozenset[str]:
        """Of all its trials."""
        return frozenset(self.key(rung, seed) for rung in self.rungs for seed in self.seeds)


RESERVED = {
    "store": "the records", "cache": "what can be computed again", "data": "pictures", "tracking": "the logs",
    "chains": "the files of chains", "pages": "the pages of trials and comparisons", "index.html": "the index",
    "scores": "the parts of scores", "samples": "the pictures of samples",
    "packages": "the Core ML packages of trials",
}  # fmt: skip
"""What lies in an output folder beside the studies' folders."""


def study_folder(out: Path, name: str) -> Path:
    """OUT/NAME; UserError for a name that no folder of its own can have, or under which something else lies there."""
    if name.startswith(".") or not name.isprintable() or not name.strip():
        raise UserError(
            f"a study's folder is named after its YAML file, so that name is printed in one line and does not begin "
            f"with a dot, unlike {name!r}; rename the file"
        )
    if name.casefold() in RESERVED:
        raise UserError(
            f"a study cannot be called '{name}', since {Path(out) / name.casefold()} holds {RESERVED[name.casefold()]} "
            "of all studies; rename its YAML file"
        )
    return Path(out) / name


def study_command(verb: str, folder: Path, *flags: str) -> str:
    """The command about the study that lies in `folder`, as a shell takes it where this process runs, in backticks."""
    out = folder.absolute().parent
    shown = out.relative_to(Path.cwd()) if out.is_relative_to(Path.cwd()) else out
    return f"`{shlex.join(['harness', verb, folder.name, *flags, f'out={shown}'])}`"


def write_manifest(folder: Path, manifest: Manifest) -> None:
    write_atomic(folder / MANIFEST_FILE, json.dumps(to_plain(manifest), indent=1, ensure_ascii=False).encode())


def read_manifest(out: Path, name: str) -> Manifest:
    path = study_folder(out, name) / MANIFEST_FILE
    try:
        return from_plain(Manifest, json.loads(path.read_text()))
    except FileNotFoundError:
        raise UserError(
            f"there is no {path}; run `harness ablate {name}` first, or say where with out=FOLDER"
        ) from None
    except (OSError, ValueError, UserError) as error:  # ValueError: neither JSON nor text
        raise UserError(f"cannot read {path}: {error}; run `harness ablate {name}` again to rewrite it") from error
