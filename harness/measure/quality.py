"""How good generated images are: kernel distance, Frechet distance, and whether they show the class asked for.

    KID     unbiased squared maximum mean discrepancy with the kernel (x.y / D + 1)^3 (Binkowski et al. 2018,
            arXiv 1801.01401): its expectation does not depend on N, so it ranks at any N; may be below 0 near its floor
    FD      |mu_1 - mu_2|^2 + tr(S_1 + S_2 - 2 (S_1 S_2)^(1/2)) (Heusel et al. 2017, arXiv 1706.08500): biased upwards
            by about 1/N, so two of them compare at equal N only, and beside the floor of real images at that N

Both are torch-fidelity's own functions; FID is FD in the original Inception's features, and nothing else.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch_fidelity.metric_fid import KEY_METRIC_FID, fid_statistics_to_metric
from torch_fidelity.metric_kid import KEY_METRIC_KID_MEAN, KEY_METRIC_KID_STD, kid_features_to_metric

from harness.data.images import ImageData
from harness.measure.quality_classifier import pixel_inputs
from harness.measure.quality_config import QualityConfig
from harness.measure.quality_reference import Reference, statistics_of
from harness.models.extractor_config import InceptionV3Extractor, extractor_name
from harness.records.quantity import Measured, Quantity, Unavailable

KID_SEED = 2020  # which random subsets; torch-fidelity's own default


def samples_for(config: QualityConfig, data: ImageData) -> int:
    """N for this data set: `samples`, or as many real images as there are for a floor at the same N, if fewer."""
    other = data.train if config.reference == "heldout" else data.heldout
    return min(config.samples, len(other))


def quality(
    images: Tensor, labels: Tensor, reference: Reference, under: Mapping[str, Any] | None = None
) -> dict[str, Quantity]:
    """Score uint8 images (N, C, H, W) that were asked to show the classes `labels` (N,).

    Returns `kid`, `fd` and `class_agreement`, each with its label, N, reference and extractor as conditions; `under`
    are further ones, of how the images were made.
    """
    if images.dtype != torch.uint8 or tuple(images.shape[1:]) != reference.shape or len(images) != len(labels):
        raise ValueError(
            f"quality needs uint8 images (N, {', '.join(map(str, reference.shape))}) and N labels, "
            f"not {images.dtype} {tuple(images.shape)} and {len(labels)}"
        )
    images, labels = images.cpu(), labels.cpu()
    features = reference.extractor.features(images).double()
    found: dict[str, Quantity] = {
        **{name: distance(name, features, reference) for name in DISTANCES},
        "class_agreement": _class_agreement(images, features, labels, reference),
    }
    return {name: _with_conditions(quantity, under or {}) for name, quantity in found.items()}


def distance(name: str, features: Tensor, reference: Reference) -> Measured:
    """`kid` or `fd` of images whose features these are."""
    return DISTANCES[name](features, reference)


def _with_conditions(quantity: Quantity, more: Mapping[str, Any]) -> Quantity:
    if not isinstance(quantity, Measured):
        return quantity
    return replace(quantity, conditions={**quantity.conditions, **more})


def _fd(features: Tensor, reference: Reference) -> Measured:
    metric = fid_statistics_to_metric(statistics_of(features), reference.statistics, verbose=False)
    return Measured(value=metric[KEY_METRIC_FID], unit="1", conditions=_conditions("FD", len(features), reference))


def _kid(features: Tensor, reference: Reference) -> Measured:
    config = reference.config
    most = min(len(features), len(reference.features))
    size = min(config.kid_subset_size, max(2, most // 2))  # subsets of all images would be one subset, without spread
    over_subsets = _kid_over(features, reference, subsets=config.kid_subsets, size=size)
    mean, deviation = over_subsets[KEY_METRIC_KID_MEAN], over_subsets[KEY_METRIC_KID_STD]
    spread = f"standard deviation over {config.kid_subsets} random subsets of {size}"
    if config.kid_full:
        value = _kid_over(features, reference, subsets=1, size=most)[KEY_METRIC_KID_MEAN]
        estimator = f"unbiased, over {most} images at once"
    else:
        value, estimator = mean, f"unbiased, mean over {config.kid_subsets} random subsets of {size}"
    conditions = {**_conditions("KID", len(features), reference), "estimator": estimator, "kernel": "(x.y/D + 1)^3"}
    return Measured(
        value=value, unit="1", low=value - deviation, high=value + deviation, spread=spread, conditions=conditions
    )


DISTANCES: Mapping[str, Callable[[Tensor, Reference], Measured]] = {"kid": _kid, "fd": _fd}


def _kid_over(features: Tensor, reference: Reference, *, subsets: int, size: int) -> dict[str, float]:
    metric: dict[str, float] = kid_features_to_metric(
        features, reference.features, kid_subsets=subsets, kid_subset_size=size, rng_seed=KID_SEED, verbose=False
    )
    return metric


def _class_agreement(images: Tensor, features: Tensor, labels: Tensor, reference: Reference) -> Quantity:
    classifier = reference.classifier
    if classifier is None:
        return Unavailable(reason="the data set has one class only: there is nothing to tell apart")
    inputs = pixel_inputs(images) if classifier.on_pixels else features.numpy()
    agreed = int(np.sum(classifier.predict(inputs) == labels.numpy()))
    low, high = wilson_interval(agreed, len(labels))
    conditions = {
        "label": f"class agreement, N={len(labels)}",
        "samples": len(labels),
        "data": reference.conditions["data"],
        "data_fingerprint": reference.conditions["data_fingerprint"],
        "classifier": classifier.description,
        "classifier_heldout_accuracy": classifier.heldout_accuracy,
        "chance": 1 / len(classifier.bias),
    }
    return Measured(
        value=agreed / len(labels), unit="fraction", low=low, high=high, spread="95% Wilson interval",
        conditions=conditions,
    )  # fmt: skip


def wilson_interval(successes: int, trials: int, z: float = 1.96) -> tuple[float, float]:
    """A binomial proportion's interval (Wilson 1927): within [0, 1], sensible at 0 and at all."""
    share, extra = successes / trials, z**2 / trials
    centre = share + extra / 2
    margin = z * math.sqrt(share * (1 - share) / trials + extra / (4 * trials))
    return (centre - margin) / (1 + extra), (centre + margin) / (1 + extra)


def _conditions(distance: str, samples: int, reference: Reference) -> dict[str, Any]:
    extractor = reference.config.extractor
    if isinstance(extractor, InceptionV3Extractor):
        name = {"FD": "FID", "KID": "KID"}[distance]
    else:
        name = f"{distance}-{extractor_name(extractor)}"
    return {"label": f"{name}, N={samples}", "samples": samples, **reference.conditions}
