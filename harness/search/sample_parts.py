"""Scores of parts of a trial's stored samples: the first 64 of them, each half.

What `quality.samples=64` would have measured is measured from the samples that are there. Each trial's scores are a
Measurement of their own, so asking again, or after an interruption, costs nothing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from harness.measure.quality import DISTANCES, distance
from harness.measure.quality_reference import Reference, load_reference
from harness.records.errors import UserError, unknown_name
from harness.records.plain import canonical_json
from harness.records.provenance import ended, provenance
from harness.records.record import Measurement, TrialRecord, measurement_key
from harness.records.store import Store
from harness.training.device import resolve_device
from harness.trials.prepared import Prepared, cache_folder
from harness.trials.progress import Show
from harness.trials.spec import store_of

SAMPLES = "samples.npz"
JUDGING = ("data", "quality")
"""The sections of a protocol that a score of given samples depends on."""


@dataclass(frozen=True, slots=True)
class Part:
    """Samples `first` up to, not including, `end`."""

    first: int
    end: int

    @property
    def name(self) -> str:
        return f"{self.first}:{self.end}"


def part_scores(
    records: Sequence[TrialRecord], prepared: Prepared, score: str, parts: Sequence[Part], show: Show
) -> dict[str, dict[str, float]]:
    """Trial key -> part's name -> `kid` or `fd` of that part, under the protocol that the trials were scored by."""
    if score not in DISTANCES:
        raise unknown_name("score", score, DISTANCES)
    for record in records:
        _check_protocol(record, prepared)
    store, found = store_of(prepared.settings.out), {}
    missing = [record for record in records if store.measurement(_key(record, score, parts)) is None]
    reference = _reference(prepared) if missing else None
    for number, record in enumerate(missing):
        assert reference is not None
        show.note(f"{score} of parts of the samples of {record.name} [{number + 1}/{len(missing)}]")
        store.put(_measure(store, record, score, parts, reference))
    for record in records:
        measurement = store.measurement(_key(record, score, parts))
        assert measurement is not None
        found[record.key] = {name: float(known.value) for name, known in measurement.quantities.items()}  # type: ignore[union-attr]
    return found


def _reference(prepared: Prepared) -> Reference:
    settings, (data, _) = prepared.settings, prepared.trained_on
    device = resolve_device(settings.recipe.device)
    return load_reference(settings.quality, data, cache=cache_folder(settings.out), device=device)


def _check_protocol(record: TrialRecord, prepared: Prepared) -> None:
    now = prepared.protocol.sections
    changed = [name for name in JUDGING if canonical_json(now[name]) != canonical_json(record.protocol[name])]
    if changed:
        raise UserError(
            f"{record.name} was scored with other settings of {' and '.join(changed)} than these; give the settings "
            "that the study was run with, for example quality.samples=256"
        )


def _measure(store: Store, record: TrialRecord, score: str, parts: Sequence[Part], reference: Reference) -> Measurement:
    begun = provenance()
    images, labels = _samples(store, record)
    features = reference.extractor.features(images).double()
    chosen = {part.name: slice(part.first, part.end) for part in parts}
    quantities = {name: distance(score, features[at], labels[at], reference) for name, at in chosen.items()}
    return Measurement(
        subject="sample_parts",
        settings=_settings(record, score, parts),
        quantities=quantities,
        provenance=ended(begun),
    )


def _samples(store: Store, record: TrialRecord) -> tuple[Tensor, Tensor]:
    """Images (N, C, H, W) and labels (N,)."""
    path = store.artifact(record.key, SAMPLES)
    try:
        with np.load(path) as stored:
            return torch.from_numpy(stored["images"]), torch.from_numpy(stored["labels"])
    except (OSError, KeyError, ValueError) as error:
        raise UserError(f"cannot read the samples of {record.name}, {path}: {error}") from error


def _key(record: TrialRecord, score: str, parts: Sequence[Part]) -> str:
    return measurement_key("sample_parts", _settings(record, score, parts))


def _settings(record: TrialRecord, score: str, parts: Sequence[Part]) -> Mapping[str, Any]:
    return {"trial": record.key, "score": score, "parts": [part.name for part in parts]}
