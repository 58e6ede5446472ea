"""What is said of a network's parameters, whatever network it is: which of them a decoupled weight decay shrinks, and
random values for all of them.

Weight decay goes by what a weight is, never by its shape. Kernels and matrices are decayed. Gains and biases of norms,
biases of layers, embeddings and positions are not: they do not multiply what a following norm would scale back.
PyTorch's layers stand in a table; a module with parameters of its own says it where it makes them, in an attribute:

    class RMSNorm(nn.Module):
        weight_decay: ClassVar[dict[str, bool]] = {"weight": False}

An attribute of the class, not of the tensor: copies, casts and shards of a parameter lose theirs.

Random values stand in for untrained ones where an exported graph is held against its module. Networks begin with zeros
where a branch shall begin as nothing; behind a zero a wrong graph agrees with the right one.
"""

import copy
from collections.abc import Mapping

import torch
from torch import nn

TORCH_LAYERS: Mapping[type[nn.Module], Mapping[str, bool]] = {
    nn.Linear: {"weight": True, "bias": False},
    nn.Conv1d: {"weight": True, "bias": False},
    nn.Conv2d: {"weight": True, "bias": False},
    nn.ConvTranspose2d: {"weight": True, "bias": False},
    nn.GroupNorm: {"weight": False, "bias": False},
    nn.LayerNorm: {"weight": False, "bias": False},
    nn.BatchNorm2d: {"weight": False, "bias": False},
    nn.RMSNorm: {"weight": False},
    nn.Embedding: {"weight": False},
}


def weight_decays(model: nn.Module) -> dict[str, bool]:
    """Whether each of the model's parameters is decayed, by name and in the order of `named_parameters`.

    Errors: TypeError for a parameter that nobody has said it of.
    """
    decays = {}
    for place, module in model.named_modules():
        decayed = _decayed_in(module)
        for name, _ in module.named_parameters(recurse=False):
            if name not in decayed:
                raise TypeError(
                    f"whether '{f'{place}.{name}'.lstrip('.')}' is decayed is not said; name it in "
                    f"{type(module).__name__}.weight_decay, a class attribute: parameter's name -> True or False"
                )
            decays[f"{place}.{name}".lstrip(".")] = decayed[name]
    return {name: decays[name] for name, _ in model.named_parameters()}


def _decayed_in(module: nn.Module) -> Mapping[str, bool]:
    """By its class, or else by the nearest class of PyTorch that it is one of."""
    own: Mapping[str, bool] | None = getattr(type(module), "weight_decay", None)
    if own is not None:
        return own
    return next((TORCH_LAYERS[cls] for cls in type(module).__mro__ if cls in TORCH_LAYERS), {})


def filled_copy(module: nn.Module) -> nn.Module:
    """A copy with the weights of `fill_weights`, the same every time."""
    filled = copy.deepcopy(module)
    fill_weights(filled)
    return filled


def fill_weights(module: nn.Module, seed: int = 0) -> None:
    """Random values in every parameter, none of them zero, so that no part of the network is hidden behind a zero.

    A kernel or a matrix is normal with a variance of 1 / fan-in, which keeps its input's scale; a bias is normal with
    a deviation of 0.1, and so is what else is a vector (a norm's weight), around 1.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            fan_in = parameter[0].numel() if parameter.dim() > 1 else 1
            noise = torch.randn(parameter.shape, generator=generator)
            if fan_in > 1:
                parameter.copy_(noise * fan_in**-0.5)
            else:
                parameter.copy_(0.1 * noise + (0 if name.endswith("bias") else 1))
