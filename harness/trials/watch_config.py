"""What is looked at while a training runs: the settings. No torch.

None of them changes the training or its scores, so none is part of a trial's key.
"""

from dataclasses import dataclass, replace

from harness.measure.quality_config import QualityConfig
from harness.records.errors import UserError

TRAINED_FORWARDS = 3
"""A training step of one picture computes as much as so many forward passes: one, and one back for two."""


@dataclass(frozen=True, kw_only=True, slots=True)
class WatchConfig:
    grid_every: int | None = None
    """Steps between grids of samples of the averaged weights, always from the same noise for the same classes. null:
    none."""
    pictures: int = 64
    """How many a grid shows, at most."""
    score_every: int | None = None
    """Steps between scores of the averaged weights, by the study's protocol but with fewer samples. null: none."""
    samples: int = 256
    """That a score is computed from."""
    metrics: tuple[str, ...] = ("kid", "fd")
    """Which scores, of those that quality.metrics may name. FD of so few samples is mostly bias; KID has none."""
    at_most: float = 0.1
    """How much sampling may add to the training's forward and backward passes, as a share of them; more is refused.
    What decoding and scoring take is not in it; the seconds of all of it are recorded."""

    def __post_init__(self) -> None:
        for name, least in (("grid_every", 1), ("pictures", 1), ("score_every", 1), ("samples", 2)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise UserError(f"watch.{name} is a whole number from {least}, not {value}")
        if not 0 < self.at_most < float("inf"):
            raise UserError(f"watch.at_most must be a number above 0, not {self.at_most}")

    @property
    def is_on(self) -> bool:
        return self.grid_every is not None or self.score_every is not None

    def shows_at(self, step: int) -> bool:
        return _is_due(self.grid_every, step)

    def scores_at(self, step: int) -> bool:
        return _is_due(self.score_every, step)

    def scored_by(self, quality: QualityConfig) -> QualityConfig:
        """The study's scoring with fewer samples."""
        return replace(quality, samples=self.samples, metrics=self.metrics)

    def referred_by(self, quality: QualityConfig) -> QualityConfig:
        """What the real images' features must serve: the study's scores, and those that are watched alone."""
        alone = tuple(name for name in self.metrics if name not in quality.metrics)
        return replace(quality, metrics=(*quality.metrics, *alone))

    def share(self, batch_size: int, evaluations: int) -> float:
        """Of a training's passes, what sampling adds, at most; a network is evaluated so often for a sample."""
        kinds = ((self.pictures, self.grid_every), (self.samples, self.score_every))
        samples_a_step = sum(samples / every for samples, every in kinds if every is not None)
        return samples_a_step * evaluations / (TRAINED_FORWARDS * batch_size)

    def check(self, quality: QualityConfig, batch_size: int, evaluations: int) -> None:
        """UserError for metrics that there are not, and where it would take too much of the training's time."""
        try:
            self.scored_by(quality)
        except UserError as error:
            raise UserError(f"watch.metrics: {error}") from error
        share = self.share(batch_size, evaluations)
        if share > self.at_most:
            raise UserError(
                f"watching would add {share:.0%} to the training's passes, since a sample takes {evaluations} "
                f"evaluations, and watch.at_most={self.at_most:g} allows {self.at_most:.0%}; watch less often, sample "
                "fewer, or raise watch.at_most"
            )


def _is_due(every: int | None, step: int) -> bool:
    return every is not None and step > 0 and step % every == 0
