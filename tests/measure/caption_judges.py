"""Which distance tells the captions of a second drawing: OpenMoji's of every emoji, among Noto's, by what is near.

`python tests/measure/caption_judges.py` prints the table of docs/evidence/scores.md; it needs both fonts.
"""

import numpy as np
import torch
from torch import Tensor

from harness.data.config import EmojiConfig
from harness.data.dataset import load_dataset
from harness.data.sources.emoji import second_drawings
from harness.models.extractor_config import EfficientNetLite0Extractor
from harness.models.feature_extractor import load_extractor


def ranks(drawn: Tensor, real: Tensor, captions: Tensor) -> Tensor:
    """(N,) the place of each drawing's caption: real (C, D), drawn (N, D), captions (N,)."""
    away = torch.cdist(drawn.double(), real.double())
    return (away < away.gather(1, captions[:, None])).sum(1) + 1


def unit(features: Tensor) -> Tensor:
    return torch.nn.functional.normalize(features, dim=1)


def standardised(features: Tensor, like: Tensor) -> Tensor:
    return (features - like.mean(0)) / (like.std(0) + 1e-6)


if __name__ == "__main__":
    extractor = load_extractor(EfficientNetLite0Extractor(), "cpu", ("features",))
    print("| size | near by | first | among 5 | median rank |\n|---|---|---|---|---|")
    for size in (16, 32, 64):
        config = EmojiConfig(size=size)
        data = load_dataset(config)
        order = np.argsort(np.concatenate([data.train.labels, data.heldout.labels]))
        real = torch.from_numpy(np.concatenate([data.train.pixels, data.heldout.pixels])[order])
        places, pixels = second_drawings(config, data.class_names)
        captions, drawn = torch.tensor(places), torch.from_numpy(pixels)
        features = [extractor.features(each) for each in (drawn, real)]
        spaces = {
            "angle of features": [unit(each) for each in features],
            "features": features,
            "features, standardised": [standardised(each, features[1]) for each in features],
            "pixels": [each.flatten(1).float() for each in (drawn, real)],
        }
        for name, (ours, theirs) in spaces.items():
            found = ranks(ours, theirs, captions)
            shares = " | ".join(f"{(found <= most).double().mean():.1%}" for most in (1, 5))
            print(f"| {size} | {name} | {shares} | {found.double().quantile(0.5):.0f} of {len(real):,} |", flush=True)
