"""Reads the files of weights that others made, whatever bytes they hold: tensors by name, or one sentence why not."""

import re
from argparse import Namespace
from pathlib import Path
from zipfile import BadZipFile, ZipFile

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from harness.models.weights import damage
from harness.records.errors import UserError

AVERAGED = "ema"
"""Where the checkpoints of DiT's and SiT's training have the averaged weights, which are the ones that are sampled."""
ZIP = b"PK"
OBJECT = re.compile(r"GLOBAL (\S+)")  # in PyTorch's words for what weights_only does not load
WANTED = "give a file of safetensors, or a state_dict of torch.save"


def tensors_of(source: Path) -> dict[str, Tensor]:
    """The tensors of a file of safetensors or of torch.save, by their names there; no code in it runs.

    Raises UserError where the file is missing, empty, cut off or another kind, and where it holds more than tensors.
    """
    head = _head(source)
    if source.suffix == ".safetensors":
        try:
            return load_file(source)
        except SafetensorError as error:
            raise _unreadable(source, f"it is {damage(source, head)}; fetch it again, or {WANTED}") from error
    tensors = _loaded(source, head)
    if isinstance(tensors, dict) and isinstance(tensors.get(AVERAGED), dict):
        tensors = tensors[AVERAGED]
    if not isinstance(tensors, dict) or not all(isinstance(tensor, Tensor) for tensor in tensors.values()):
        raise UserError(f"{source} is no mapping from names to tensors; save the module's state_dict() alone")
    return tensors


def _head(source: Path) -> bytes:
    try:
        with source.open("rb") as file:
            head = file.read(8)
    except OSError as error:
        raise _unreadable(source, f"{error.strerror or error}; give the path of an existing file") from error
    if not head:
        raise _unreadable(source, "it is empty; fetch it again")
    return head


def _loaded(source: Path, head: bytes) -> object:
    try:
        with torch.serialization.safe_globals([Namespace]):  # the command line that DiT's and SiT's checkpoints keep
            return torch.load(source, map_location="cpu", weights_only=True)  # never runs code
    except Exception as error:  # any bytes are instructions to its reader, which fails on them in every way
        raise _unreadable(source, _reason(source, head, str(error))) from error


def _reason(source: Path, head: bytes, error: str) -> str:
    if (match := OBJECT.search(error)) is not None:
        return f"it holds Python objects ({match[1]}), which could run code; save the module's state_dict() alone"
    if "unexpected EOF" in error:
        return "it is cut off; fetch it again"
    if not head.startswith(ZIP):
        return f"it is no file of torch.save, or a damaged one; {WANTED}"
    try:
        with ZipFile(source) as archive:
            names = archive.namelist()
    except BadZipFile:
        return "it is cut off, or damaged; fetch it again"
    if names and all(name.endswith(".npy") for name in names):
        return f"it is an .npz of NumPy's arrays; {WANTED}"
    return f"it is a zip file, and not of torch.save, or a damaged one; {WANTED}"


def _unreadable(source: Path, reason: str) -> UserError:
    return UserError(f"cannot read the weights {source}: {reason}")
