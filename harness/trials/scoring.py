"""The scores of one trained network at some settings of sampling, each sampled in parts by any number of workers.

    OUT/store/measurements/KEY.json   a score, once it is there: a Measurement of (weights, sampling, quality)
    OUT/scores/parts/KEY/             its parts until then (`score_parts`)
    OUT/scores/parts.log              which process sampled which part

Every worker goes through all parts and samples those that nobody has and nobody samples now; so none waits for another
until the end, a worker that dies is replaced by the others, and two commands that want the same score share its parts.
One process makes the score of them: whoever first finds them all.
"""

import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, TypeAlias

import torch

from harness.data.dataset import load_dataset
from harness.diffusion.config import SamplingConfig
from harness.launch.config import threads_of
from harness.measure.quality import Scorer, samples_for
from harness.measure.quality_features import extract
from harness.measure.quality_reference import Reference, load_reference
from harness.measure.quality_reference_files import quality_identity
from harness.models.autoencoder import describe
from harness.models.pixels import NotFiniteError
from harness.processes.locks import WAIT_S, waited_for
from harness.records.errors import UserError
from harness.records.plain import fingerprint, to_plain
from harness.records.provenance import completed_provenance, provenance
from harness.records.quantity import Failed, Quantity
from harness.records.record import Measurement, measurement_key
from harness.records.store import write_atomic
from harness.training.device import resolve_device
from harness.trials.prepared import cache_folder
from harness.trials.samples import sampling_conditions
from harness.trials.sampling_run import SamplingRun, sampling_run
from harness.trials.score_parts import Arrays, Parts, part_ranges, scorer_of
from harness.trials.settings import Settings
from harness.trials.spec import store_of
from harness.trials.trained import TrainedNetwork

FAILED = "failed.txt"
"""In the folder of parts: why there are no more of them."""


Inspect: TypeAlias = Callable[[Scorer, Mapping[str, Any]], None]
"""Sees the scorer that made a score, and the conditions of its quantities: for what else is told from its features."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ScoreRequest:
    """What is to be scored: all that a worker needs."""

    trained: TrainedNetwork
    settings: Settings
    grid: tuple[SamplingConfig, ...]
    """The settings of sampling, in place of `settings.sampling`."""
    replaced: tuple[str, ...] = ()
    """Stored scores that are made again, since more is wanted of their samples, which are not kept: each stays until
    the new one is stored. By `content_of`."""


class Score:
    """One score of a request: what it is of, its parts, and how it is made of them."""

    def __init__(self, scoring: "Scoring", run: SamplingRun) -> None:
        self._scoring, self.run, self.config = scoring, run, run.config
        self._finished: Mapping[str, Quantity] | None = None
        settings = scoring.request.settings
        self.identity: Mapping[str, Any] = {
            **run.identity,
            "samples": len(run),
            "quality": quality_identity(settings.quality, scoring.data.size),
            "data": scoring.data.identity,
        }
        self.key = measurement_key("score", self.identity)
        folder = settings.out / "scores"
        ranges = part_ranges(len(run), run.config.micro_batch)
        self.parts = Parts(folder / "parts" / self.key, folder / "parts.log", self.identity, ranges)

    @property
    def label(self) -> str:
        """For people."""
        return f"guidance {self.config.guidance_scale:g}, {self.config.steps} steps"

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

    def sample(self, part: range) -> bool:
        """Have that part; False while another process samples it."""
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
        made = completed_provenance(start)
        self._scoring.store.put(
            Measurement(subject="score", settings=self.identity, quantities=quantities, provenance=made)
        )
        return quantities

    def _made(self, inspect: Inspect | None) -> Mapping[str, Quantity]:
        failed = self.parts.folder / FAILED
        if failed.is_file():
            metrics, message = self._scoring.request.settings.quality.metrics, failed.read_text()
            return {name: Failed(phase="sample", message=message) for name in metrics}
        scorer = scorer_of(self.parts, self.run.labels, self._scoring.reference)
        under = self._scoring.conditions(self.config)
        if inspect is not None:
            inspect(scorer, under)
        return scorer.quantities(under)

    def _features(self, part: range) -> Arrays:
        images = torch.cat([images for _, images in self.run.batches(part)])
        return extract(images, self._scoring.reference).arrays()


class Scoring:
    """A request in one process: its network and data are loaded, and its reference when it is needed first.

    UserError where the data is not the one that the network was trained on.
    """

    def __init__(self, request: ScoreRequest) -> None:
        self.request, settings = request, request.settings
        self.store, self.device = store_of(settings.out), resolve_device(settings.recipe.device)
        self.data = load_dataset(settings.data, cache=cache_folder(settings.out))
        run = sampling_run(request.trained, settings, samples_for(settings.quality, self.data))
        self._check(run)
        self.scores = tuple(Score(self, run.with_sampling(config)) for config in request.grid)

    @cached_property
    def reference(self) -> Reference:
        settings, cache = self.request.settings, cache_folder(self.request.settings.out)
        return load_reference(settings.quality, self.data, cache=cache, device=self.device)

    def replace_stored(self) -> None:
        """Have all scores made again, those too that the store has."""
        there = tuple(content_of(each.measurement) for each in self.scores if each.measurement is not None)
        self.request = replace(self.request, replaced=there)

    @property
    def missing(self) -> int:
        """Parts, of all scores."""
        return sum(len(score.missing) for score in self.scores)

    def sampled(self, scores: Sequence[Score], first: int = 0, of: int = 1) -> Iterator[None]:
        """Have every part of these scores that is missing; one item a part, once it is there, whoever sampled it.

        Of `of` workers the one of number `first` begins at its share.
        """
        waiting = [(score, part) for score in scores for part in _rotated(score.missing, first, of)]
        has_waited = False
        while waiting:
            left = []
            for score, part in waiting:
                if score.is_over or score.sample(part):
                    yield
                else:
                    left.append((score, part))
            if len(left) == len(waiting):
                if not has_waited:
                    print(f"waiting for {len(left)} parts of samples that other processes are at", file=sys.stderr)
                has_waited = True
                time.sleep(WAIT_S)
            waiting = left

    def conditions(self, config: SamplingConfig) -> Mapping[str, Any]:
        """Of the scores: how the network was trained, and how it was sampled."""
        record = self.request.trained.record
        origin = {} if record is None else record.provenance
        trained = {"training_device": origin.get("device"), "precision": origin.get("precision")}
        how = {"guidance_scale": config.guidance_scale, "steps": config.steps, "evaluations": config.evaluations}
        known = {name: value for name, value in trained.items() if value is not None}
        return {**known, **sampling_conditions(config), "solver": config.solver, **how}

    def _check(self, run: SamplingRun) -> None:
        settings, title = self.request.settings, self.request.trained.title
        if tuple(run.class_names) != self.data.class_names:
            raise UserError(
                f"{title} knows other classes than data={settings.data.kind} has; give the data that it was "
                "trained on, data=..."
            )
        latent = describe(settings.autoencoder).latent_shape(self.data.channels, self.data.size)
        if run.shape != latent:
            raise UserError(
                f"{title} makes {_size(run.shape)}, and data={settings.data.kind} with autoencoder="
                f"{settings.autoencoder.kind} is {_size(latent)}; give the data that it was trained on, data=..."
            )


def content_of(measurement: Measurement) -> str:
    """The same score made again has another: when it was made is part of it."""
    return fingerprint(to_plain(measurement), schema="stored-score-1")


def _rotated(parts: list[range], first: int, of: int) -> list[range]:
    """All, from the share of worker `first` on."""
    start = len(parts) * first // of
    return parts[start:] + parts[:start]


def _size(shape: tuple[int, int, int]) -> str:
    channels, height, width = shape
    return f"{height} x {width} with {channels} channels"
