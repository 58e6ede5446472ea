"""Where training runs, in what precision, with how many threads; how a network and its inputs get there."""

import contextlib
from collections.abc import Sequence
from contextlib import AbstractContextManager

import torch
from torch import Tensor, nn

from harness.models.build import blocks_of
from harness.records.errors import UserError
from harness.training.recipe import Recipe


def resolve_device(name: str, setting: str = "recipe.device") -> torch.device:
    """`auto` is CUDA, else MPS, else the CPU. Errors: UserError, which names the setting, if the machine has no such
    device."""
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        return torch.device(next(kind for kind, here in available.items() if here))
    if not available.get(name, False):
        here = ", ".join(kind for kind, is_here in available.items() if is_here)
        raise UserError(f"{setting} is '{name}', which this machine does not have; choose one of: auto, {here}")
    return torch.device(name)


def check_cuda_numbers(numbers: Sequence[int]) -> None:
    """UserError for a CUDA device that this machine does not have."""
    have = torch.cuda.device_count()
    if missing := [number for number in numbers if not 0 <= number < have]:
        raise UserError(f"launcher.cuda_devices names CUDA device {missing[0]}, and this machine has {have} of them")


def check_one_each(processes: int, numbers: Sequence[int] | None, said: str) -> None:
    """UserError for more processes on this machine than it has GPUs, or `numbers` deals out; `said` asks for them."""
    have = torch.cuda.device_count() if numbers is None else len(set(numbers))
    if processes > have:
        where = "this machine has" if numbers is None else "launcher.cuda_devices deals out"
        raise UserError(f"{said} wants {processes} GPUs here, one a process, and {where} {have}; use at most {have}")


def use_device(device: torch.device, number: int) -> None:
    """In this process `cuda` is the GPU of that number among those that it sees: several processes have one each. Where
    each sees its own alone, that is it."""
    if device.type == "cuda":
        torch.cuda.set_device(number % torch.cuda.device_count())


def resolve_precision(recipe: Recipe, device: torch.device) -> torch.dtype:
    """bfloat16 under `auto` only where the device computes in it; asking for it elsewhere is refused."""
    computes = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    if recipe.precision == "bfloat16" and device.type == "cuda" and not computes:
        raise UserError("recipe.precision is 'bfloat16', which this GPU does not compute in; use float32")
    chosen = recipe.precision == "bfloat16" or (recipe.precision == "auto" and computes)
    return torch.bfloat16 if chosen else torch.float32


def planned_precision(recipe: Recipe) -> str:
    """`float32` or `bfloat16`: what `recipe.precision` means on this machine. It changes a result, so it is identity.

    Errors: UserError where it is `auto` and this machine lacks the recipe's device: then nobody here can know.
    """
    if recipe.precision != "auto":
        return recipe.precision
    try:
        return precision_name(resolve_precision(recipe, resolve_device(recipe.device)))
    except UserError as error:
        raise UserError(
            f"recipe.precision 'auto' is resolved where a study begins, and {error}; or set recipe.precision to "
            "float32 or bfloat16"
        ) from error


def precision_name(precision: torch.dtype) -> str:
    return str(precision).removeprefix("torch.")


def use_threads(threads: int | None) -> None:
    """Compute with so many threads in this process; None leaves them as they are."""
    if threads is not None:
        torch.set_num_threads(threads)


def autocast(device: torch.device, precision: torch.dtype) -> AbstractContextManager[object]:
    """The forward pass in `precision`; weights, loss and optimiser stay float32."""
    return contextlib.nullcontext() if precision == torch.float32 else torch.autocast(device.type, precision)


def peak_memory(device: torch.device) -> int | None:
    """The most bytes that tensors took on CUDA at once since a training was `placed`."""
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None


def placed(network: nn.Module, recipe: Recipe, device: torch.device) -> nn.Module:
    """The network itself on the device, its kernels in the recipe's order; memory is counted from here on."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    order = torch.channels_last if recipe.channels_last else torch.contiguous_format
    return network.to(device=device, memory_format=order)  # type: ignore[call-overload, no-any-return]


COMPILER = "inductor"
MOST_VARIANTS = 256
"""Blocks of different shapes that one training compiles; all share one piece of code, and beyond PyTorch's default of 8
the rest would run as they are, which nobody would see."""


def compile_blocks(network: nn.Module) -> None:
    """Have each block compiled when it is first called, in place: their names stay, and copies are not compiled.

    Block by block, as torchtitan does: equal ones share their code, and a whole UNet would take many times as long.
    """
    blocks = blocks_of(network)
    if not blocks:
        raise UserError(f"recipe.compile compiles blocks, and {type(network).__name__} has none; leave it out")
    torch._dynamo.config.recompile_limit = MOST_VARIANTS
    torch._dynamo.config.fail_on_recompile_limit_hit = True
    for block in blocks:
        block.compile(backend=COMPILER)


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """On that device. CUDA copies from page-locked memory while this process goes on; it waits for nothing."""
    if device.type == "cuda" and tensor.device.type == "cpu":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


def device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
