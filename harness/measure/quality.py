"""How good generated images are: distances to real ones, and whether they show the class asked for.

    KID   its expectation does not depend on N, so it ranks at any N; may be below 0 near its floor
    FD    biased upwards by about 1/N, so two of them compare at equal N only, and beside the floor of real images at
          that N. FID is FD in the original Inception's features, and nothing else; sFID in its spatial ones
    FD-infinity, Inception Score, precision, recall    where `quality.metrics` asks for them
    retrieval, distance to training    of data with captions (`quality_captions`)

All are torch-fidelity's numbers (the tests hold them to that), computed by `quality_distances` for their replicates
and for unequal numbers of images. KID and FD have a 95% interval of the sampling noise of their N images. It is about
the expectation at that N, for the reference images as they are, and says nothing of another training seed.

Images may come in any number of parts (`Scorer`). Up to WHOLE of them, features are kept and scored at once; beyond,
FD, sFID and Inception Score are of sums, in constant memory, and KID, precision and recall keep N D float32 features.
"""

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from harness.data.images import ImageData
from harness.measure.quality_captions import Gallery, memorised, retrieval, retrieval_rank, training_distance
from harness.measure.quality_config import QualityConfig, score_name
from harness.measure.quality_distances import (
    Estimate,
    Groups,
    frechet_distance,
    frechet_distance_at_infinity,
    frechet_distance_of_gaussians,
    frechet_distance_of_moments,
    jackknife_groups,
    kernel_distance,
    kernel_distance_over_subsets,
)
from harness.measure.quality_features import Features, extract
from harness.measure.quality_fidelity import NEIGHBOURS, InceptionScore, precision_and_recall
from harness.measure.quality_moments import GroupedMoments, Moments, merged
from harness.measure.quality_reference import WHOLE, Reference, ReferenceStatistics
from harness.measure.quality_reference_files import Given
from harness.measure.statistics import jackknife_interval, wilson
from harness.records.quantity import Measured, Quantity, Unavailable

KID_SEED = 2020  # which random subsets; torch-fidelity's own default


def samples_for(config: QualityConfig, data: ImageData) -> int:
    """N for this data set: `samples`, or as many real images as there are for a floor at the same N, if fewer."""
    if not config.fewer_for_floor:
        return config.samples
    other = data.train if config.reference == "heldout" else data.heldout
    return min(config.samples, len(other))


def say_if_fewer(config: QualityConfig, data: ImageData) -> None:
    """One line on standard error where N is lowered."""
    if (count := samples_for(config, data)) < config.samples:
        print(
            f"note: {count} samples are scored, and not quality.samples={config.samples}: {data.kind} has no more "
            "images outside the reference, for a floor of as many; quality.fewer_for_floor=false keeps the number",
            file=sys.stderr,
        )


def quality(
    images: Tensor, labels: Tensor, reference: Reference, under: Mapping[str, Any] | None = None, *, what: str = ""
) -> dict[str, Quantity]:
    """Score uint8 images (N, C, H, W) that were asked to show the classes `labels` (N,).

    Returns the scores of `quality.metrics`, each with its label, N, reference and extractor as conditions; `under`
    are further ones, of how the images were made. With `what` the images are called, standard error says how far it is.
    """
    if len(images) != len(labels):
        raise ValueError(f"quality needs uint8 images and as many labels, not {len(images)} and {len(labels)}")
    scorer = Scorer(reference, labels, what=what)
    scorer.add(images, range(len(images)))
    return scorer.quantities(under)


def distance(name: str, features: Tensor, labels: Tensor, reference: Reference) -> Measured:
    """`kid` or `fd` of images whose float64 features (N, D) and labels (N,) these are."""
    return DISTANCES[name](features, jackknife_groups(labels), reference)


def distances_of_statistics(given: Given, reference: ReferenceStatistics) -> dict[str, Quantity]:
    """The scores of `quality.metrics` of images that are known by mean and covariance alone: FD and sFD."""
    assert given.statistics is not None
    pairs = {
        "fd": ("FD", given.statistics, reference.gaussian),
        "sfd": ("sFD", given.spatial, reference.spatial),
    }
    scores: dict[str, Quantity] = {}
    for name in reference.config.metrics:
        score, statistics, real = pairs.get(name, ("", None, None))
        if statistics is None or real is None:
            scores[name] = Unavailable(reason=f"mean and covariance of features alone do not tell {name}")
        else:
            value = frechet_distance_of_gaussians(statistics.mean, statistics.covariance, real)
            scores[name] = _measured(score, Estimate(value), statistics.samples, reference)
    return scores


class Scorer:
    """The scores of images 0..N-1 that come in parts, in any order, or whose features do, whoever extracted them.

    `labels` (N,): the classes asked for, of all N; every index must have been added once before the scores are told.
    """

    def __init__(self, reference: Reference, labels: Tensor, *, what: str = "") -> None:
        self.reference, self.labels, self.what = reference, labels.cpu(), what
        self.metrics = reference.config.metrics
        self.groups = jackknife_groups(self.labels)
        self.added = np.zeros(len(labels), dtype=np.bool_)
        self.read = np.zeros(len(labels), dtype=np.int64)  # the classifier's answers
        self.whole = len(labels) <= WHOLE
        self.features: Tensor | None = None  # (N, D) float32, where they are kept
        self.moments: GroupedMoments | None = None  # of features, where these are not
        self.spatial: GroupedMoments | None = None
        self.inception: InceptionScore | None = None

    def add(self, images: Tensor, indices: range) -> None:
        """uint8 images (n, C, H, W) with the numbers `indices`."""
        self.put(extract(images, self.reference, self.what), indices)

    def put(self, features: Features, indices: range) -> None:
        """Features of the images with the numbers `indices`, whoever extracted them."""
        self._check(len(features), indices)
        at, layers = slice(indices.start, indices.stop), features.layers
        self._prepare({name: rows.shape[1] for name, rows in layers.items()})
        if self.features is not None:
            self.features[at] = layers["features"]
        if self.moments is not None:
            self.moments.add(layers["features"], self.groups[at])
        if self.spatial is not None:
            self.spatial.add(layers["spatial"], np.zeros(len(features), dtype=np.int64))
        if self.inception is not None:
            self.inception.add(layers["logits"], indices)
        if features.read is not None:
            self.read[at] = features.read
        self.added[at] = True

    def quantities(self, under: Mapping[str, Any] | None = None) -> dict[str, Quantity]:
        """The scores, once every image was added."""
        if not self.added.all():
            raise ValueError(f"a score needs all its images, and {int((~self.added).sum())} were not added")
        scores = {name: SCORES[name](self) for name in self.metrics if name not in ("precision", "recall")}
        if {"precision", "recall"} & set(self.metrics):
            scores |= {name: score for name, score in _manifolds(self).items() if name in self.metrics}
        for metric in self.metrics:
            scores |= {name: score(self) for name, score in BESIDE.get(metric, {}).items()}
        return {name: _with_conditions(scores[name], under or {}) for name in told_by(self.metrics)}

    def feature_moments(self) -> list[Moments]:
        """Of each group."""
        if self.moments is not None:
            return self.moments.parts()
        assert self.features is not None
        numbers = torch.from_numpy(self.groups)
        return [Moments.of(self.features[numbers == group]) for group in range(int(self.groups.max()) + 1)]

    def spatial_moments(self) -> Moments | None:
        """Of spatial features, where a metric reads them."""
        return None if self.spatial is None else merged(self.spatial.parts())

    def _check(self, count: int, indices: range) -> None:
        if count != len(indices):
            raise ValueError(f"{count} images have as many numbers, and not {len(indices)}")
        if indices.step != 1 or self.added[indices.start : indices.stop].any():
            raise ValueError(f"images {indices} were added before, or are no range in steps of 1")

    def _prepare(self, widths: Mapping[str, int]) -> None:
        """Room for what the metrics need, as wide as the extractor's layers turn out to be."""
        count = len(self.labels)
        if self.features is None and (self.whole or self.reference.config.keeps_features) and "features" in widths:
            self.features = torch.empty(count, widths["features"])
        summed = not self.whole and (self.features is None or {"fd", "fd_infinity"} & set(self.metrics))
        if self.moments is None and summed and "features" in widths:
            self.moments = GroupedMoments(int(self.groups.max()) + 1, widths["features"])
        if self.spatial is None and "spatial" in widths:
            self.spatial = GroupedMoments(1, widths["spatial"])
        if self.inception is None and "logits" in widths:
            self.inception = InceptionScore(count, widths["logits"])


def _with_conditions(quantity: Quantity, more: Mapping[str, Any]) -> Quantity:
    if not isinstance(quantity, Measured):
        return quantity
    return replace(quantity, conditions={**quantity.conditions, **more})


# One function a score


def _fd(features: Tensor, groups: Groups, reference: Reference) -> Measured:
    return _measured("FD", frechet_distance(features, reference.gaussian, groups), len(features), reference)


def _kid(features: Tensor, groups: Groups, reference: Reference) -> Measured:
    config, (m, n) = reference.config, (len(features), len(reference.features))
    if config.kid_full:
        estimate = kernel_distance(features, reference.features, groups)
        estimator = f"unbiased, all {m} images with all {n} of the reference"
    else:
        subsets, size = config.kid_subsets, min(config.kid_subset_size, m, n)
        estimate = kernel_distance_over_subsets(
            features, reference.features, groups, subsets=subsets, size=size, seed=KID_SEED
        )
        estimator = f"unbiased, mean over {subsets} random subsets of {size} of {m} images and {size} of {n}"
    more = {"estimator": estimator, "kernel": "(x.y/D + 1)^3"}
    return _measured("KID", estimate, m, reference, more)


DISTANCES: Mapping[str, Callable[[Tensor, Groups, Reference], Measured]] = {"kid": _kid, "fd": _fd}


def _kid_of(scorer: Scorer) -> Quantity:
    if not len(scorer.reference.features):
        return _statistics_alone(scorer.reference, "KID")
    assert scorer.features is not None
    return _kid(scorer.features.double(), scorer.groups, scorer.reference)


def _fd_of(scorer: Scorer) -> Quantity:
    reference = scorer.reference
    if scorer.whole:
        assert scorer.features is not None
        return _fd(scorer.features.double(), scorer.groups, reference)
    estimate = frechet_distance_of_moments(scorer.feature_moments(), reference.gaussian)
    return _measured("FD", estimate, len(scorer.labels), reference)


def _fd_infinity_of(scorer: Scorer) -> Quantity:
    reference, count = scorer.reference, len(scorer.labels)
    line = frechet_distance_at_infinity(scorer.feature_moments(), reference.gaussian)
    if line is None:
        return Unavailable(
            reason=f"{count} images are too few to extrapolate FD from; quality.samples from about "
            f"{4 * len(reference.gaussian.mean)} are enough"
        )
    more = {"sizes": list(line.sizes), "distances": list(line.distances), "estimator": "line in 1/N, least squares"}
    return _measured("FD-infinity", Estimate(line.value), count, reference, more)


def _sfd_of(scorer: Scorer) -> Quantity:
    reference, moments = scorer.reference, scorer.spatial_moments()
    if reference.spatial is None:
        return Unavailable(
            reason=f"the reference {reference.conditions['reference']} has no statistics of spatial features"
        )
    assert moments is not None
    estimate = frechet_distance_of_moments([moments], reference.spatial)
    return _measured("sFD", estimate, len(scorer.labels), reference)


def _inception_score_of(scorer: Scorer) -> Quantity:
    assert scorer.inception is not None
    scores, conditions = scorer.inception.scores(), _conditions("IS", len(scorer.labels), scorer.reference)
    mean, deviation = float(scores.mean()), float(scores.std())
    conditions |= {"splits": len(scores)}
    if len(scores) == 1:
        return Measured(value=mean, unit="1", conditions=conditions)
    return Measured(
        value=mean, unit="1", low=mean - deviation, high=mean + deviation,
        spread=f"one standard deviation of {len(scores)} splits", conditions=conditions,
    )  # fmt: skip


def _manifolds(scorer: Scorer) -> dict[str, Quantity]:
    """Precision and recall; precision has the interval of a share of N images, these real ones given."""
    reference, count = scorer.reference, len(scorer.labels)
    if not len(reference.manifold):
        alone = _statistics_alone(reference, "precision and recall")
        return {"precision": alone, "recall": alone}
    if min(count, len(reference.manifold)) <= NEIGHBOURS:
        few = Unavailable(reason=f"precision and recall need more than {NEIGHBOURS} images on both sides")
        return {"precision": few, "recall": few}
    assert scorer.features is not None
    precision, recall = precision_and_recall(scorer.features, reference.manifold)
    low, high = wilson(round(precision * count), count)
    more = {"neighbours": NEIGHBOURS, "manifold": len(reference.manifold)}
    under = {name: _conditions(name, count, reference) | more for name in ("precision", "recall")}
    for name, conditions in under.items():
        conditions["label"] = (
            f"{score_name(name, reference.config.extractor)}, N={count} against {len(reference.manifold)}"
        )
    return {
        "precision": Measured(
            value=precision, unit="fraction", low=low, high=high, spread="95% Wilson interval, these real images given",
            conditions=under["precision"],
        ),
        "recall": Measured(value=recall, unit="fraction", conditions=under["recall"]),
    }  # fmt: skip


def _class_agreement_of(scorer: Scorer) -> Quantity:
    reference, read, labels = scorer.reference, scorer.read, scorer.labels
    classifier = reference.classifier
    if classifier is None:
        return Unavailable(reason=reference.unclassified)
    agreed = int(np.sum(read == labels.numpy()))
    label_share, read_share = (np.bincount(of, minlength=len(classifier.bias)) / len(of) for of in (labels, read))
    low, high = wilson(agreed, len(labels))
    conditions = {
        "label": f"class agreement, N={len(labels)}",
        "samples": len(labels),
        "data": reference.conditions["data"],
        "data_fingerprint": reference.conditions["data_fingerprint"],
        "classifier": classifier.description,
        "classifier_heldout_accuracy": classifier.heldout_accuracy,
        "chance": float(label_share @ read_share),  # of the same images in random order (Cohen 1960)
        "chance_at_most": float(label_share.max()),  # of images that all show the class asked for most
    }
    return Measured(
        value=agreed / len(labels), unit="fraction", low=low, high=high, spread="95% Wilson interval",
        conditions=conditions,
    )  # fmt: skip


def _caption_score(score: Callable[[Tensor, Tensor, Gallery], Quantity]) -> Callable[[Scorer], Quantity]:
    """Of `quality_captions`, with what is true of every score against this reference."""

    def of(scorer: Scorer) -> Quantity:
        gallery, given = scorer.reference.gallery, scorer.reference.conditions
        assert gallery is not None
        assert scorer.features is not None
        common = {name: given[name] for name in ("data", "data_fingerprint", "extractor")}
        return _with_conditions(score(scorer.features, scorer.labels, gallery), common)

    return of


SCORES: Mapping[str, Callable[[Scorer], Quantity]] = {
    "kid": _kid_of,
    "fd": _fd_of,
    "class_agreement": _class_agreement_of,
    "fd_infinity": _fd_infinity_of,
    "sfd": _sfd_of,
    "inception_score": _inception_score_of,
    "retrieval": _caption_score(retrieval),
    "retrieval_rank": _caption_score(retrieval_rank),
    "memorised": _caption_score(memorised),
}
"""All of `METRICS` but precision and recall, which are computed together."""
BESIDE: Mapping[str, Mapping[str, Callable[[Scorer], Quantity]]] = {
    "memorised": {"training_distance": _caption_score(training_distance)}
}
"""Of a metric, what is told beside it and is no metric that is asked for by itself."""


def told_by(metrics: Sequence[str]) -> tuple[str, ...]:
    """The names of all that `Scorer.quantities` has of these metrics."""
    return (*metrics, *(name for metric in metrics for name in BESIDE.get(metric, {})))


def _statistics_alone(reference: Reference, score: str) -> Unavailable:
    return Unavailable(
        reason=f"{score} needs features of real images, and the reference {reference.conditions['reference']} has "
        "none for it"
    )


# What a score is called


def _measured(
    name: str,
    estimate: Estimate,
    count: int | None,
    reference: ReferenceStatistics,
    more: Mapping[str, Any] | None = None,
) -> Measured:
    conditions = {**_conditions(name, count, reference), **(more or {})}
    if not estimate.replicates:
        return Measured(value=estimate.value, unit="1", conditions=conditions)
    interval = jackknife_interval(estimate.value, estimate.replicates)
    return Measured(
        value=estimate.value,
        unit="1",
        low=interval.low,
        high=interval.high,
        spread=f"95%, sampling noise of {count} images (jackknife, {len(estimate.replicates)} groups)",
        replicates=estimate.replicates,
        conditions=conditions,
    )


def _conditions(score: str, samples: int | None, reference: ReferenceStatistics) -> dict[str, Any]:
    """Of one reference's scores; an Inception Score is against none."""
    name, against = score_name(score, reference.config.extractor), reference.conditions["reference_samples"]
    label = f"{name}, N={'unknown' if samples is None else samples}"
    if against is None and score != "IS":
        label += f" against {reference.conditions['reference']}"
    elif against != samples and score != "IS":
        label += f" against {against}"
    return {"label": label, "samples": samples, **reference.conditions}
