"""How generated images are scored: by which metrics, against which real ones, in which features, with how many."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from harness.models.extractor_config import (
    LAYERS,
    EfficientNetLite0Extractor,
    ExtractorConfig,
    InceptionV3Extractor,
    Layer,
    extractor_name,
)
from harness.records.errors import UserError, unknown_name
from harness.records.plain import IDENTITY_UNLESS_DEFAULT, NOT_IDENTITY

METRICS: dict[str, Layer] = {
    "kid": "features",
    "fd": "features",
    "class_agreement": "features",
    "fd_infinity": "features",
    "sfd": "spatial",
    "inception_score": "logits",
    "precision": "features",
    "recall": "features",
    "retrieval": "features",
    "retrieval_rank": "features",
    "memorised": "features",
}
"""The scores there are, each with the extractor's layer that it reads."""

DEFAULT_METRICS = ("kid", "fd", "class_agreement")
OF_CAPTIONS = ("retrieval", "retrieval_rank", "memorised")
"""Those that data with captions alone has, and has in the place of class agreement."""
BY_LABEL = ("class_agreement", "retrieval", "retrieval_rank")
"""Those that compare a picture with what it was asked to show."""

OF_INCEPTION = {
    "FD": "FID",
    "KID": "KID",
    "FD-infinity": "FID-infinity",
    "sFD": "sFID",
    "IS": "Inception Score",
    "precision": "precision",
    "recall": "recall",
}
"""The published names, which are of the original Inception's features alone."""


def score_name(score: str, extractor: ExtractorConfig) -> str:
    """How a score is called: `FID`, `FD-EffLite0@64`."""
    return (
        OF_INCEPTION[score] if isinstance(extractor, InceptionV3Extractor) else f"{score}-{extractor_name(extractor)}"
    )


Build = Literal["adm", "torch_fidelity", "clean_fid_legacy_tensorflow"]
"""Who made a file of statistics that does not say itself, with which Inception."""


@dataclass(frozen=True, kw_only=True, slots=True)
class QualityConfig:
    samples: int = 512
    """N: generated images a score is computed from; fewer where the data set has fewer images outside the reference."""
    fewer_for_floor: bool = field(default=True, metadata=IDENTITY_UNLESS_DEFAULT)
    """Whether N is lowered to the number of real images outside the reference, so that the floor has as many; false: N
    stays, as published protocols have it, and the floor is of what there is."""
    metrics: tuple[str, ...] = field(default=DEFAULT_METRICS, metadata=IDENTITY_UNLESS_DEFAULT)
    """Which scores: kid, fd, class_agreement, fd_infinity, sfd, inception_score, precision, recall; of data with
    captions retrieval, retrieval_rank, memorised."""
    reference: Literal["heldout", "train", "path"] = "heldout"
    """The real images that generated ones are compared with, a part of the data set or what lies at `reference_path`;
    the floor's come from the other part."""
    reference_path: Path | None = field(default=None, metadata=NOT_IDENTITY)
    """Statistics (.npz with mu and sigma), images (.npz with arr_0) or a folder of images; identified by its content.
    Of a file with both, arr_0 serves precision and recall alone, as in ADM's."""
    reference_build: Build | None = field(default=None, metadata=IDENTITY_UNLESS_DEFAULT)
    """Whose statistics they are, where the file does not say: adm, torch_fidelity, clean_fid_legacy_tensorflow."""
    reference_samples: int | None = 512
    """At most so many images of that part; null: all."""
    reference_kept: int | None = field(default=None, metadata=IDENTITY_UNLESS_DEFAULT)
    """At most so many of these have their features kept, for KID, precision and recall; null: all. FD is of all."""
    kid_subset_size: int = 256
    kid_subsets: int = 50
    """Used where `kid_full` is false: so many random subsets of so many images, or of all where there are fewer."""
    kid_full: bool = True
    """KID is the unbiased estimate over all images at once; false: the mean over random subsets, as published."""
    classifier_images: int = 5000
    """At most so many training images, balanced over the classes, fit the classifier that reads the samples."""
    extractor: ExtractorConfig = field(default_factory=EfficientNetLite0Extractor)

    def __post_init__(self) -> None:
        least = {"samples": 2, "kid_subset_size": 2, "kid_subsets": 1, "classifier_images": 2}
        least |= {name: 2 for name in ("reference_samples", "reference_kept") if getattr(self, name) is not None}
        for name, bound in least.items():
            if getattr(self, name) < bound:
                raise UserError(f"quality.{name} is a whole number from {bound}, not {getattr(self, name)}")
        _check_metrics(self.metrics, self.extractor)
        if (self.reference == "path") != (self.reference_path is not None):
            raise UserError(
                f"quality.reference={self.reference} does not fit quality.reference_path={self.reference_path}; give "
                "both, reference=path and reference_path=FILE, or neither"
            )
        if self.reference_build is not None and self.reference != "path":
            raise UserError(
                f"quality.reference_build={self.reference_build} is of a file of statistics, and quality.reference is "
                f"{self.reference}; leave it out, or give quality.reference=path"
            )

    @property
    def layers(self) -> tuple[Layer, ...]:
        """Of the extractor, those that the metrics read."""
        wanted = {"features", *(METRICS[name] for name in self.metrics)}
        return tuple(layer for layer in LAYERS[self.extractor.kind] if layer in wanted)

    @property
    def keeps_features(self) -> bool:
        """Whether a metric needs every image's features; the others need their sums alone."""
        return bool({"kid", "precision", "recall", *OF_CAPTIONS} & set(self.metrics))

    @property
    def of_captions(self) -> "QualityConfig":
        """The same for data with captions, which have no classes that a classifier could read."""
        return replace(self, metrics=(*(name for name in self.metrics if name != "class_agreement"), *OF_CAPTIONS))

    def check_data(self, kind: str, *, captions: bool) -> None:
        """UserError for a score that the data cannot have."""
        for name in OF_CAPTIONS:
            if name in self.metrics and not captions:
                raise UserError(
                    f"quality.metrics has {name}, which is of captions, and data={kind} has classes; leave it out, or "
                    "say that its texts are captions, data.captions=true"
                )


def _check_metrics(metrics: Sequence[str], extractor: ExtractorConfig) -> None:
    for name in metrics:
        if name not in METRICS:
            raise unknown_name("score in quality.metrics:", name, METRICS)
        if METRICS[name] not in LAYERS[extractor.kind]:
            raise UserError(
                f"quality.metrics has {name}, which is of {METRICS[name]}, and the extractor {extractor.kind} gives "
                f"{', '.join(LAYERS[extractor.kind])} alone; leave it out"
            )
    if len(set(metrics)) < max(1, len(metrics)):
        raise UserError(f"quality.metrics are different scores, at least one, not {list(metrics)}")
