"""The quantities of the records, as a reader who does not know them needs them: one line each; which way each goes.

A report names a quantity by its name in the records; `twin.` before it means that of the study's deployment twin. A
task with quantities of its own has them in its configuration.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from harness.records.errors import unknown_name

TWIN = "twin."
Spread = Literal["seeds", "instrument", "none"]
"""Where the spread of a quantity comes from: other trainings, repeated runs of an instrument, nowhere."""
Scale = Literal["ratio", "fraction", "kernel_distance", "few"]
"""How differences of it are judged in a search: see `harness.search.pareto`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class KnownQuantity:
    title: str
    explanation: str
    spread: Spread = "none"
    more_is_better: bool = False
    is_learnt: bool = False
    """Whether only a trained network has it, so that a seed changes it."""
    scale: Scale = "ratio"
    is_bar: bool = True
    """Whether a network whose value is no better than that of noise is worth no comparison."""
    is_relative: bool = True
    """Whether a change in per cent means anything: decibels are logarithms already."""


def score(
    title: str,
    explanation: str,
    *,
    more_is_better: bool = False,
    scale: Scale = "ratio",
    is_bar: bool = True,
    is_relative: bool = True,
) -> KnownQuantity:
    """What a trained network is judged by; the last sentence of `explanation` says which way it goes."""
    return KnownQuantity(
        title=title,
        explanation=explanation,
        spread="seeds",
        is_learnt=True,
        more_is_better=more_is_better,
        scale=scale,
        is_bar=is_bar,
        is_relative=is_relative,
    )


def _count(title: str, explanation: str, scale: Scale = "ratio") -> KnownQuantity:
    return KnownQuantity(title=title, explanation=explanation, scale=scale)


def _time(title: str, explanation: str) -> KnownQuantity:
    return KnownQuantity(title=title, explanation=explanation, spread="instrument")


QUANTITIES: dict[str, KnownQuantity] = {
    "kid": score(
        "KID",
        "Kernel distance of generated to real images. Less is better. Unbiased at any number of images, so it ranks.",
        scale="kernel_distance",
    ),
    "fd": score(
        "FD",
        "Fréchet distance of generated to real images. Less is better. Biased at small N, so read it beside the floor.",
    ),
    "class_agreement": score(
        "Class agreement",
        "Share of the samples in which a classifier, fitted to real images, sees the requested class. More is better.",
        more_is_better=True,
        scale="fraction",
    ),
    "fd_infinity": score(
        "FD, infinite N",
        "Fréchet distance extrapolated to infinitely many generated images, by a line in 1/N. Less is better.",
    ),
    "sfd": score("sFID", "Fréchet distance in Inception's spatial features. Less is better."),
    "inception_score": score(
        "Inception Score",
        "How sure a classifier of ImageNet is of each image and how many classes it sees in all. More is better.",
        more_is_better=True,
    ),
    "precision": score(
        "Precision",
        "Share of generated images that lie among the real ones. More is better.",
        more_is_better=True,
        scale="fraction",
    ),
    "recall": score(
        "Recall",
        "Share of real images that lie among the generated ones. More is better.",
        more_is_better=True,
        scale="fraction",
    ),
    "retrieval": score(
        "Retrieval",
        "Share of the samples whose nearest real picture, of all captions', has the caption asked for. More is better.",
        more_is_better=True,
        scale="fraction",
        is_bar=False,
    ),
    "retrieval_rank": score(
        "Retrieval rank",
        "Median place of the caption asked for, among all captions by their nearest real pictures. Less is better.",
        is_bar=False,
    ),
    "memorised": score(
        "Memorised",
        "Share of the samples that are as near to a training picture as the nearest 5% of held-out real pictures are: "
        "all of copies, 5% of new real pictures, none of nonsense. Less is better.",
        scale="fraction",
        is_bar=False,
    ),
    "training_distance": KnownQuantity(
        title="Distance to training",
        explanation="The samples' median distance to the nearest training picture, in features: 0 of copies, at most "
        "2. Its conditions have that of held-out pictures. Neither more nor less is better.",
        spread="seeds",
        is_learnt=True,
        is_bar=False,
    ),
    "validation_loss": score("Validation loss", "Of the last validation, on held-out images. Less is better."),
    "train_seconds": KnownQuantity(
        title="Training time", explanation="Seconds of training on the machine that trained.", is_learnt=True
    ),
    "params": _count("Parameters", "Weights of the network."),
    "macs": _count("Multiply-adds", "Of one forward pass of one image, in convolutions, linear layers and attention."),
    "macs_without_attention": _count(
        "Multiply-adds, no attention", "The same without the two matrix products inside attention."
    ),
    "flops_fvcore": _count(
        "FLOPs by fvcore",
        "fvcore's own total, where a multiply-add is one, norms are counted and attention's matrix products are not.",
    ),
    "coreml_bytes": _count("Core ML package", "Size of the exported package."),
    "preflight": _count("Preflight", "Whether the network can be exported, by its operators alone.", "few"),
    "latency_cpu": _time("Latency on this CPU", "One forward pass of one image on this machine's CPU."),
    "latency_onnx": _time("Latency, ONNX Runtime", "One forward pass of one image under ONNX Runtime on this CPU."),
    "latency_mac": _time("Latency on Mac", "One forward pass of one image on a Mac, by Core ML."),
    "latency_iphone": _time(
        "Latency on iPhone",
        "One forward pass on an iPhone by Core ML, which may use the Neural Engine. Measured where a phone was there, "
        "and marked where it is not called the engine's; else predicted from the network's operators, with an "
        "interval, and marked so.",
    ),
    "latency_predicted": _time(
        "Predicted latency", "One forward pass on an iPhone's Neural Engine, predicted from the network's operators."
    ),
}


def register(quantities: Mapping[str, KnownQuantity]) -> None:
    """Make a task's own quantities known. ValueError for a name that means something else already."""
    for name, quantity in quantities.items():
        if QUANTITIES.setdefault(name, quantity) != quantity:
            raise ValueError(f"there is a quantity '{name}' already, {QUANTITIES[name].title}")


def known_quantity(name: str) -> KnownQuantity:
    """What is known of the quantity; UserError lists the names that exist."""
    bare = name.removeprefix(TWIN)
    if bare not in QUANTITIES:
        raise unknown_name("quantity", name, [*QUANTITIES, *(f"{TWIN}{each}" for each in QUANTITIES)])
    return QUANTITIES[bare]


def title_of(name: str) -> str:
    """A heading for a quantity, which may have none: `Parameters`."""
    quantity = QUANTITIES.get(name.removeprefix(TWIN))
    return name if quantity is None else quantity.title


def more_is_better(name: str) -> bool:
    """Of a quantity that is not known here less is better."""
    quantity = QUANTITIES.get(name.removeprefix(TWIN))
    return quantity is not None and quantity.more_is_better


def is_better(name: str, one: float, other: float) -> bool:
    """Whether `one` value of the quantity is better than the `other`."""
    return one > other if more_is_better(name) else one < other


def better_side(name: str) -> str:
    """Where of a value the better ones lie: `below`."""
    return "above" if more_is_better(name) else "below"


def floor_text(name: str, floor: float) -> str:
    """Which values of the quantity are better: `below a KID of 3.95`."""
    return f"{better_side(name)} a {title_of(name)} of {floor:.4g}"


def is_relative(name: str) -> bool:
    """Whether a change of the quantity may stand in per cent."""
    quantity = QUANTITIES.get(name.removeprefix(TWIN))
    return quantity is None or quantity.is_relative


def is_learnt(name: str) -> bool:
    """Whether only a trained network has the quantity."""
    return name in QUANTITIES and QUANTITIES[name].is_learnt


def scale_of(name: str) -> Scale:
    quantity = QUANTITIES.get(name.removeprefix(TWIN))
    return "ratio" if quantity is None else quantity.scale
