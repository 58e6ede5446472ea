"""A pass forward and back as one CUDA graph: recorded once, then replayed as a whole.

A step of a small network is thousands of kernels of microseconds each, which a processor hands to the device one by one
and more slowly than that computes them. A replay hands over all of them at once: the same kernels on the same numbers.
"""

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

WARM_UP = 3
"""Calls that run as they are, before the recording: libraries choose their kernels in the first."""


class Recorded:
    """Called as `run` is, with batches of one shape: it returns () values by name and leaves gradients behind. Those of
    `parameters` are the recording's own memory, and each call overwrites them."""

    def __init__(self, run: Callable[[Any], Mapping[str, Tensor]], parameters: Iterable[nn.Parameter]) -> None:
        self._run, self._parameters = run, list(parameters)
        self._stream, self._graph = torch.cuda.Stream(), torch.cuda.CUDAGraph()  # type: ignore[no-untyped-call]
        self._calls = 0
        self._batch: Any = None
        self._values: Mapping[str, Tensor] = {}
        self._gradients: list[tuple[nn.Parameter, Tensor]] = []

    def __call__(self, batch: Any) -> dict[str, Tensor]:
        self._calls += 1
        if self._calls <= WARM_UP:
            return self._as_it_is(batch)
        if self._calls == WARM_UP + 1:
            self._record(batch)
        for name, tensor in _tensors(batch).items():
            getattr(self._batch, name).copy_(tensor)
        self._graph.replay()
        for parameter, gradient in self._gradients:
            parameter.grad = gradient
        return {name: value.clone() for name, value in self._values.items()}

    def _as_it_is(self, batch: Any) -> dict[str, Tensor]:
        """On the stream that will be recorded, which no pass may have begun elsewhere."""
        self._stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._stream):
            values = self._run(batch)
        torch.cuda.current_stream().wait_stream(self._stream)
        return dict(values)

    def _record(self, batch: Any) -> None:
        """Nothing is computed here. Other threads may allocate meanwhile: one makes the next batches."""
        self._batch = dataclasses.replace(batch, **{name: tensor.clone() for name, tensor in _tensors(batch).items()})
        for parameter in self._parameters:
            parameter.grad = None
        with torch.cuda.graph(self._graph, stream=self._stream, capture_error_mode="thread_local"):
            self._values = self._run(self._batch)
        self._gradients = [(each, each.grad) for each in self._parameters if each.grad is not None]


def _tensors(batch: Any) -> dict[str, Tensor]:
    """Of a batch, which is a dataclass, its tensors by name."""
    values = {field.name: getattr(batch, field.name) for field in dataclasses.fields(batch)}
    return {name: value for name, value in values.items() if isinstance(value, Tensor)}
