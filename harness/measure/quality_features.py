"""What the scores of some images are functions of: their features, and the classes that the classifier reads in them.

`Scorer` takes these in the order of the images' numbers, so it does not matter who extracted them, nor in which parts:
its arithmetic is the same. An extractor works in batches of BATCH images, and another batch has other roundings; images
that come in parts of multiples of BATCH have the very features of all images at once.

n images, D values of a layer.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from harness.measure.quality_classifier import pixel_inputs
from harness.measure.quality_reference import Reference
from harness.models.extractor_config import Layer

READ = "read"
"""Of `Features.arrays`, beside the layers' names."""


@dataclass(frozen=True, slots=True, eq=False)
class Features:
    layers: Mapping[Layer, Tensor]
    """Layer -> (n, D) float32, on the CPU."""
    read: NDArray[np.int64] | None
    """(n,) the classes that the classifier reads; None where no metric asks, or there is no classifier."""

    def __len__(self) -> int:
        return len(self.layers["features"])

    def arrays(self) -> dict[str, NDArray[Any]]:
        """All there is, as `of_arrays` reads it again: what one process hands to another."""
        arrays: dict[str, NDArray[Any]] = {name: rows.numpy() for name, rows in self.layers.items()}
        return arrays if self.read is None else {**arrays, READ: self.read}

    @classmethod
    def of_arrays(cls, arrays: Mapping[str, NDArray[Any]], reference: Reference) -> "Features":
        """Those of `reference.extractor`; KeyError where the arrays lack one of its layers."""
        layers = {name: torch.from_numpy(arrays[name]) for name in reference.extractor.names}
        return cls(layers, arrays[READ] if reads_classes(reference) else None)


def reads_classes(reference: Reference) -> bool:
    return reference.classifier is not None and "class_agreement" in reference.config.metrics


def extract(images: Tensor, reference: Reference, what: str = "") -> Features:
    """Of uint8 images (n, C, H, W). With `what` they are called, standard error says how far a long extraction is.

    ValueError for images of another shape than the reference's.
    """
    shape = reference.shape
    if images.dtype != torch.uint8 or images.dim() != 4 or (shape is not None and tuple(images.shape[1:]) != shape):
        wanted = "(N, C, H, W)" if shape is None else f"(N, {', '.join(map(str, shape))})"
        raise ValueError(f"quality needs uint8 images {wanted}, not {images.dtype} {tuple(images.shape)}")
    images = images.cpu()
    layers, read = reference.extractor.layers(images, what), None
    if reads_classes(reference):
        classifier = reference.classifier
        assert classifier is not None
        inputs = pixel_inputs(images) if classifier.on_pixels else layers["features"].double().numpy()
        read = classifier.predict(inputs)
    return Features(layers, read)
