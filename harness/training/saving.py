"""The checkpoints of one training, written beside it.

    training   begin ... forward, backward ... copied: the tensors may change ... steps ... settle: has it been written?
    thread     copies of all tensors, in memory; the files, their sums, state.json, the new name

A forward and a backward pass change no weight, average or moment: those are copied meanwhile, and the optimiser waits
for what is left of it. There is one checkpoint at a time, and whoever begins another waits for it first. The copies are
kept for the next one: memory that is asked for anew costs more than copying.
"""

import contextlib
import copy
import logging
import shutil
from collections.abc import Callable, Iterator, Mapping, Set
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from harness.processes.locks import FileLock, holder
from harness.records.errors import UserError
from harness.training.checkpoint import (
    TENSORS,
    Kept,
    drop_old,
    error_of_writing,
    path_of,
    publish,
    with_rows,
    write_state,
    write_tensors,
)
from harness.training.parallel import World, is_shard, local

log = logging.getLogger(__name__)


LOCK = "training.lock"
HELD_WAIT_S = 10.0
"""How long one that was killed may hold its folder: loaders of images notice their parent's death after 5 seconds."""


@contextlib.contextmanager
def held(folder: Path, world: World) -> Iterator[None]:
    """Inside, no other training writes into the folder. UserError, in all processes, where one does."""
    lock, problem = None, None
    if world.is_first:
        try:
            lock = FileLock.acquire(folder / LOCK, wait_s=HELD_WAIT_S)
            problem = None if lock else _in_use(folder)
        except UserError as error:
            problem = str(error)
    if (refusal := world.first(problem)) is not None:
        raise UserError(refusal)
    with lock or contextlib.nullcontext():
        yield


def _in_use(folder: Path) -> str:
    other = holder(folder / LOCK)
    return (
        f"process {other.get('pid')} on {other.get('host')} trains in {folder}; wait for it or stop it, or choose "
        "another folder"
    )


class NotFiniteError(Exception):
    """A tensor that should be saved has a value that is not finite."""

    def __init__(self, step: int) -> None:
        super().__init__(step)
        self.step = step


class Checkpoints:
    """`on_saved` hears, by the thread of the first process, of each that stands."""

    def __init__(self, folder: Path, kept: Kept, world: World, on_saved: Callable[[int], None]) -> None:
        self.folder, self.kept, self.world, self.on_saved = folder, kept, world, on_saved
        self.step: int | None = None
        """Of the newest one, that stands or is being written."""
        self.stands: int | None = None
        """Of the newest that this process made and gave its name."""
        self._group: Any = dist.new_group(backend="gloo") if world.size > 1 else None  # the thread's own
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._copying: Future[None] | None = None
        self._writing: Future[None] | None = None
        self._copies: dict[str, Tensor] = {}

    def begin(
        self, step: int, tensors: Mapping[str, Tensor], state: Mapping[str, Any], *, changing: Set[str] = frozenset()
    ) -> None:
        """Have it written: tensors that may be shards, and plain JSON. The one before must be settled. Until `copied`
        returns none of the tensors may change but those named `changing`, and those on a GPU, which are copied here."""
        assert self._writing is None
        own = {name: with_rows(local(tensor)) for name, tensor in tensors.items()}
        own = {name: tensor for name, tensor in own.items() if tensor.numel() > 0}  # an empty shard: others have it all
        for name in own.keys() - self._copies.keys():
            self._copies[name] = self._buffer(own[name], tensors[name])
        here = {name for name, tensor in own.items() if name in changing or tensor.device.type != "cpu"}
        self._copy({name: own[name] for name in here})
        self._copying = self._thread.submit(self._copy, {name: own[name] for name in own if name not in here})
        copies = {name: self._copies[name] for name in own}
        self._writing = self._thread.submit(self._write, step, copies, copy.deepcopy(state))
        self.step = step

    def copied(self) -> None:
        """Wait until the tensors may change."""
        if self._copying is not None:
            self._copying.result()
            self._copying = None

    def settle(self) -> UserError | NotFiniteError | None:
        """Wait for the one that is being written; why it does not stand, if so, which then all processes hear."""
        if self._writing is None:
            return None
        error = self._writing.exception()
        if error is not None:
            step, self._writing, self.step = self.step or 0, None, None
            if isinstance(error, NotFiniteError):
                return error
            if (sentence := error_of_writing(path_of(self.folder, step), error)) is not None:
                return sentence
            raise error
        self._writing = None
        return None

    def close(self) -> None:
        """Wait for what is being written, however the training ended."""
        self._thread.shutdown(wait=True)

    def _copy(self, tensors: Mapping[str, Tensor]) -> None:
        """To the CPU, row by row."""
        for name, tensor in tensors.items():
            self._copies[name].copy_(tensor, non_blocking=tensor.is_cuda)
        if any(tensor.is_cuda for tensor in tensors.values()):
            torch.cuda.synchronize()

    def _buffer(self, own: Tensor, whole: Tensor) -> Tensor:
        buffer = torch.empty(own.shape, dtype=own.dtype, pin_memory=own.is_cuda)
        if not is_shard(whole):
            return buffer
        from harness.training.shards import place

        return place(buffer, whole)

    def _write(self, step: int, copies: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
        final = path_of(self.folder, step)
        temporary = self.folder / f".{final.name}"

        def fresh() -> None:
            self.folder.mkdir(parents=True, exist_ok=True)
            shutil.rmtree(temporary, ignore_errors=True)
            temporary.mkdir()

        def own(name: str, tensors: Mapping[str, Tensor], metadata: dict[str, str]) -> str:
            if not all(bool(torch.isfinite(tensor).all()) for tensor in tensors.values()):
                raise NotFiniteError(step)
            return write_tensors(temporary / name, tensors, metadata)

        def finish(sums: Mapping[str, str]) -> None:
            write_state(temporary, step, state, sums)
            publish(temporary, final)
            self.stands = step
            drop_old(self.folder, self.kept)
            self.on_saved(step)

        try:
            if self._group is None:
                fresh()
                finish({TENSORS: own(TENSORS, copies, {})})
            else:
                from harness.training import shards

                writer = shards.ShardWriter(self.world.rank, self.world.size, fresh, own, finish)
                shards.save(copies, writer, self._group)
        except BaseException as error:
            if self.world.is_first and self.stands != step:
                log.warning("no checkpoint of step %d: %s", step, error_of_writing(final, error) or repr(error))
                shutil.rmtree(temporary, ignore_errors=True)
            raise
