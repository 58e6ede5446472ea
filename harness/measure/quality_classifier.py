"""A classifier that has only seen real images reads the generated ones: is it the class that was asked for?

Logistic regression, on the pixels where an image has few, else on the extractor's features; fitted on training
images, its own accuracy measured on held-out ones, since no agreement means anything above it.
"""

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from harness.data.images import ImageData, Images, balanced_choice, stack
from harness.measure.quality_config import QualityConfig
from harness.models.extractor_config import extractor_identity
from harness.models.feature_extractor import FeatureExtractor
from harness.processes.locks import waited_for
from harness.records.plain import fingerprint
from harness.records.store import reading_cache, write_atomic

PIXEL_VALUES = 1024  # an image with at most so many values (32x32 gray) is read by its pixels
CHUNK = 512


@dataclass(frozen=True, slots=True)
class Classifier:
    """argmax of W x + b over the classes."""

    weight: NDArray[np.float64]  # (K, D)
    bias: NDArray[np.float64]  # (K,)
    heldout_accuracy: float
    on_pixels: bool

    def predict(self, inputs: NDArray[np.float64]) -> NDArray[np.int64]:
        """(N, D) pixels or features -> (N,) class numbers."""
        scores: NDArray[np.float64] = inputs @ self.weight.T + self.bias
        best: NDArray[np.int64] = scores.argmax(axis=1)
        return best

    @property
    def description(self) -> str:
        return f"logistic regression on {'pixels' if self.on_pixels else 'extractor features'} of real training images"


def load_classifier(
    config: QualityConfig, data: ImageData, extractor: FeatureExtractor, cache: Path
) -> Classifier | None:
    """The classifier for this data set, from `cache` or fitted; None where there is one class only, or captions."""
    if len(data.class_names) < 2 or data.captions:
        return None
    on_pixels = data.channels * data.size**2 <= PIXEL_VALUES
    what = [data.identity, config.classifier_images, None if on_pixels else extractor_identity(config.extractor)]
    path = cache / "classifiers" / f"{fingerprint(what, schema='quality-classifier-1')}.npz"
    if not path.exists():
        with waited_for(path.with_suffix(".lock"), "the classifier of the samples"):
            if not path.exists():
                buffer = io.BytesIO()
                np.savez(buffer, allow_pickle=False, **_fit(config, data, None if on_pixels else extractor))
                write_atomic(path, buffer.getvalue())
    with reading_cache(path), np.load(path) as stored:
        return Classifier(stored["weight"], stored["bias"], float(stored["accuracy"]), on_pixels)


def pixel_inputs(images: Tensor) -> NDArray[np.float64]:
    """uint8 (N, C, H, W) -> (N, C*H*W) in [0, 1]."""
    return images.flatten(1).numpy().astype(np.float64) / 255


def _fit(config: QualityConfig, data: ImageData, extractor: FeatureExtractor | None) -> dict[str, NDArray[np.float64]]:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    inputs, labels = _inputs(data.train, config.classifier_images, extractor)
    # pixels share one scale already; features are standardised
    scaler = StandardScaler(with_mean=extractor is not None, with_std=extractor is not None)
    model = make_pipeline(scaler, LogisticRegression(C=1.0 if extractor is None else 0.01, max_iter=1000))
    model.fit(inputs, labels)
    regression, scale = model[-1], scaler.scale_ if scaler.scale_ is not None else 1.0
    weight, bias = regression.coef_ / scale, regression.intercept_
    if scaler.with_mean:
        bias = bias - weight @ scaler.mean_
    if len(weight) == 1:  # two classes: scikit-learn keeps only the second one's
        weight, bias = np.concatenate([-weight, weight]), np.concatenate([-bias, bias])
    held_inputs, held_labels = _inputs(data.heldout, config.classifier_images, extractor)
    accuracy = np.mean(np.argmax(held_inputs @ weight.T + bias, axis=1) == held_labels)
    return {"weight": weight, "bias": bias, "accuracy": np.asarray(accuracy)}


def _inputs(
    images: Images, count: int, extractor: FeatureExtractor | None
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    chosen = balanced_choice(images.labels, count)
    pieces = [stack(images, chosen[start : start + CHUNK]) for start in range(0, len(chosen), CHUNK)]
    if extractor is None:
        rows = [pixel_inputs(piece) for piece in pieces]
    else:
        rows = [extractor.features(piece).double().numpy() for piece in pieces]
    return np.concatenate(rows), images.labels[chosen]
