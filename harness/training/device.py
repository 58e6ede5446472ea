"""Where training runs, in what precision, with how many threads."""

import contextlib
from collections.abc import Sequence
from contextlib import AbstractContextManager

import torch

from harness.records.errors import UserError
from harness.training.recipe import Recipe


def resolve_device(name: str) -> torch.device:
    """`auto` is CUDA, else MPS, else the CPU. Errors: UserError if the machine has no such device."""
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        return torch.device(next(kind for kind, here in available.items() if here))
    if not available[name]:
        here = ", ".join(kind for kind, is_here in available.items() if is_here)
        raise UserError(f"recipe.device is '{name}', which this machine does not have; choose one of: auto, {here}")
    return torch.device(name)


def check_cuda_numbers(numbers: Sequence[int]) -> None:
    """UserError for a CUDA device that this machine does not have."""
    have = torch.cuda.device_count()
    if missing := [number for number in numbers if not 0 <= number < have]:
        raise UserError(f"launcher.cuda_devices names CUDA device {missing[0]}, and this machine has {have} of them")


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


def device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
