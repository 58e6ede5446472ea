"""An average of any span, made after training from snapshots of averages of other spans (Karras et al. 2024, arXiv
2312.02696, section 3.2).

A snapshot is a power-function average after some step, a sum of all weights so far with the profile p_t (see `ema`). A
sum of snapshots is such a sum too; the coefficients that bring its profile closest to a wanted one are

    X = A^-1 B,   A_ij = <p_i, p_j>,   B_i = <p_i, p_wanted>                                    (Algorithm 3)

    <p_s, p_t> = (g_s + 1)(g_t + 1) / ((g_s + g_t + 1) max(s, t)) * (s / t)^(g_t if s < t else -g_s)   (eq. 151)

where s, t are steps and g_s, g_t exponents; divided by their sum, which a finite number of snapshots leaves near 1.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from harness.models.weights import tensors_sha256
from harness.records.errors import UserError
from harness.records.plain import fingerprint
from harness.records.store import write_atomic

WIDEST = 12**-0.5
"""The span of the plain mean of all weights, exponent 0."""
METADATA = "unet-harness-average-1"


@dataclass(frozen=True, order=True, slots=True)
class Profile:
    """Of a power-function average."""

    step: int
    """The last one that it has weights of."""
    span: float
    """Its standard deviation as a share of `step`; below `WIDEST`."""

    def __post_init__(self) -> None:
        check_span(self.span)
        if self.step < 1:
            raise UserError(f"an average is of a step from 1, not {self.step}")

    @property
    def exponent(self) -> float:
        """g, the root of (g + 2)^2 (g + 3) span^2 = g + 1 from 0 (eq. 126)."""
        square = self.span**-2
        return float(np.roots([1, 7, 16 - square, 12 - square]).real.max())

    @property
    def file_name(self) -> str:
        return f"average-{self.span:.3f}-{self.step:08d}.safetensors"


def check_span(span: float) -> None:
    if not 0 < span < WIDEST:
        raise UserError(f"an average's span is above 0 and below {WIDEST:.4f}, the plain mean's, not {span:g}")


def coefficients(snapshots: Sequence[Profile], wanted: Profile) -> NDArray[np.float64]:
    """(len(snapshots),) what to multiply each with; their sum is 1."""
    step, exponent = _columns(snapshots)
    wanted_step, wanted_exponent = _columns([wanted])
    among = _products(step[:, None], exponent[:, None], step[None], exponent[None])
    with_wanted = _products(step, exponent, wanted_step, wanted_exponent)
    solution = np.linalg.lstsq(among, with_wanted, rcond=None)[0]
    return np.asarray(solution / solution.sum(), np.float64)


def profile_error(snapshots: Sequence[Profile], wanted: Profile) -> float:
    """How far the sum's profile is from the wanted one: the norm of their difference over the norm of the wanted."""
    weights = coefficients(snapshots, wanted)
    step, exponent = _columns(snapshots)
    wanted_step, wanted_exponent = _columns([wanted])
    own = weights @ _products(step[:, None], exponent[:, None], step[None], exponent[None]) @ weights
    both = weights @ _products(step, exponent, wanted_step, wanted_exponent)
    (norm,) = _products(wanted_step, wanted_exponent, wanted_step, wanted_exponent)
    return float(np.sqrt(max(0.0, own - 2 * both + norm) / norm))


def _columns(profiles: Sequence[Profile]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    return np.array([float(each.step) for each in profiles]), np.array([each.exponent for each in profiles])


def _products(
    s: NDArray[np.float64], g_s: NDArray[np.float64], t: NDArray[np.float64], g_t: NDArray[np.float64]
) -> NDArray[np.float64]:
    products: NDArray[np.float64] = (
        (g_s + 1) * (g_t + 1) / ((g_s + g_t + 1) * np.maximum(s, t)) * (s / t) ** np.where(s < t, g_t, -g_s)
    )
    return products


def write_snapshot(folder: Path, profile: Profile, tensors: Mapping[str, Tensor], architecture: str) -> None:
    """`architecture` is the fingerprint of what the weights are of."""
    content = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    about = {
        "step": profile.step,
        "span": profile.span,
        "architecture": architecture,
        "tensors_sha256": tensors_sha256(content),
    }
    write_atomic(folder / profile.file_name, save(content, {METADATA: json.dumps(about)}))


def read_snapshot(path: Path, architecture: str) -> tuple[Profile, dict[str, Tensor]]:
    """UserError for a file that is damaged, or of another architecture."""
    about = _about(path)
    with safe_open(path, "pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    if tensors_sha256(tensors) != about["tensors_sha256"]:
        raise UserError(f"{path} was altered: its tensors are not those that were written; train again")
    if about["architecture"] != architecture:
        raise UserError(f"{path} is an average of another network's weights; give that network's")
    return Profile(about["step"], about["span"]), tensors


def snapshots_identity(files: Iterable[Path]) -> str:
    """Of what averages are made of: a digest of the files' own sums, which reading them verifies."""
    return fingerprint([_about(path) for path in files], schema="averages-1")


def _about(path: Path) -> dict[str, Any]:
    """What a file says of itself. UserError for one that is damaged, or of another program."""
    try:
        with safe_open(path, "pt") as file:
            about: dict[str, Any] = json.loads((file.metadata() or {})[METADATA])
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        raise UserError(f"{path} is no average that a training wrote ({error}); train again") from error
    return about


def snapshots_in(folder: Path) -> list[Path]:
    return sorted(folder.glob("average-*.safetensors"))


def reconstructed(files: Iterable[Path], span: float, architecture: str, step: int | None = None) -> dict[str, Tensor]:
    """The average of that span after `step`, by default the last one that there is a snapshot of; float32, summed in
    float64 one file at a time. UserError where there are no snapshots so far, and as `read_snapshot`."""
    paths = {_profile_of(path): path for path in files}
    last = max((profile.step for profile in paths), default=0)
    wanted = Profile(max(1, last if step is None else step), span)
    used = [profile for profile in sorted(paths) if profile.step <= wanted.step]
    if not used or wanted.step > last:
        raise UserError(f"there are averages up to step {last}, and one after step {wanted.step} is asked for")
    sums: dict[str, Tensor] = {}
    for profile, coefficient in zip(used, coefficients(used, wanted), strict=True):
        stored, tensors = read_snapshot(paths[profile], architecture)
        if stored.step != profile.step:
            raise UserError(f"{paths[profile]} is of step {stored.step}; call it as it was written, or train again")
        for name, tensor in tensors.items():
            if tensor.is_floating_point():
                sums[name] = sums.get(name, 0) + float(coefficient) * tensor.double()
            else:
                sums[name] = tensor  # a count: the last one's
    return {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in sums.items()}


def _profile_of(path: Path) -> Profile:
    try:
        _, span, step = path.stem.split("-")
        return Profile(int(step), float(span))
    except ValueError as error:
        raise UserError(f"{path} is not called average-SPAN-STEP.safetensors, as a training calls them") from error
