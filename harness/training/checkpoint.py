"""Checkpoints that are there whole or not at all.

    FOLDER/checkpoint-00000400/tensors.safetensors    weights, averaged weights, optimiser moments
    FOLDER/checkpoint-00000400/state.json             the rest, and the sha256 of both

A checkpoint is written beside, synced, and renamed; the one before is kept until the next is whole. `latest` checks the
sums, so that a truncated or flipped file is noticed, named, and the older one used.
"""

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from harness.records.errors import UserError
from harness.records.store import unwritable
from harness.training.parallel import assign, whole

KEPT = 2  # the newest, and the one before in case the disk damages it
TENSORS, STATE = "tensors.safetensors", "state.json"


@dataclass(frozen=True, kw_only=True, slots=True)
class Checkpoint:
    step: int
    tensors: Mapping[str, Tensor]
    state: Mapping[str, Any]  # plain JSON


def save(folder: Path, checkpoint: Checkpoint) -> None:
    """Write the checkpoint and drop those older than the one before it. Errors: UserError if it cannot be written."""
    final = folder / f"checkpoint-{checkpoint.step:08d}"
    temporary = folder / f".{final.name}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir()
        try:
            _write(temporary, checkpoint)
            shutil.rmtree(final, ignore_errors=True)  # an unreadable one of the same step
            temporary.rename(final)
            _sync(folder)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
    except OSError as error:
        raise unwritable(final, error) from error
    except SafetensorError as error:  # safetensors wraps the operating system's error in its own
        raise UserError(f"cannot write {final}: {error}; free some space and run the same command again") from error
    for old in _checkpoints(folder)[KEPT:]:
        shutil.rmtree(old, ignore_errors=True)


def latest(folder: Path, *, at_most: int | None = None) -> tuple[Checkpoint | None, tuple[str, ...]]:
    """The newest whole checkpoint, of step `at_most` or before where that is given, or None; and a sentence for every
    one that is damaged, which is removed."""
    notes: list[str] = []
    for path in _checkpoints(folder):
        if at_most is not None and path.name > f"checkpoint-{at_most:08d}":
            continue
        try:
            return _read(path), tuple(notes)
        except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
            notes.append(f"the checkpoint {path} is damaged ({error}): it was removed, and an older state used")
            shutil.rmtree(path, ignore_errors=True)
    return None, tuple(notes)


def copy_newest(source: Path, target: Path, *, at_most: int) -> int | None:
    """Copy the newest whole checkpoint in `source` of step `at_most` or before into the folder `target`; its step, or
    None where there is none. `source` stays as it is, and may go meanwhile."""
    for path in _checkpoints(source):
        if path.name > f"checkpoint-{at_most:08d}":
            continue
        temporary = target / f".{path.name}"
        try:
            target.mkdir(parents=True, exist_ok=True)
            if (step := _whole_step(target / path.name)) is not None:  # an earlier run's
                return step
            shutil.rmtree(temporary, ignore_errors=True)
            temporary.mkdir()
            for name in (TENSORS, STATE):
                shutil.copyfile(path / name, temporary / name)
                _sync(temporary / name)
            step = int(_verified(temporary)["step"])
            shutil.rmtree(target / path.name, ignore_errors=True)  # a damaged one of the same step
            temporary.rename(target / path.name)
            _sync(target)
        except (FileNotFoundError, ValueError, KeyError, TypeError):  # gone, or damaged
            continue
        except OSError as error:
            raise unwritable(target / path.name, error) from error
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        return step
    return None


def _whole_step(path: Path) -> int | None:
    """The step of a checkpoint that is there and as it was written, else None."""
    try:
        return int(_verified(path)["step"])
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None


def named_tensors(module: nn.Module, prefix: str = "") -> dict[str, Tensor]:
    """Parameters and saved buffers by name, whole, on the CPU, row by row; a tensor with two names appears once."""
    return {prefix + name: whole(tensor.detach()).cpu().contiguous() for name, tensor in _tensors(module)}


def _tensors(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    tensor_ids: set[int] = set()
    for name, tensor in module.state_dict(keep_vars=True).items():
        if id(tensor) not in tensor_ids:
            tensor_ids.add(id(tensor))
            yield name, tensor


@torch.no_grad()
def restore(module: nn.Module, tensors: Mapping[str, Tensor], prefix: str = "") -> None:
    """Copy tensors that `named_tensors` named into the module. Errors: UserError on another set of names or shapes."""
    targets = {prefix + name: tensor for name, tensor in _tensors(module)}
    sources = {name: tensor for name, tensor in tensors.items() if name.startswith(prefix)}
    if {name: t.shape for name, t in targets.items()} != {name: t.shape for name, t in sources.items()}:
        odd = sorted(targets.keys() ^ sources.keys()) or [n for n in targets if targets[n].shape != sources[n].shape]
        raise UserError(f"these weights are of another architecture: '{odd[0]}' differs; rebuild the one they are of")
    for name, tensor in targets.items():
        assign(tensor, sources[name])


def has_checkpoints(folder: Path) -> bool:
    return bool(_checkpoints(folder))


def _checkpoints(folder: Path) -> list[Path]:
    return sorted(folder.glob("checkpoint-*"), reverse=True)


def _write(folder: Path, checkpoint: Checkpoint) -> None:
    save_file(dict(checkpoint.tensors), folder / TENSORS)
    body = {"step": checkpoint.step, "state": checkpoint.state, "tensors_sha256": _sha256(folder / TENSORS)}
    text = json.dumps(body, allow_nan=False)
    content = {"body_sha256": hashlib.sha256(text.encode()).hexdigest(), "body": text}
    (folder / STATE).write_text(json.dumps(content))
    for path in (folder / TENSORS, folder / STATE, folder):
        _sync(path)


def _read(path: Path) -> Checkpoint:
    body = _verified(path)
    return Checkpoint(step=body["step"], tensors=load_file(path / TENSORS), state=body["state"])


def _verified(path: Path) -> dict[str, Any]:
    """What `state.json` holds, once both files are known to be as they were written."""
    content = json.loads((path / STATE).read_text())
    if hashlib.sha256(content["body"].encode()).hexdigest() != content["body_sha256"]:
        raise ValueError(f"{STATE} does not match its sum")
    body: dict[str, Any] = json.loads(content["body"])
    if _sha256(path / TENSORS) != body["tensors_sha256"]:
        raise ValueError(f"{TENSORS} does not match its sum")
    return body


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync(path: Path) -> None:
    """Have the file, or the folder's entries, on the disk before going on."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if not (path.is_dir() and error.errno in (errno.EINVAL, errno.ENOTSUP)):  # some file systems refuse folders
            raise
    finally:
        os.close(handle)
