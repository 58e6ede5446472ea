"""The tensors of a checkpoint that several processes write and read together: torch.distributed.checkpoint.

Its planner has each process write its own shards and, of what all have alike, a part; and read, of files that any
number of processes wrote, what it needs. The files are safetensors as torch's HuggingFaceStorageReader reads them,
with the place of each shard in the file's metadata: no pickles. Torch's own writer of them would hold every byte three
times.

One process needs no plan: it writes one file (`saving`) and reads one (`checkpoint.load`), a tenth of a second instead
of a half for the 1,820 tensors of a laptop's network, and is spared the import.
"""

import json
import os
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch.distributed as dist
from torch import Tensor
from torch.distributed.checkpoint import state_dict_loader, state_dict_saver
from torch.distributed.checkpoint._hf_utils import CUSTOM_METADATA_KEY, SAVED_OFFSETS_KEY
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.default_planner import DefaultSavePlanner
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader
from torch.distributed.checkpoint.metadata import Metadata
from torch.distributed.checkpoint.planner import SavePlan, SavePlanner
from torch.distributed.checkpoint.storage import StorageWriter, WriteResult
from torch.futures import Future

WriteOwn = Callable[[str, Mapping[str, Tensor], dict[str, str]], str]
"""Writes a process's tensors, with the file's metadata, under that name; returns the file's sha256."""


class ShardWriter(StorageWriter):
    """One file a process. `fresh` makes the empty folder, `finish_with` makes a checkpoint of it; both are called by
    the first process alone, before anyone writes and once all have written."""

    def __init__(
        self,
        rank: int,
        size: int,
        fresh: Callable[[], None],
        own: WriteOwn,
        finish_with: Callable[[dict[str, str]], None],
    ) -> None:
        self.name = f"tensors-{rank + 1}-of-{size}.safetensors"
        self.fresh, self.own, self.finish_with = fresh, own, finish_with

    def reset(self, checkpoint_id: str | os.PathLike[str] | None = None) -> None: ...

    def set_up_storage_writer(self, is_coordinator: bool, *args: Any, **kwargs: Any) -> None: ...

    def prepare_local_plan(self, plan: SavePlan) -> SavePlan:
        return plan

    def prepare_global_plan(self, plans: list[SavePlan]) -> list[SavePlan]:
        self.fresh()
        return plans

    def write_data(self, plan: SavePlan, planner: SavePlanner) -> Future[list[WriteResult]]:
        done: Future[list[WriteResult]] = Future()
        done.set_result(self._written(plan, planner) if plan.items else [])
        return done

    def _written(self, plan: SavePlan, planner: SavePlanner) -> list[WriteResult]:
        tensors: dict[str, Tensor] = {}
        places: dict[str, dict[str, list[int]]] = {}
        for item in plan.items:
            tensors[item.index.fqn] = planner.resolve_data(item)  # type: ignore[assignment]
            assert item.tensor_data is not None
            places[item.index.fqn] = {SAVED_OFFSETS_KEY: list(item.tensor_data.chunk.offsets)}
        sha256 = self.own(self.name, tensors, {"format": "pt", CUSTOM_METADATA_KEY: json.dumps(places)})
        return [WriteResult(index=item.index, size_in_bytes=0, storage_data=(self.name, sha256)) for item in plan.items]

    def finish(self, metadata: Metadata, results: list[list[WriteResult]]) -> None:  # noqa: ARG002
        self.finish_with(dict(result.storage_data for of_process in results for result in of_process))

    @classmethod
    def validate_checkpoint_id(cls, checkpoint_id: str | os.PathLike[str]) -> bool:  # noqa: ARG003
        return True


def save(tensors: Mapping[str, Tensor], writer: ShardWriter, group: dist.ProcessGroup) -> None:
    """All processes call it; an error in one is an error in all of them."""
    planner = DefaultSavePlanner(flatten_state_dict=False, flatten_sharded_tensors=False)
    try:
        state_dict_saver.save(dict(tensors), storage_writer=writer, planner=planner, process_group=group)
    except CheckpointException as error:
        cause, _ = next(iter(error.failures.values()))
        raise cause from error


def load(folder: Path, targets: Mapping[str, Tensor]) -> None:
    """Fill the tensors in place, each process its own shards."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="torch.distributed is disabled")
        try:
            state_dict_loader.load(dict(targets), storage_reader=HuggingFaceStorageReader(str(folder)))
        except CheckpointException as error:
            cause, _ = next(iter(error.failures.values()))
            raise cause from error


def place(buffer: Tensor, shard: Any) -> Tensor:
    """Have a plain copy of a shard say where in the whole tensor it belongs: `CheckpointableTensor`'s attributes."""
    (chunk,) = shard.__create_chunk_list__()
    buffer.global_shape = tuple(shard.shape)  # type: ignore[attr-defined]
    buffer.global_offsets = (tuple(chunk.offsets),)  # type: ignore[attr-defined]
    buffer.local_offsets = ((0,) * buffer.ndim,)  # type: ignore[attr-defined]
    buffer.local_sizes = (tuple(chunk.sizes),)  # type: ignore[attr-defined]
    return buffer
