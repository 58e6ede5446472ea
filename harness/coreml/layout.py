"""A network laid out for the Apple Neural Engine: the same weights, the same numbers, other shapes on the way.

Apple's guidance ("Deploying Transformers on the Apple Neural Engine", 2022,
https://machinelearning.apple.com/research/neural-engine-transformers; code in github.com/apple/ml-ane-transformers and
github.com/apple/ml-stable-diffusion): tokens are (B, C, 1, S) instead of (B, S, C), since the engine's buffers are 4-D
and channels first, and their last axis is padded to 64 bytes; linear layers become 1 x 1 convolutions; heads are split.

What it pays, converted (laptop/thin_sdxl, iOS 18 as it is, then laid out): 863 operators become 714, transposes 94 and
21 (the keys' and the context's), reshapes 154 and 67; the last rung 1,157 and 1,006, 100 and 21, 188 and 100. Most of
it was group norms, which the converter writes out in ten operators and which are `layer_norm`s here and, since these
were counted, in the plain layout too; and transposes around heads. Split heads cost operators, about three a head
(snapgen: 744 heads); for them speaks Apple's guidance, and that multi-query heads stacked in one tensor are 65,536 rows
tall at a 128x128 latent, where the engine's extents end at 16,384. Attention as one fused operator (iOS 18) is what the
layout `plain` keeps.

A module is swapped by its class, in three tables. MAPS holds those that take and give feature maps (B, C, H, W): they
are swapped wherever they stand. TOKENS holds those that take tokens: they are swapped inside a laid-out transformer
only. What stands there without an entry, such as a new kind of attention, is kept between two transposes, and
`not_laid_out` names it. NORMS holds norms whose squares fp16 would make infinite: swapped in the plain layout too.
The laid-out forms are registered in FORMS.
"""

import copy
from collections.abc import Callable
from importlib import import_module
from typing import Any, TypeAlias, TypeVar

from torch import Tensor, nn

from harness.coreml.config import Layout

Swap: TypeAlias = Callable[[Any], nn.Module]
AnySwap = TypeVar("AnySwap", bound=Callable[..., Any])
Table: TypeAlias = dict[type[nn.Module], Swap]
MAPS: Table = {}
TOKENS: Table = {}
NORMS: Table = {}
FORMS = ("harness.coreml.layout_blocks", "harness.coreml.layout_attention", "harness.coreml.layout_peers")


def lays_out(cls: type[nn.Module], table: Table) -> Callable[[AnySwap], AnySwap]:
    """Register what makes the laid-out form of a module of exactly this class; it shares the module's weights."""

    def register(swap: AnySwap) -> AnySwap:
        table[cls] = swap
        return swap

    return register


def for_export(module: nn.Module, layout: Layout) -> nn.Module:
    """The network as it is exported: laid out for the engine, or as it is but for norms that overflow fp16.

    It is called like the original and gives the same numbers; parameters share their memory with the original's.
    """
    return ane_layout(module) if layout == "ane" else scaled_norms(module)


def ane_layout(module: nn.Module) -> nn.Module:
    """The network with every module of MAPS and NORMS swapped. What has no entry comes back as it was."""
    _register()
    return laid_out_maps(module)


def scaled_norms(module: nn.Module) -> nn.Module:
    """The module with every part of NORMS swapped, and nothing else."""
    _register()
    swap = NORMS.get(type(module))
    return swap(module) if swap is not None else with_parts(module, scaled_norms)


def _register() -> None:
    for name in FORMS:
        import_module(name)


def laid_out_maps(module: nn.Module) -> nn.Module:
    swap = MAPS.get(type(module)) or NORMS.get(type(module))
    return swap(module) if swap is not None else with_parts(module, laid_out_maps)


def laid_out_tokens(module: nn.Module) -> nn.Module:
    """A module that takes tokens, made to take (B, C, 1, S)."""
    swap = TOKENS.get(type(module))
    return swap(module) if swap is not None else AsTokens(scaled_norms(module))


def not_laid_out(laid_out: nn.Module) -> list[str]:
    """Classes of modules that still work on tokens (B, S, C) in what `ane_layout` made: each once, sorted."""
    names = set()
    for part in laid_out.modules():
        if isinstance(part, AsTokens):
            names.add(type(part.inner).__name__)
        elif any(isinstance(child, nn.Linear) for child in part.children()):
            names.add(type(part).__name__)
    return sorted(names)


def with_parts(module: nn.Module, swap: Swap, cls: type[nn.Module] | None = None) -> Any:
    """A shallow copy, of class `cls` if given, whose submodules went through `swap`."""
    copied = copy.copy(module)
    parts = module._modules.items()
    copied.__dict__["_modules"] = {name: None if part is None else swap(part) for name, part in parts}
    if cls is not None:
        copied.__class__ = cls  # adds no attribute, only another forward
    return copied


class AsTokens(nn.Module):
    """A module without a laid-out form, which takes tokens (B, S, C): transposed before it and behind it."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor, *sources: Tensor, **more: Any) -> Tensor:  # (B, C, 1, S) -> the same
        out: Tensor = self.inner(as_tokens(x), *map(as_tokens, sources), **more)
        return as_channels(out)


def as_channels(x: Tensor) -> Tensor:
    """(B, S, C) -> (B, C, 1, S); what is so already stays."""
    return x if x.dim() == 4 else x.transpose(1, 2).unsqueeze(2)


def as_tokens(x: Tensor) -> Tensor:
    """(B, C, 1, S) -> (B, S, C); what is so already stays."""
    return x if x.dim() == 3 else x.squeeze(2).transpose(1, 2)
