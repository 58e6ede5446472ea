"""Scores beside the distances: Inception Score, precision and recall.

    IS          exp E_x KL(p(c|x) || p(c)) in splits of 5,000 images (Salimans et al. 2016, arXiv 1606.03498, section
                4), from logits without their bias, as in the original graph; mean over splits
    precision   share of generated images within the k-th neighbour's distance of a real one, k = 3
    recall      share of real images within that of a generated one (Kynkaanniemi et al. 2019, arXiv 1904.06991, eq. 1,
                2); both are torch-fidelity's computation

N generated images, C classes, S splits; sums in float64, kept by split, so constant memory in N.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch_fidelity.metric_prc import KEY_METRIC_PRECISION, KEY_METRIC_RECALL, prc_features_to_metric

SPLIT = 5000  # images
NEIGHBOURS = 3
ROWS = 512  # of a matrix of distances at a time


class InceptionScore:
    """Of the images 0..N-1, whose logits come in any order."""

    def __init__(self, count: int, classes: int) -> None:
        splits = max(1, count // SPLIT)
        ends = np.array([(split + 1) * count // splits for split in range(splits)])  # torch-fidelity's cuts
        self.split_of = np.searchsorted(ends, np.arange(count), side="right")
        self.images = np.bincount(self.split_of, minlength=splits).astype(np.float64)
        self.certain = np.zeros(splits)  # S; sum over images of sum_c p log p
        self.classes = np.zeros((splits, classes))  # S C; sum over images of p

    def add(self, logits: Tensor, indices: range) -> None:
        """(n, C) of the images `indices`."""
        log_p = logits.double().log_softmax(1)
        p = log_p.exp()
        splits = self.split_of[indices.start : indices.stop]
        np.add.at(self.certain, splits, (p * log_p).sum(1).numpy())
        for split in np.unique(splits):
            self.classes[split] += p[torch.from_numpy(splits == split)].sum(0).numpy()

    def scores(self) -> NDArray[np.float64]:
        """(S,) KL = E sum_c p log p - sum_c q log q, q = E p."""
        q = self.classes / self.images[:, None]
        entropy = np.sum(q * np.log(np.where(q > 0, q, 1)), axis=1)
        scores: NDArray[np.float64] = np.exp(self.certain / self.images - entropy)
        return scores


def precision_and_recall(generated: Tensor, real: Tensor) -> tuple[float, float]:
    """Of features (N, D) and (n, D), more than `NEIGHBOURS` of each."""
    shares = prc_features_to_metric(
        generated.double(), real.double(), prc_neighborhood=NEIGHBOURS, prc_batch_size=ROWS, save_cpu_ram=True,
        verbose=False,
    )  # fmt: skip
    return float(shares[KEY_METRIC_PRECISION]), float(shares[KEY_METRIC_RECALL])
