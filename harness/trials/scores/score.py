"""Scores of one thing, at each setting of sampling that is asked for: each made in parts, by any number of workers.

    OUT/store/measurements/KEY.json   a score, once it is there: a Measurement of (pictures, quality, data)
    OUT/scores/parts/KEY/             its parts until then (`parts`)
    OUT/scores/parts.log              which process made which part

Every worker goes through all parts and makes those that nobody has and nobody is at now; so none waits for another
until the end, a worker that dies is replaced by the others, and two commands that want the same score share its parts.
One process makes the score of them: whoever first finds them all.
"""

import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any, TypeAlias

import torch

from harness.data.dataset import load_dataset
from harness.data.images import ImageData
from harness.launch.config import threads_of
from harness.measure.quality import Scorer
from harness.measure.quality_config import BY_LABEL
from harness.measure.quality_features import extract
from harness.measure.quality_reference import Reference, load_reference
from harness.measure.quality_reference_files import quality_identity
from harness.models.pixels import NotFiniteError
from harness.processes.locks import WAIT_S, waited_for
from harness.records.plain import fingerprint, to_plain
from harness.records.provenance import completed_provenance, provenance
from harness.records.quantity import Failed, Quantity, Unavailable
from harness.records.record import Measurement, measurement_key
from harness.records.store import write_atomic
from harness.training.device import resolve_device
from harness.trials.scores.network import network_sources
from harness.trials.scores.parts import Arrays, Parts, part_ranges, scorer_of
from harness.trials.scores.pictures import pictures_source
from harness.trials.scores.pipeline import pipeline_sources
from harness.trials.scores.request import Scorable, ScoreRequest, is_pipeline
from harness.trials.scores.source import Source
from harness.trials.settings import Settings
from harness.trials.spec import cache_folder, store_of
from harness.trials.trained import TrainedNetwork

FAILED = "failed.txt"
"""In the folder of parts: why there are no more of them."""


Inspect: TypeAlias = Callable[[Source, Scorer], None]
"""Sees what is scored and the scorer that made the score: for what else is told from its features."""


class Score:
    """One score of a request: what it is of, its parts, and how it is made of them."""

    def __init__(self, scoring: "Scoring", source: Source) -> None:
        self._scoring, self.source = scoring, source
        self._finished: Mapping[str, Quantity] | None = None
        settings, data = scoring.request.settings, scoring.data
        self.identity: Mapping[str, Any] = {
            **source.identity,
            "samples": source.count,
            "quality": quality_identity(settings.quality, source.shape[1]),
            **({} if data is None else {"data": data.identity}),
        }
        self.key = measurement_key("score", self.identity)
        folder = settings.out / "scores"
        ranges = part_ranges(source.count, source.micro_batch)
        self.parts = Parts(folder / "parts" / self.key, folder / "parts.log", self.identity, ranges)

    @property
    def stored(self) -> Mapping[str, Quantity] | None:
        measurement, replaced = self.measurement, self._scoring.request.replaced
        if measurement is None or (replaced and content_of(measurement) in replaced):
            return None
        return measurement.quantities

    @property
    def measurement(self) -> Measurement | None:
        return self._scoring.store.measurement(self.key)

    @property
    def is_over(self) -> bool:
        """Whether no part is needed any more."""
        return (self.parts.folder / FAILED).is_file() or self.stored is not None

    @property
    def missing(self) -> list[range]:
        return [] if self.is_over else self.parts.missing

    def make(self, part: range) -> bool:
        """Have that part; False while another process makes it."""
        try:
            return self.parts.make(part, self._features, lambda: self.is_over)
        except NotFiniteError as error:  # of a guidance scale that is too high; others may do
            write_atomic(self.parts.folder / FAILED, str(error).encode())
            return True

    def finish(self, inspect: Inspect | None) -> Mapping[str, Quantity]:
        """The score of all parts, which go when it is stored; of two processes one makes it."""
        if self._finished is not None:
            return self._finished
        self._finished = self.stored
        if self._finished is None:
            with waited_for(self.parts.folder / "lock", "this score"):
                self._finished = self.stored or self._stored(inspect)
        self.parts.remove()
        return self._finished

    def _stored(self, inspect: Inspect | None) -> Mapping[str, Quantity]:
        start = provenance(threads=threads_of(self._scoring.request.settings.launcher))
        quantities = self._made(inspect)
        completed = completed_provenance(start)
        self._scoring.store.put(
            Measurement(subject="score", settings=self.identity, quantities=quantities, provenance=completed)
        )
        return quantities

    def _made(self, inspect: Inspect | None) -> Mapping[str, Quantity]:
        failed = self.parts.folder / FAILED
        if failed.is_file():
            metrics, message = self._scoring.request.settings.quality.metrics, failed.read_text()
            return {name: Failed(phase="sample", message=message) for name in metrics}
        source, reference = self.source, self._scoring.reference
        labels = torch.zeros(source.count, dtype=torch.int64) if source.labels is None else source.labels
        scorer = scorer_of(self.parts, labels, reference)
        if inspect is not None:
            inspect(source, scorer)
        quantities = scorer.quantities(source.conditions)
        if source.labels is None:
            quantities |= {name: Unavailable(reason=source.unlabelled) for name in BY_LABEL if name in quantities}
        return quantities

    def _features(self, part: range) -> Arrays:
        return extract(self.source.read(part), self._scoring.reference).arrays()


class Scoring:
    """A request in one process: what is scored is loaded, and the reference when it is needed first.

    UserError for what cannot be scored against the data or reference, before anything is sampled.
    """

    def __init__(self, request: ScoreRequest) -> None:
        self.request, settings = request, request.settings
        self.store = store_of(settings.out)
        self.data = data_of(settings, request.what)
        self.scores = tuple(Score(self, source) for source in _sources(request, self.data))

    @cached_property
    def reference(self) -> Reference:
        settings = self.request.settings
        cache, device = cache_folder(settings.out), resolve_device(settings.recipe.device)
        return load_reference(settings.quality, self.data, cache=cache, device=device)

    def replace_stored(self) -> None:
        """Have all scores made again, those too that the store has."""
        there = tuple(content_of(each.measurement) for each in self.scores if each.measurement is not None)
        self.request = replace(self.request, replaced=there)

    @property
    def missing(self) -> int:
        """Parts, of all scores."""
        return sum(len(score.missing) for score in self.scores)

    def made(self, scores: Sequence[Score], first: int = 0, of: int = 1) -> Iterator[None]:
        """Have every part of these scores that is missing; one item a part, once it is there, whoever made it.

        Of `of` workers the one of number `first` begins at its share.
        """
        waiting = [(score, part) for score in scores for part in _rotated(score.missing, first, of)]
        has_waited = False
        while waiting:
            left = []
            for score, part in waiting:
                if score.is_over or score.make(part):
                    yield
                else:
                    left.append((score, part))
            if len(left) == len(waiting):
                if not has_waited:
                    print(f"waiting for {len(left)} parts of pictures that other processes are at", file=sys.stderr)
                has_waited = True
                time.sleep(WAIT_S)
            waiting = left


def data_of(settings: Settings, what: Scorable) -> ImageData | None:
    """What is scored against; a network's classes are of it too. None beside a reference at a path."""
    if settings.quality.reference_path is not None and not isinstance(what, TrainedNetwork):
        return None
    return load_dataset(settings.data, cache=cache_folder(settings.out))


def _sources(request: ScoreRequest, data: ImageData | None) -> list[Source]:
    what, settings = request.what, request.settings
    if isinstance(what, TrainedNetwork):
        assert data is not None
        return network_sources(what, settings, request.grid, request.averages, data)
    if is_pipeline(what):
        return pipeline_sources(what, settings, request.grid, data)
    return [pictures_source(what, data, settings.data)]


def content_of(measurement: Measurement) -> str:
    """The same score made again has another: when it was made is part of it."""
    return fingerprint(to_plain(measurement), schema="stored-score-1")


def _rotated(parts: list[range], first: int, of: int) -> list[range]:
    """All, from the share of worker `first` on."""
    start = len(parts) * first // of
    return parts[start:] + parts[:start]
