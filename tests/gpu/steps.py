"""Steps of training one by one, by the harness's loop and by a plain one, and how long they take."""

import contextlib
import copy
import dataclasses
import gc
import time
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import torch
from small_training import OBJECTIVES, Data, Table, network_of, objective_of
from torch import nn

from harness.architecture.config import ArchitectureConfig
from harness.diffusion.flow_matching import flow_matching_loss
from harness.models.parameters import weight_decays
from harness.training.device import autocast, device_name, placed, precision_name, resolve_precision
from harness.training.listeners import Listeners
from harness.training.loop import Training
from harness.training.objectives.flow_matching import FlowMatching
from harness.training.parallel_config import NoParallel
from harness.training.recipe import Recipe
from harness.training.speed import WITH_BACKWARD, stated_peak
from harness.training.stopping import SigtermFlag

ROWS = 256
"""Pictures in memory: what a step reads does not depend on how many there are."""
NEVER = 10**6


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cell:
    """A network, a batch of it, and how it is computed."""

    size: str
    config: ArchitectureConfig
    latent: int
    batch: int
    macs: int
    precision: str = "bfloat16"
    channels_last: bool = False
    compile: bool = False
    cuda_graph: bool = False
    by: str = "harness"  # or `diffusers`, the network; or `plain loop`
    teacher: ArchitectureConfig | None = None  # whose output and features are learnt, too; the plain loop asks it only

    @property
    def how(self) -> str:
        words = [self.precision, *(name for name in ("channels_last", "compile", "cuda_graph") if getattr(self, name))]
        return ", ".join(words if self.by == "harness" else [*words, self.by])

    def recipe(self, device: str) -> Recipe:
        return Recipe(
            steps=NEVER, batch_size=self.batch, learning_rate=1e-4, weight_decay=0.01, log_every=NEVER, device=device,
            validate_every=NEVER, checkpoint_every=NEVER, validation_images=1, precision=self.precision,
            channels_last=self.channels_last, compile=self.compile, cuda_graph=self.cuda_graph,
        )  # fmt: skip

    def data(self) -> Data:
        return Data((self.config.latent_channels, self.latent, self.latent), count=ROWS)


@contextlib.contextmanager
def steps_of(cell: Cell, folder: Path, device: str) -> Iterator[Callable[[], None]]:
    """A step a call. Afterwards its memory is free again."""
    _free(device)
    steps = _plain_steps(cell, device) if cell.by == "plain loop" else _harness_steps(cell, folder, device)
    try:
        yield lambda: next(steps)
    finally:
        steps.close()
        _free(device)


def _free(device: str) -> None:
    gc.collect()
    torch.compiler.reset()
    if device == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def _network(cell: Cell, device: str) -> nn.Module:
    if cell.by != "diffusers":
        return network_of(cell.config, device)
    from peers import Peer

    torch.manual_seed(0)
    with torch.device(device):
        return Peer(cell.config)


def _harness_steps(cell: Cell, folder: Path, device: str) -> Generator[None, None, None]:
    recipe, data, on = cell.recipe(device), cell.data(), torch.device(device)
    training = Training(
        placed(_network(cell, device), recipe, on),
        _objective(cell, data, recipe, on),
        data, recipe, cell.config.fingerprint, 0, folder, on, NoParallel(), cell.macs,
        SigtermFlag(), Listeners(),
    )  # fmt: skip
    with contextlib.closing(training.batches()) as batches:
        for step, batch in enumerate(batches, start=1):
            training.advance(step, batch)
            yield


def _objective(cell: Cell, data: Data, recipe: Recipe, on: torch.device) -> FlowMatching:
    config = OBJECTIVES["flow_matching" if cell.teacher is None else "distillation"]
    return objective_of(config, cell.config, data, Table(cell.config), recipe, on, cell.teacher)


def _plain_steps(cell: Cell, device: str) -> Generator[None, None, None]:
    """What a page of PyTorch does: the same loss, fused AdamW, clipping and average; it reads a loss now and then and
    saves nothing, its times and noise are the device's own, and its pictures lie there."""
    recipe, on = cell.recipe(device), torch.device(device)
    network = placed(_network(cell, device), recipe, on).train()
    average = copy.deepcopy(network).requires_grad_(False)
    if cell.compile or cell.cuda_graph:
        raise ValueError("the plain loop compiles and records nothing")
    precision = resolve_precision(recipe, on)
    pixels, labels = (each.to(on) for each in (cell.data().train.pixels, cell.data().train.labels))
    prompts, decays = Table(cell.config).to(on), weight_decays(network)
    groups = [
        {"params": [p for name, p in network.named_parameters() if decays[name] == decay], "weight_decay": 0.01 * decay}
        for decay in (True, False)
    ]
    optimizer = torch.optim.AdamW([group for group in groups if group["params"]], betas=recipe.betas, fused=True)
    teacher = None if cell.teacher is None else network_of(cell.teacher).to(on, precision).eval()
    while True:
        rows = torch.randint(ROWS, (cell.batch,), device=on)
        x0 = pixels[rows].float() / 127.5 - 1
        moments = torch.sigmoid(torch.randn(cell.batch, device=on))
        context, mask = prompts.context(labels[rows], torch.rand(cell.batch, device=on) < recipe.cfg_dropout)
        with autocast(on, precision):
            if teacher is not None:
                with torch.no_grad():
                    teacher(x0, moments, context, mask)
            loss = flow_matching_loss(network, x0, torch.randn_like(x0), moments, context, mask)
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        with torch.no_grad():
            torch._foreach_lerp_(list(average.parameters()), list(network.parameters()), 0.001)
        yield


class Watch:
    """Seconds of calls: by the device's own events on CUDA, so that nobody waits in between."""

    def __init__(self, device: str) -> None:
        self.on_cuda = device == "cuda"
        self.marks: list[Any] = []

    def __call__(self, call: Callable[[], None]) -> None:
        self._mark()
        call()
        self._mark()

    def _mark(self) -> None:
        if self.on_cuda:
            event = torch.cuda.Event(enable_timing=True)
            event.record()
            self.marks.append(event)
        else:
            self.marks.append(time.perf_counter())

    @property
    def seconds(self) -> list[float]:
        if self.on_cuda:
            torch.cuda.synchronize()
            return [a.elapsed_time(b) / 1000 for a, b in zip(self.marks[::2], self.marks[1::2], strict=True)]
        return [b - a for a, b in zip(self.marks[::2], self.marks[1::2], strict=True)]


def row_of(cell: Cell, seconds: list[float], device: str, first_s: float) -> dict[str, Any]:
    """A line of the table. Step times are medians, with quartiles."""
    step = median(seconds)
    low, _, high = quantiles(seconds, n=4, method="inclusive")
    on = torch.device(device)
    peak = stated_peak(device_name(on), precision_name(resolve_precision(cell.recipe(device), on)))
    return {
        "size": cell.size, "latent": cell.latent, "batch": cell.batch, "how": cell.how,
        "step_ms": 1000 * step, "step_ms_quartiles": [1000 * low, 1000 * high], "steps": len(seconds),
        "images_per_second": cell.batch / step,
        "mfu": None if peak is None else WITH_BACKWARD * cell.macs * cell.batch / step / peak,
        "peak_memory_gib": torch.cuda.max_memory_allocated() / 2**30 if device == "cuda" else None,
        "first_step_s": first_s,
    }  # fmt: skip


def time_cell(cell: Cell, folder: Path, device: str, *, warm_up: int, timed: int) -> dict[str, Any]:
    with steps_of(cell, folder, device) as step:
        began = time.perf_counter()
        step()
        _wait(device)
        first_s = time.perf_counter() - began
        for _ in range(warm_up - 1):
            step()
        watch = Watch(device)
        for _ in range(timed):
            watch(step)
        return row_of(cell, watch.seconds, device, first_s)


def time_in_turn(cells: list[Cell], folder: Path, device: str, *, warm_up: int, timed: int) -> list[dict[str, Any]]:
    """All held in memory at once, a step of each in turn; their peak memory is not told."""
    with contextlib.ExitStack() as stack:
        steps = [stack.enter_context(steps_of(cell, folder, device)) for cell in cells]
        first = []
        for step in steps:
            began = time.perf_counter()
            step()
            _wait(device)
            first.append(time.perf_counter() - began)
        for _ in range(warm_up - 1):
            for step in steps:
                step()
        watches = [Watch(device) for _ in cells]
        for _ in range(timed):
            for watch, step in zip(watches, steps, strict=True):
                watch(step)
        rows = [
            row_of(cell, watch.seconds, device, first_s) | {"peak_memory_gib": None}
            for cell, watch, first_s in zip(cells, watches, first, strict=True)
        ]
    pairs = [mine / other for mine, other in zip(watches[0].seconds, watches[1].seconds, strict=True)]
    low, _, high = quantiles(pairs, n=4, method="inclusive")
    rows[0] |= {"of_the_other": median(pairs), "of_the_other_quartiles": [low, high]}
    return rows


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()
