"""Which weights a decoupled weight decay shrinks: by what a weight is, never by its shape.

Kernels and matrices are decayed. Gains and biases of norms, biases of layers, embeddings and positions are not: they do
not multiply what a following norm would scale back. PyTorch's layers stand in a table; a module with parameters of its
own says it where it makes them, in a class attribute:

    class RMSNorm(nn.Module):
        weight_decay: ClassVar[dict[str, bool]] = {"weight": False}

An attribute of the class, not of the tensor: copies, casts and shards of a parameter lose theirs.
"""

from collections.abc import Mapping

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
        said = _said_by(module)
        for name, _ in module.named_parameters(recurse=False):
            if name not in said:
                raise TypeError(
                    f"whether '{f'{place}.{name}'.lstrip('.')}' is decayed is not said; name it in "
                    f"{type(module).__name__}.weight_decay, a class attribute: parameter's name -> True or False"
                )
            decays[f"{place}.{name}".lstrip(".")] = said[name]
    return {name: decays[name] for name, _ in model.named_parameters()}


def _said_by(module: nn.Module) -> Mapping[str, bool]:
    """By its class, or else by the nearest class of PyTorch that it is one of."""
    said: Mapping[str, bool] | None = getattr(type(module), "weight_decay", None)
    if said is not None:
        return said
    return next((TORCH_LAYERS[cls] for cls in type(module).__mro__ if cls in TORCH_LAYERS), {})
