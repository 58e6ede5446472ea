"""By what the trials of a task are judged: the scores, what they mean, and which picture shows what a network makes.

A task says it in its settings (`harness.trials.task_config`), a study writes it down beside its protocol, and a page
reads it there.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean

from harness.records.quantities import is_better

REAL_PICTURES = "real.png"
"""The artifact of a trial that shows real pictures beside what its network makes, in the same columns; only of data
with classes, since pictures of captions stand in the grid itself."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Floor:
    """What a candidate of a search has to be better than before more is spent on it."""

    control: str
    what: str
    """It as sentences call it: `a Gaussian fitted to the pixels`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Judging:
    scores: tuple[str, ...]
    """Quantities of the records (`harness.records.quantities`); the first is the one that ranks."""
    controls: Mapping[str, str] = field(default_factory=dict)
    """What needs no trained network, or is the best that can be, scored beside: its name -> what it is."""
    must_beat: tuple[str, ...] = ()
    """The controls that a trained network has to beat before its scores count."""
    floor: Floor | None = None
    """None: every candidate of a search may be promoted."""
    picture: str = ""
    """The artifact of a trial that shows what its network makes, a PNG; empty where there is none."""
    caption: str = ""
    """What such pictures of several networks have in common."""

    @property
    def first(self) -> str:
        return self.scores[0]

    def is_beaten(self, score: float | None, floor: float | None) -> bool:
        """Whether a trained network with this first score, or without one, is no better than what the floor scores; no
        network is where that is not known (None)."""
        return floor is not None and (score is None or not is_better(self.first, score, floor))

    def beaten_of(self, scores: Mapping[str, Sequence[float]], floor: float | None) -> set[str]:
        """Of several networks, each with the first scores of its trainings, those whose mean is no better than what the
        floor scores; one without a score is none better."""
        return {name for name, of in scores.items() if self.is_beaten(fmean(of) if of else None, floor)}


GENERATED_PICTURES = Judging(
    scores=("kid", "fd"),
    controls={
        "floor": "real images against other real images, at the same N; the best that can be",
        "pixel_gaussian": "a Gaussian fitted to the training images' pixels; what needs no network",
        "untrained": "the base rung before training",
        "noise": "pure noise",
    },
    must_beat=("pixel_gaussian", "noise"),
    floor=Floor(control="pixel_gaussian", what="a Gaussian fitted to the pixels"),
    picture="samples.png",
    caption="Same place, same noise, same requested class in every picture of a seed: what differs is the network.",
)
"""Of networks that pictures are sampled from; what a study means that does not say."""

CAPTIONED = replace(
    GENERATED_PICTURES,
    caption="Same place, same noise, same caption in every picture of a seed: what differs is the network. Below each "
    "row of samples stand real pictures of their captions.",
)
"""The same of data with captions."""

OPENMOJI = "openmoji"
DRAWN_TWICE = replace(
    CAPTIONED,
    controls={
        **CAPTIONED.controls,
        OPENMOJI: "OpenMoji's drawings of the captions asked for; what retrieval reads in a second style",
    },
)
"""Of emoji, of which there are other drawings by the same names."""

DECODED_PICTURES = Judging(
    scores=("psnr", "ssim", "colour_error", "reconstruction_fd"),
    controls={
        "own_decoder": "the autoencoder's own decoder",
        "linear": "a linear decoder fitted by least squares; what needs no network",
        "nearest": "of at most 2,048 training pictures that whose latent is nearest",
    },
    must_beat=("linear", "nearest"),
    floor=Floor(control="linear", what="a linear decoder"),
    picture="reconstructions.png",
    caption="The same held-out pictures: above themselves, below them what each network makes of their latents, and "
    "eight times the difference.",
)
"""Of decoders, which make pictures again."""

AUTOENCODED_PICTURES = replace(
    DECODED_PICTURES,
    controls={"linear": "the best linear autoencoder of as many numbers; what needs no network"},
    must_beat=("linear",),
    floor=Floor(control="linear", what="a linear autoencoder"),
    caption="The same held-out pictures: above themselves, below them what each network makes of them, and eight times "
    "the difference.",
)
"""Of autoencoders, which make the latents too."""
