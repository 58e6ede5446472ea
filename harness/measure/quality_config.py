"""How generated images are scored: against which real ones, in which features, with how many."""

from dataclasses import dataclass, field
from typing import Literal

from harness.models.extractor_config import EfficientNetLite0Extractor, ExtractorConfig
from harness.records.errors import UserError


@dataclass(frozen=True, kw_only=True, slots=True)
class QualityConfig:
    samples: int = 512
    """N: generated images a score is computed from; fewer where the data set has fewer images outside the reference."""
    reference: Literal["heldout", "train"] = "heldout"
    """The real images that generated ones are compared with; the floor's come from the other part."""
    reference_samples: int | None = 512
    """At most so many images of that part; null: all."""
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
        if self.reference_samples is not None:
            least["reference_samples"] = 2
        for name, bound in least.items():
            if getattr(self, name) < bound:
                raise UserError(f"quality.{name} is a whole number from {bound}, not {getattr(self, name)}")
