"""Features of a network, by their place in it: what its transformers give, as maps.

    UNet           down.1.attention.0, middle.attention.0, up.0.attention.2: a whole transformer, behind its shortcut
    DiT, U-ViT     block.11, up.5: a block's tokens, without those of time and class
    LDM            unet.up_blocks.2.attentions.1

A forward hook keeps them. It stands for good, since what `torch.compile` made of a module heeds no later ones, and it
keeps only while its tap is open: a block that is computed again in the backward pass (gradient checkpointing) does not
take the place of what the forward pass kept. The network may be inside DDP, and its blocks shards of FSDP.
"""

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from harness.architecture.config import ArchitectureConfig
from harness.architecture.latents import LARGEST_LATENT
from harness.models.build import build, example_inputs
from harness.models.peers.dit import DiTBlock
from harness.models.peers.uvit import UViTBlock
from harness.models.transformer import Layers

TRANSFORMERS = (Layers, DiTBlock, UViTBlock)
OF_DIFFUSERS = "Transformer2DModel"
"""By its name: importing it takes seconds."""


class Tap:
    """What the module at a place gives in the forward passes during which the tap is open: of the newest."""

    def __init__(self, network: nn.Module, place: str, *, downsampling: int | None = None, part: int = 0) -> None:
        """Of a network of others: by how much tokens are coarser than its input, and which part of the module's outputs
        they are."""
        inner: nn.Module = getattr(network, "module", network)  # of DDP
        own: int = getattr(getattr(inner, "config", None), "downsampling", 1)
        self.downsampling, self.part = downsampling or own, part
        self._is_open = False
        self._kept: Tensor | None = None
        inner.get_submodule(place).register_forward_hook(self._keep)

    def _keep(self, _module: nn.Module, _inputs: Any, output: Any) -> None:
        if self._is_open:
            self._kept = _tensor(output, self.part)

    @contextmanager
    def open(self) -> Iterator[None]:
        self._is_open, self._kept = True, None
        try:
            yield
        finally:
            self._is_open = False

    def take(self, x: Tensor) -> Tensor:
        """(B, C', H', W') of the pass over x (B, C, H, W); it is kept no longer."""
        kept, self._kept = self._kept, None
        if kept is None:
            raise RuntimeError("the tapped module did not run while its tap was open")
        return _as_map(kept, x.shape[-2] // self.downsampling, x.shape[-1] // self.downsampling)


@contextmanager
def all_open(taps: Iterable[Tap]) -> Iterator[None]:
    with ExitStack() as stack:
        for tap in taps:
            stack.enter_context(tap.open())
        yield


def maps_of(taps: Sequence[Tap], x: Tensor, run: Callable[[], object]) -> list[tuple[int, int, int]]:
    """(C', H', W') of what each keeps in a pass over x."""
    with torch.no_grad(), all_open(taps):
        run()
    shapes = (tap.take(x).shape for tap in taps)
    return [(channels, rows, columns) for _, channels, rows, columns in shapes]


@functools.lru_cache(maxsize=100)
def taps_of(config: ArchitectureConfig) -> Mapping[str, int]:
    """Places that can be tapped, in forward order -> channels. By running the network on shapes alone."""
    sizes = range(2 * config.downsampling, LARGEST_LATENT + 1)  # norms refuse maps of one pixel
    size = config.native_latent or next(size for size in sizes if not config.why_not_latent(size))
    with torch.device("meta"):
        network = build(config).eval()
    return taps_in(network, lambda: network(*example_inputs(config, latent=size, device="meta")))


def taps_in(network: nn.Module, run: Callable[[], object]) -> Mapping[str, int]:
    """The same of a network, by a pass over it: in forward order, which the order of names is not."""
    channels: dict[str, int] = {}
    for name, module in network.named_modules():
        if isinstance(module, TRANSFORMERS) or type(module).__name__ == OF_DIFFUSERS:
            module.register_forward_hook(functools.partial(_note, channels, name))
    with torch.no_grad():
        run()
    return channels


def _note(channels: dict[str, int], name: str, _module: nn.Module, _inputs: Any, output: Any) -> None:
    tensor = _tensor(output)
    channels[name] = tensor.shape[1 if tensor.ndim == 4 else 2]


def _tensor(output: Any, part: int = 0) -> Tensor:
    """Of diffusers' outputs, which have several parts, that one."""
    tensor: Tensor = output if isinstance(output, Tensor) else output[part]
    return tensor


def _as_map(feature: Tensor, rows: int, columns: int) -> Tensor:
    """Of a map itself; of tokens (B, T, C) the last ones, row by row: what stands before them is no part of it."""
    if feature.ndim == 4:
        return feature
    tokens = feature[:, -rows * columns :]
    return tokens.transpose(1, 2).reshape(len(feature), -1, rows, columns)
