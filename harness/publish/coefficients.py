"""A solver's whole run as numbers: all that a program without this package, such as a phone's app, needs of it.

    z_k     = a_k0 e + a_k1 o_1 + ... + a_k(k-1) o_(k-1)      what the network sees at its k-th evaluation
    o_k     = o_empty + w_k (o_prompt - o_empty)              what it gives for z_k at its time s_k; w_k = 1: o_prompt
    picture = b_0 e + b_1 o_1 + ... + b_n o_n

with noise e ~ N(0, I); `harness.device.picture` is a program that computes so. Every solver here, and every change from
a network's prediction to a velocity, is linear in the noise and the network's outputs. So the numbers are not written
down a second time: `solve` itself runs once, in float64, on unit vectors in place of the noise and of each output, and
what it computes are the coefficients.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from harness.architecture.prediction import Prediction
from harness.device.picture import Evaluation
from harness.diffusion.config import SamplingConfig
from harness.diffusion.prediction import path_of, straight_times, velocity_of
from harness.diffusion.solvers import SOLVERS, solve


@dataclass(frozen=True, kw_only=True, slots=True)
class Coefficients:
    evaluations: tuple[Evaluation, ...]
    picture: tuple[float, ...]
    """b_0, b_1, ..., b_n."""


def coefficients(prediction: Prediction, config: SamplingConfig) -> Coefficients:
    """Of the solver, steps, times and guidance of `config`, for a network that predicts so."""
    unit = torch.eye(1 + len(config.evaluated_at), dtype=torch.float64)  # row 0: the noise; row k: the k-th output
    network, path = _Recorder(unit), path_of(prediction)
    velocity, scales = velocity_of(network, prediction), []

    def v(x: Tensor, t: float) -> Tensor:
        scales.append(config.scale_at(path.own(t)))
        return velocity(x, t, unit[:0], None)

    times = straight_times(prediction, config.solver_times)
    (picture,) = solve(SOLVERS[config.solver], v, path.start * unit[:1], times).tolist()
    evaluations = tuple(
        Evaluation(time=time, guidance=scale, state=tuple(state[:number]))
        for number, (state, time, scale) in enumerate(zip(network.states, network.times, scales, strict=True), 1)
    )
    return Coefficients(evaluations=evaluations, picture=tuple(picture))


class _Recorder(nn.Module):
    """In the network's place: keeps what it is called with, and gives the next unit vector."""

    def __init__(self, unit: Tensor) -> None:
        super().__init__()
        self.unit = unit
        self.states: list[list[float]] = []
        self.times: list[float] = []

    def forward(self, state: Tensor, time: Tensor, _context: Tensor, _mask: Tensor | None) -> Tensor:
        self.states.append(state[0].tolist())
        self.times.append(float(time[0]))
        return self.unit[len(self.states)][None]
