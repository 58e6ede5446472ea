"""What a trained decoder has to beat: pictures that two simpler ones make of the same latents.

    linear     each block of pixels is a linear function of the latent's 3 x 3 cells around its own, fitted to training
               pairs by least squares; zeros beyond the edges
    nearest    the training picture whose latent is nearest, by the squared distance over all its values, of those that
               it is given: at most 2,048 (`harness.trials.tasks.reconstructing`)

And an autoencoder, which makes latents too:

    linear     the best linear one of as many numbers: of each block of pixels as many principal components as a latent
               has channels (Eckart and Young 1936), fitted to training pictures

L latent channels, h w a latent's height and width, H W a picture's, f = H / h.
"""

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor

REACH = 3
"""Cells of the latent that a block is a function of, along each side."""

PairsOfTensors = Iterable[tuple[Tensor, Tensor]]
"""Latents (B, L, h, w) and pictures (B, C, H, W) in -1..1, part by part."""


class LinearDecoder:
    """Fitted in float64 from sums, so that memory does not grow with the pairs."""

    def __init__(self, pairs: PairsOfTensors) -> None:
        gram: Tensor | None = None
        for latents, pictures in pairs:
            self.block = pictures.shape[-1] // latents.shape[-1]
            seen = _around(latents)
            wanted = F.unfold(pictures.double(), self.block, stride=self.block).transpose(1, 2).flatten(0, 1)
            if gram is None:
                gram, cross = seen.T @ seen, seen.T @ wanted
            else:
                gram, cross = gram + seen.T @ seen, cross + seen.T @ wanted
        if gram is None:
            raise ValueError("a linear decoder is fitted to at least one pair")
        # on the CPU, since CUDA has no driver for matrices of any rank
        solved = torch.linalg.lstsq(gram.cpu(), cross.cpu(), driver="gelsd")
        self.weights = solved.solution.to(gram.device)  # (9 L + 1, C f f)

    def __call__(self, latents: Tensor) -> Tensor:
        """(B, C, H, W) in -1..1 but for overshoot."""
        blocks = (_around(latents) @ self.weights).unflatten(0, (len(latents), -1)).transpose(1, 2)
        side = latents.shape[-1] * self.block
        return F.fold(blocks, side, self.block, stride=self.block)


def _around(latents: Tensor) -> Tensor:
    """(B h w, 9 L + 1) float64: each cell's neighbourhood, and 1."""
    cells = F.unfold(latents.double(), REACH, padding=REACH // 2).transpose(1, 2).flatten(0, 1)
    return torch.cat([cells, cells.new_ones(len(cells), 1)], dim=1)


class LinearAutoencoder:
    """Of blocks of `block` x `block` pixels, in float64."""

    def __init__(self, pictures: Iterable[Tensor], block: int, kept: int) -> None:
        count, total, gram = 0, torch.zeros(()), torch.zeros(())
        for each in pictures:
            blocks = self._blocks(each, block)
            count, total, gram = count + len(blocks), total + blocks.sum(0), gram + blocks.T @ blocks
        self.block, self.mean = block, total / count
        covariance = gram / count - self.mean[:, None] * self.mean
        self.components = torch.linalg.eigh(covariance).eigenvectors[:, -kept:]  # (C f f, kept)

    @staticmethod
    def _blocks(pictures: Tensor, block: int) -> Tensor:
        """(B h w, C f f)"""
        return F.unfold(pictures.double(), block, stride=block).transpose(1, 2).flatten(0, 1)

    def __call__(self, pictures: Tensor) -> Tensor:
        """(B, C, H, W) in -1..1 but for overshoot."""
        centred = self._blocks(pictures, self.block) - self.mean
        blocks = (centred @ self.components @ self.components.T + self.mean).unflatten(0, (len(pictures), -1))
        return F.fold(blocks.transpose(1, 2), pictures.shape[-1], self.block, stride=self.block)


class NearestPicture:
    """Of the training pairs that it is made of, all held at once."""

    def __init__(self, pairs: PairsOfTensors) -> None:
        latents, pictures = zip(*pairs, strict=True)
        self.latents, self.pictures = torch.cat(latents).flatten(1), torch.cat(pictures)

    def __call__(self, latents: Tensor) -> Tensor:
        return self.pictures[torch.cdist(latents.flatten(1), self.latents).argmin(1)]
