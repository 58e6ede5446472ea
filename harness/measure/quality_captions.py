"""Does a picture show what its caption asks for, and is it more than a training picture again?

    retrieval       share of the samples whose nearest real picture, of all captions', has the caption asked for
    retrieval_rank  median place of the caption asked for, among all captions by their nearest pictures; 1 is best
    memorised       share of the samples that are as near to a training picture as the nearest 5% of held-out real
                    pictures are: 0.05 of what is as new as these, 1 of copies, 0 of nonsense, which is near to nothing
    training_distance   beside `memorised`: the samples' median distance to the nearest training picture

Near is by the angle between features, d(x, y) = |x/|x| - y/|y||: of OpenMoji's drawings it tells more captions than the
distance of bare features, or of pixels (docs/evidence/scores.md). What cannot tell a second drawing of a thing cannot
tell a sample of it either: the control `openmoji`, these drawings, stands beside the samples.

N samples, n real pictures, C captions, D features.
"""

import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from harness.data.images import ImageData, Images, stack
from harness.measure.statistics import wilson
from harness.measure.statistics_ranks import median_interval
from harness.models.extractor_config import ExtractorConfig, extractor_identity
from harness.models.feature_extractor import FeatureExtractor
from harness.processes.locks import waited_for
from harness.records.plain import fingerprint
from harness.records.quantity import Measured, Quantity, Unavailable
from harness.records.store import reading_cache, write_atomic

MOST = 20_000  # pictures of each part, always the same ones
CHUNK = 512  # pictures read, or samples compared, at a time
NEAREST = 0.05
"""Of the held-out pictures, by their distance to training: what is as near as these is too near to be new."""
A_COPY = 2e-3
"""What is nearer differs by rounding: the cosine of two float32 vectors is off by some eps, 2 - 2 cos by about 1e-6."""


@dataclass(frozen=True, slots=True, eq=False)
class Gallery:
    """Real pictures of the data's captions: features as unit vectors, float32, and the number of each one's caption."""

    train: Tensor  # (n, D)
    train_captions: Tensor  # (n,)
    heldout: Tensor  # (n, D)
    heldout_captions: Tensor  # (n,)

    @property
    def captions(self) -> Tensor:
        """(C,) that have a picture here, sorted."""
        captions: Tensor = torch.unique(torch.cat([self.train_captions, self.heldout_captions]))
        return captions


def load_gallery(config: ExtractorConfig, data: ImageData, extractor: FeatureExtractor, cache: Path) -> Gallery:
    """Of all pictures, or MOST of each part; from `cache` or extracted."""
    key = fingerprint([data.identity, MOST, extractor_identity(config)], schema="quality-gallery-1")
    path = cache / "references" / f"gallery-{key}.npz"
    if not path.exists():
        with waited_for(path.with_suffix(".lock"), "features of the captions' pictures"):
            if not path.exists():
                buffer = io.BytesIO()
                np.savez(buffer, allow_pickle=False, **_extracted(data.train, "train", extractor),
                         **_extracted(data.heldout, "heldout", extractor))  # fmt: skip
                write_atomic(path, buffer.getvalue())
    with reading_cache(path), np.load(path) as stored:
        names = ("train", "train_captions", "heldout", "heldout_captions")
        return Gallery(*(torch.from_numpy(stored[name]) for name in names))


def _extracted(part: Images, name: str, extractor: FeatureExtractor) -> dict[str, NDArray[np.generic]]:
    chosen = np.sort(np.random.RandomState(0).permutation(len(part))[:MOST])
    pieces = [stack(part, chosen[start : start + CHUNK]) for start in range(0, len(chosen), CHUNK)]
    features = torch.cat([unit(extractor.features(piece)) for piece in pieces])
    return {name: features.numpy(), f"{name}_captions": part.labels[chosen]}


def unit(features: Tensor) -> Tensor:
    """(N, D) as unit vectors, float32."""
    return torch.nn.functional.normalize(features.float(), dim=1)


def ranks(features: Tensor, wanted: Tensor, gallery: Gallery) -> tuple[Tensor, Tensor]:
    """(N,) the place of each sample's `wanted` (N,) caption, from 1, and (N,) whether the gallery has that caption;
    a place without it means nothing. Captions whose nearest pictures are equally near share the better place."""
    captions, known = gallery.captions, torch.cat([gallery.train, gallery.heldout])
    column = torch.searchsorted(captions, torch.cat([gallery.train_captions, gallery.heldout_captions]))
    own = torch.searchsorted(captions, wanted).clamp(max=len(captions) - 1)
    places = []
    for rows, place in zip(torch.split(unit(features), CHUNK), torch.split(own, CHUNK), strict=True):
        near = rows @ known.T  # (N, n), the cosine
        best = near.new_full((len(rows), len(captions)), -2.0)
        best.scatter_reduce_(1, column.expand(len(rows), -1), near, "amax")  # (N, C)
        places.append((best > best.gather(1, place[:, None])).sum(1) + 1)
    return torch.cat(places), captions[own] == wanted


def nearest(features: Tensor, real: Tensor) -> Tensor:
    """(N,) float64, the distance of each to the nearest of `real`, unit vectors (n, D)."""
    rows = torch.split(unit(features), CHUNK)
    return torch.cat([(2 - 2 * (part @ real.T).amax(1).double()).clamp(min=0).sqrt() for part in rows])


def retrieval(features: Tensor, wanted: Tensor, gallery: Gallery) -> Quantity:
    """Of (N, D) features and the captions (N,)."""
    places, has = ranks(features, wanted, gallery)
    if not bool(has.any()):
        return Unavailable(reason=NOT_HERE)
    count, captions = int(has.sum()), len(gallery.captions)
    hits = int((places[has] == 1).sum())
    low, high = wilson(hits, count)
    conditions = {"label": _label("retrieval", count, captions), "samples": count, "captions": captions}
    return Measured(
        value=hits / count, unit="fraction", low=low, high=high, spread="95% Wilson interval",
        conditions={**conditions, "chance": 1 / captions},
    )  # fmt: skip


def retrieval_rank(features: Tensor, wanted: Tensor, gallery: Gallery) -> Quantity:
    places, has = ranks(features, wanted, gallery)
    if not bool(has.any()):
        return Unavailable(reason=NOT_HERE)
    count, captions = int(has.sum()), len(gallery.captions)
    conditions = {"label": _label("rank", count, captions), "samples": count, "captions": captions}
    return _median(places[has].double(), {**conditions, "chance": (captions + 1) / 2})


def memorised(features: Tensor, _asked: Tensor, gallery: Gallery) -> Quantity:
    """The held-out pictures are taken as they are: the interval is of the samples alone."""
    of_heldout, count = nearest(gallery.heldout, gallery.train), len(features)
    bound = float(of_heldout.quantile(NEAREST, interpolation="lower"))
    if bound < A_COPY:
        return Unavailable(reason=f"{NEAREST:.0%} of the held-out pictures are training pictures too: none is new")
    near = int((nearest(features, gallery.train) <= bound).sum())
    low, high = wilson(near, count)
    conditions = {
        "label": f"memorised, N={count} against {len(gallery.heldout)} held out",
        "samples": count,
        "reference_samples": len(gallery.heldout),
        "training_pictures": len(gallery.train),
        "distance": bound,
        "heldout_share": float((of_heldout <= bound).double().mean()),  # more than NEAREST where few are
    }
    return Measured(
        value=near / count, unit="fraction", low=low, high=high, spread="95% Wilson interval", conditions=conditions
    )


def training_distance(features: Tensor, _asked: Tensor, gallery: Gallery) -> Quantity:
    """From 0, a copy, to 2. Of held-out pictures, which are as new as a picture can be, the median is a condition."""
    count = len(features)
    conditions = {
        "label": f"distance to training, N={count}",
        "samples": count,
        "training_pictures": len(gallery.train),
        "heldout_distance": float(nearest(gallery.heldout, gallery.train).quantile(0.5)),
    }
    return _median(nearest(features, gallery.train), conditions)


NOT_HERE = "no caption asked for has a real picture here to be told by"


def _label(name: str, count: int, captions: int) -> str:
    return f"{name}, N={count} of {captions:,} captions"


def _median(values: Tensor, conditions: Mapping[str, Any]) -> Measured:
    """Of (N,) values; the interval lies between two of them, since a jackknife's is too narrow for a median."""
    value, interval = float(values.quantile(0.5)), median_interval(values.numpy())
    if interval is None:
        return Measured(value=value, unit="1", conditions=conditions)
    spread = f"95%, sampling noise of {len(values)} images (order statistics)"
    return Measured(value=value, unit="1", low=interval[0], high=interval[1], spread=spread, conditions=conditions)
