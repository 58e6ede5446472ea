"""The quantities of the records, as a reader who does not know them needs them: one line each.

A report names a quantity by its name in the records; `twin.` before it means that of the study's deployment twin.
"""

from dataclasses import dataclass
from typing import Literal

from harness.records.errors import unknown_name

TWIN = "twin."
Spread = Literal["seeds", "instrument", "none"]
"""Where the spread of a quantity comes from: other trainings, repeated runs of an instrument, nowhere."""


@dataclass(frozen=True, kw_only=True, slots=True)
class KnownQuantity:
    title: str
    explanation: str
    spread: Spread = "none"


def _score(title: str, explanation: str) -> KnownQuantity:
    return KnownQuantity(title=title, explanation=explanation, spread="seeds")


def _count(title: str, explanation: str) -> KnownQuantity:
    return KnownQuantity(title=title, explanation=explanation)


def _time(title: str, explanation: str) -> KnownQuantity:
    return KnownQuantity(title=title, explanation=explanation, spread="instrument")


QUANTITIES = {
    "kid": _score(
        "KID",
        "Kernel distance of generated to real images. Less is better. Unbiased at any number of images, so it ranks.",
    ),
    "fd": _score(
        "FD",
        "Fréchet distance of generated to real images. Less is better. Biased at small N, so read it beside the floor.",
    ),
    "class_agreement": _score(
        "Class agreement",
        "Share of the samples in which a classifier, fitted to real images, sees the requested class. More is better.",
    ),
    "fd_infinity": _score(
        "FD, infinite N",
        "Fréchet distance extrapolated to infinitely many generated images, by a line in 1/N. Less is better.",
    ),
    "sfd": _score("sFID", "Fréchet distance in Inception's spatial features. Less is better."),
    "inception_score": _score(
        "Inception Score",
        "How sure a classifier of ImageNet is of each image and how many classes it sees in all. More is better.",
    ),
    "precision": _score("Precision", "Share of generated images that lie among the real ones. More is better."),
    "recall": _score("Recall", "Share of real images that lie among the generated ones. More is better."),
    "validation_loss": _score("Validation loss", "Of the last validation, on held-out images. Less is better."),
    "train_seconds": _count("Training time", "Seconds of training on the machine that trained."),
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
    "preflight": _count("Preflight", "Whether the network can be exported, by its operators alone."),
    "latency_cpu": _time("Latency on this CPU", "One forward pass of one image on this machine's CPU."),
    "latency_onnx": _time("Latency, ONNX Runtime", "One forward pass of one image under ONNX Runtime on this CPU."),
    "latency_mac": _time("Latency on Mac", "One forward pass of one image on a Mac, by Core ML."),
    "latency_iphone": _time(
        "Latency on iPhone",
        "One forward pass on an iPhone's Neural Engine. Measured where a phone was there; else predicted from the "
        "network's operators, with an interval, and marked so.",
    ),
    "latency_predicted": _time(
        "Predicted latency", "One forward pass on an iPhone's Neural Engine, predicted from the network's operators."
    ),
}


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
