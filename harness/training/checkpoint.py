"""Checkpoints that are there whole or not at all.

    FOLDER/checkpoint-00000400/tensors.safetensors    weights, averaged weights, optimiser moments
    FOLDER/checkpoint-00000400/state.json             the rest, and the sha256 of both; written last

Of N processes that train together each writes a part, tensors-1-of-N.safetensors and so on (see `shards`); any number
of processes goes on from it.

A checkpoint is written beside, synced, and renamed; the one before is kept until the next is whole. `latest` checks the
sums, so that a truncated or flipped file is noticed, named, set aside, and the older one used. One that cannot be read
is no damage: a disk that does not answer ends the attempt, and nothing is touched. Nothing in it is a pickle.
"""

import errno
import functools
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, cast

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from harness.records.errors import UserError
from harness.records.store import file_sha256, unwritable
from harness.training.parallel import World

T = TypeVar("T")

TENSORS, STATE = "tensors.safetensors", "state.json"


@dataclass(frozen=True, kw_only=True, slots=True)
class Checkpoint:
    """One on the disk, whose files are as they were written."""

    path: Path
    step: int
    state: Mapping[str, Any]  # plain JSON
    files: tuple[str, ...]  # of tensors

    @property
    def names(self) -> frozenset[str]:
        """Of its tensors."""
        names: set[str] = set()
        for file_name in self.files:
            with safe_open(self.path / file_name, "pt") as file:
                names.update(file.keys())
        return frozenset(names)


@dataclass(frozen=True, kw_only=True, slots=True)
class Kept:
    """Which checkpoints of a training stay."""

    newest: int
    every: int | None = None
    """Those of its multiples stay too."""

    def stays(self, step: int, newer: int) -> bool:
        """Whether one of that step does, beside so many newer ones."""
        return newer < self.newest or (self.every is not None and step % self.every == 0)


def path_of(folder: Path, step: int) -> Path:
    return folder / f"checkpoint-{step:08d}"


def has_checkpoints(folder: Path) -> bool:
    return bool(_checkpoints(folder))


def latest(
    folder: Path, *, at_most: int | None = None, world: World | None = None
) -> tuple[Checkpoint | None, tuple[str, ...]]:
    """The newest whole checkpoint, of step `at_most` or before where that is given, or None; and a sentence for every
    one that is damaged, which gets another name. All processes of a training ask together, and share the checking.

    Errors: UserError, in all of them, where one cannot read what is there."""
    world = world or World()
    notes: list[str] = []
    for name in _of_first(world, lambda: [path.name for path in _checkpoints(folder)]):
        if at_most is not None and name > path_of(folder, at_most).name:
            continue
        checkpoint = _checked(folder / name, world)
        if isinstance(checkpoint, Checkpoint):
            return checkpoint, tuple(notes)
        aside = _of_first(world, functools.partial(_set_aside, folder / name))
        notes.append(
            f"the checkpoint {folder / name} is damaged ({checkpoint}): it is {aside} now, and an older state used"
        )
    return None, tuple(notes)


def _of_first(world: World, ask: Callable[[], T]) -> T:
    """What the first process finds, or its UserError, in all."""
    answer, refusal = None, None
    if world.is_first:
        try:
            answer = ask()
        except UserError as error:
            refusal = str(error)
    answer, refusal = world.first((answer, refusal))
    if refusal is not None:
        raise UserError(refusal)
    return cast(T, answer)


def _set_aside(path: Path) -> str:
    """Give a damaged checkpoint a name that is none of a checkpoint, in the place of an earlier one of its step; that
    name."""
    aside = path.with_name(f"damaged-{path.name}")
    shutil.rmtree(aside, ignore_errors=True)
    try:
        path.rename(aside)
    except OSError as error:
        raise _refused("rename", path, error) from error
    return aside.name


def _refused(what: str, path: Path, error: OSError) -> UserError:
    return UserError(
        f"cannot {what} {path}: {error.strerror or error}; no checkpoint was removed: run the same command again when "
        "the disk answers, or move it away to go on without it"
    )


@torch.no_grad()
def load(checkpoint: Checkpoint, targets: Mapping[str, Tensor], world: World) -> None:
    """Fill the tensors in place, of which each process may have a shard. UserError where the checkpoint lacks one, or
    has it in another shape."""
    _check_names(targets.keys() - checkpoint.names)
    targets = {name: with_rows(tensor) for name, tensor in targets.items()}
    if world.size > 1 or len(checkpoint.files) > 1:
        from harness.training import shards  # only here: its import takes a second

        shards.load(checkpoint.path, targets)
        return
    with safe_open(checkpoint.path / checkpoint.files[0], "pt") as file:
        for name, target in targets.items():
            source = file.get_tensor(name)
            _check_names({name} if source.shape != target.shape else set())
            target.copy_(source)


def _check_names(odd: set[str]) -> None:
    if odd:
        raise UserError(f"these weights are of another architecture: '{min(odd)}' differs; rebuild the one they are of")


def with_rows(tensor: Tensor) -> Tensor:
    """A view with at least one dimension, by which files of shards are cut."""
    return tensor.view(1) if tensor.ndim == 0 else tensor


def copy_newest(source: Path, target: Path, *, at_most: int) -> int | None:
    """Copy the newest whole checkpoint in `source` of step `at_most` or before into the folder `target`; its step, or
    None where there is none. `source` stays as it is, and may go meanwhile."""
    for path in _checkpoints(source):
        if path.name > path_of(source, at_most).name:
            continue
        temporary = target / f".{path.name}"
        try:
            target.mkdir(parents=True, exist_ok=True)
            if (step := _whole_step(target / path.name)) is not None:  # an earlier run's
                return step
            shutil.rmtree(temporary, ignore_errors=True)
            temporary.mkdir()
            for name in (*_body(path)["sha256"], STATE):
                shutil.copyfile(path / name, temporary / name)
                sync(temporary / name)
            step = int(_verified(temporary)["step"])
            publish(temporary, target / path.name)
        except (FileNotFoundError, ValueError, KeyError, TypeError):  # gone, or damaged
            continue
        except OSError as error:
            raise unwritable(target / path.name, error) from error
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        return step
    return None


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: dict[str, str] | None = None) -> str:
    """Tensors on the CPU, row by row, as a file that is on the disk when this returns; its sha256."""
    save_file(dict(tensors), path, metadata)
    sync(path)
    return file_sha256(path)


def write_state(folder: Path, step: int, state: Mapping[str, Any], sums: Mapping[str, str]) -> None:
    """What makes a folder a checkpoint: its last file. `sums`: of its other files, the sha256."""
    text = json.dumps({"step": step, "state": state, "sha256": sums}, allow_nan=False)
    content = {"body_sha256": hashlib.sha256(text.encode()).hexdigest(), "body": text}
    (folder / STATE).write_text(json.dumps(content))
    for path in (folder / STATE, folder):
        sync(path)


def publish(temporary: Path, final: Path) -> None:
    """Give a whole checkpoint its name."""
    shutil.rmtree(final, ignore_errors=True)  # an unreadable one of the same step
    temporary.rename(final)
    sync(final.parent)


def drop_old(folder: Path, kept: Kept) -> None:
    for newer, path in enumerate(_checkpoints(folder)):
        if not kept.stays(int(path.name.rpartition("-")[2]), newer):
            shutil.rmtree(path, ignore_errors=True)


def _checkpoints(folder: Path) -> list[Path]:
    """The newest first. UserError where the folder cannot be read, which `Path.glob` would take for an empty one."""
    try:
        names = os.listdir(folder)  # noqa: PTH208 - one call, whose errors are heard
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise _refused("read", folder, error) from error
    return [folder / name for name in sorted(names, reverse=True) if name.startswith("checkpoint-")]


def _checked(path: Path, world: World) -> Checkpoint | str:
    """The checkpoint, or how it is damaged: a file is missing, or is not what was written. UserError, in all processes,
    where one cannot read it, which says nothing of what is there."""
    damage, refusal = None, None
    try:
        body = _verified(path, world)
        checkpoint = Checkpoint(
            path=path, step=int(body["step"]), state=body["state"], files=tuple(sorted(body["sha256"]))
        )
    except (FileNotFoundError, ValueError, KeyError, TypeError) as error:
        damage = str(error) or repr(error)
    except OSError as error:
        refusal = str(_refused("read", path, error))
    verdicts = world.all((damage, refusal))
    if refusals := [each for _, each in verdicts if each is not None]:
        raise UserError(refusals[0])
    return next((each for each, _ in verdicts if each is not None), None) or checkpoint


def _whole_step(path: Path) -> int | None:
    """The step of a checkpoint that is there and as it was written, else None."""
    try:
        return int(_verified(path)["step"])
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None


def _verified(path: Path, world: World | None = None) -> dict[str, Any]:
    """What `state.json` holds, once this process's share of the files is known to be as it was written."""
    body, world = _body(path), world or World()
    for name in sorted(body["sha256"])[world.rank :: world.size]:
        if file_sha256(path / name) != body["sha256"][name]:
            raise ValueError(f"{name} does not match its sum")
    return body


def _body(path: Path) -> dict[str, Any]:
    content = json.loads((path / STATE).read_text())
    if hashlib.sha256(content["body"].encode()).hexdigest() != content["body_sha256"]:
        raise ValueError(f"{STATE} does not match its sum")
    body: dict[str, Any] = json.loads(content["body"])
    return body


def sync(path: Path) -> None:
    """Have the file, or the folder's entries, on the disk before going on."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if not (path.is_dir() and error.errno in (errno.EINVAL, errno.ENOTSUP)):  # some file systems refuse folders
            raise
    finally:
        os.close(handle)


def error_of_writing(path: Path, error: BaseException) -> UserError | None:
    """The sentence for a disk that is full, or that refuses; None for another error."""
    if isinstance(error, UserError):
        return error
    if isinstance(error, OSError):
        return unwritable(path, error)
    if isinstance(error, SafetensorError):  # which wraps the operating system's error
        return UserError(f"cannot write {path}: {error}; free some space and run the same command again")
    return None
