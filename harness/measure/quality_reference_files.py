"""References and results in the field's formats: who made them, what they may be compared with, and what is refused.

    FILE.npz    mu (D,), sigma (D, D): mean and covariance (N - 1) of features; mu_s, sigma_s: of spatial ones; arr_0:
                pictures. ADM's reference has all five, and its arr_0 are 10,000 pictures for precision and recall alone
    FILE.pt     torch-fidelity's own cache of mu and sigma
    FOLDER      pictures, whose features are computed here

A file that this program wrote says what its features are (`about`), and is refused where they are others. Another's
does not: its maker has to be named (`quality.reference_build`), and only those whose Inception has the same weights and
the same resizing as ours are known. Stored statistics are never mixed with recomputed ones.
"""

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from harness.data.pictures import ARRAY, Pictures, npz_arrays, npz_digest, npz_names, open_folder, open_npz
from harness.measure.quality_config import Build, QualityConfig
from harness.measure.quality_distances import Gaussian
from harness.measure.quality_moments import Moments
from harness.models.extractor_config import ExtractorConfig, InceptionV3Extractor, extractor_identity, extractor_name
from harness.records.errors import UserError
from harness.records.plain import canonical_json, identity
from harness.records.store import write_atomic

ABOUT = "unet_harness"
SCHEMA = "unet-harness-statistics-1"
BUILDS: dict[Build, str] = {
    "adm": "guided-diffusion's TensorFlow graph",
    "torch_fidelity": "torch-fidelity's Inception",
    "clean_fid_legacy_tensorflow": "clean-fid's Inception in its mode legacy_tensorflow",
}
OTHER_RESIZING = ("_clean_", "_legacy_pytorch_")  # clean-fid's names say the mode: cifar10_clean_train_32.npz
SYMMETRIC = 1e-6  # of the largest entry


@dataclass(frozen=True, kw_only=True, slots=True)
class Statistics:
    """Mean and covariance of features, and what is known of them."""

    mean: Tensor  # (D,) float64
    covariance: Tensor  # (D, D) float64
    samples: int | None  # None where the file does not say

    @classmethod
    def of(cls, moments: Moments) -> "Statistics":
        return cls(mean=moments.mean, covariance=moments.covariance, samples=moments.count)

    @property
    def gaussian(self) -> Gaussian:
        return Gaussian.of_statistics(self.mean, self.covariance)


@dataclass(frozen=True, kw_only=True, slots=True)
class Given:
    """What lies at a path, opened: statistics, pictures, or both."""

    name: str
    digest: str
    build: str  # who made the statistics; "" for pictures alone
    statistics: Statistics | None = None
    spatial: Statistics | None = None
    pictures: Pictures | None = None
    size: int | None = None  # of the images that the statistics are of; None where the file does not say

    @property
    def samples(self) -> int | None:
        """Images behind the statistics, or else of the pictures; None where the file does not say."""
        if self.statistics is not None:
            return self.statistics.samples
        return None if self.pictures is None else self.pictures.count

    def __str__(self) -> str:
        return f"{self.name} ({self.digest})"


def open_given(path: Path, config: QualityConfig, build: Build | None) -> Given:
    """The file or folder at `path`, whose statistics must be of the extractor in `config`.

    Raises UserError, one sentence, for what is missing, damaged, of another extractor or of an unnamed maker.
    """
    if path.is_dir():
        folder = open_folder(path)
        _check_no_build(path, build)
        return Given(name=path.name, digest=folder.digest, build="", pictures=folder)
    if not path.is_file():
        raise UserError(f"{path} is neither a file nor a folder; give statistics, an .npz of pictures or a folder")
    if path.suffix == ".pt":
        return _with_statistics(path, _torch_fidelity_cache(path), config.extractor, build, None)
    names = npz_names(path)
    pictures = open_npz(path) if ARRAY in names else None
    if not names & {"mu", "sigma"}:
        if pictures is None:
            held = ", ".join(sorted(names)[:8]) or "nothing"
            raise UserError(f"{path} holds {held}, and needs mu and sigma, or pictures as {ARRAY}; give another file")
        _check_no_build(path, build)
        return Given(name=path.name, digest=pictures.digest, build="", pictures=pictures)
    wanted = names & {"mu", "sigma", "mu_s", "sigma_s", ABOUT}
    return _with_statistics(path, npz_arrays(path, wanted), config.extractor, build, pictures)


def quality_identity(config: QualityConfig, size: int) -> dict[str, Any]:
    """What a protocol says of scoring; of the extractor and of a reference at a path contents, not paths.

    UserError for a reference that images of `size` px cannot be compared with.
    """
    settings: Any = identity(config)
    what: dict[str, Any] = {**settings, "extractor": extractor_identity(config.extractor)}
    if config.reference_path is not None:
        given = open_given(config.reference_path, config, config.reference_build)
        check_size(given, size)
        what["reference_content"] = given.digest
    return what


def check_size(given: Given, size: int) -> None:
    """Refuse pictures of another size than the images that are to be scored."""
    height, width = (given.size, given.size) if given.pictures is None else given.pictures.shape[1:]
    if height is not None and (height, width) != (size, size):
        raise UserError(
            f"{given.name} is of pictures of {width} x {height}, and the images to score are {size} x {size}; give "
            "pictures or a reference of the same size"
        )


def write_statistics(
    path: Path, config: QualityConfig, features: Moments, spatial: Moments | None, about: Mapping[str, Any]
) -> None:
    """An .npz in the field's form that also says what its features are; `about`: of which images they are, with their
    `shape` (C, H, W)."""
    arrays: dict[str, NDArray[Any]] = {"mu": features.mean.numpy(), "sigma": features.covariance.numpy()}
    if spatial is not None:
        arrays |= {"mu_s": spatial.mean.numpy(), "sigma_s": spatial.covariance.numpy()}
    extractor = extractor_identity(config.extractor)
    head = {"schema": SCHEMA, "extractor": extractor, "samples": features.count, **about}
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **arrays, **{ABOUT: np.array(canonical_json(head))})
    write_atomic(path, buffer.getvalue())


def _with_statistics(
    path: Path,
    arrays: Mapping[str, NDArray[Any]],
    extractor: ExtractorConfig,
    build: Build | None,
    pictures: Pictures | None,
) -> Given:
    about = _about(path, arrays)
    made_by = _checked_build(path, about, extractor, build)
    samples = None if about is None else int(about["samples"])
    digest = pictures.digest if pictures is not None else npz_digest(path)
    spatial = _statistics(path, arrays, "_s", samples) if {"mu_s", "sigma_s"} & arrays.keys() else None
    statistics = _statistics(path, arrays, "", samples)
    return Given(
        name=path.name, digest=digest, build=made_by, statistics=statistics, spatial=spatial, pictures=pictures,
        size=None if about is None else about["size"],
    )  # fmt: skip


def _statistics(path: Path, arrays: Mapping[str, NDArray[Any]], suffix: str, samples: int | None) -> Statistics:
    names = (f"mu{suffix}", f"sigma{suffix}")
    if missing := [name for name in names if name not in arrays]:
        raise UserError(f"{path} has no {missing[0]}, and statistics need {' and '.join(names)}; fetch it again")
    mean, covariance = (arrays[name] for name in names)
    if mean.ndim != 1 or covariance.shape != (len(mean), len(mean)):
        raise UserError(
            f"{names[0]} and {names[1]} of {path} must be (D,) and (D, D), not {mean.shape} and {covariance.shape}; "
            "fetch it again"
        )
    if any(each.dtype.kind != "f" or not np.isfinite(each).all() for each in (mean, covariance)):
        raise UserError(f"{names[0]} and {names[1]} of {path} are not finite numbers throughout; fetch it again")
    apart = float(np.abs(covariance - covariance.T).max())
    if apart > SYMMETRIC * float(np.abs(covariance).max()) or covariance.diagonal().min() < 0:
        raise UserError(f"{names[1]} of {path} is no covariance: it is not symmetric, or has a negative variance")
    as_tensors = (torch.from_numpy(each.astype(np.float64)) for each in (mean, covariance))
    return Statistics(mean=next(as_tensors), covariance=next(as_tensors), samples=samples)


def _about(path: Path, arrays: Mapping[str, NDArray[Any]]) -> dict[str, Any] | None:
    """What a file of this program says of itself; None for another's."""
    if ABOUT not in arrays:
        return None
    try:
        about = json.loads(str(arrays[ABOUT]))
        if about["schema"] != SCHEMA:
            raise ValueError(f"its form is {about['schema']}, and {SCHEMA} is read")
        size = int(about["shape"][-1])
        return {"extractor": dict(about["extractor"]), "samples": int(about["samples"]), "size": size}
    except (ValueError, TypeError, KeyError) as error:
        raise UserError(f"{path} does not say rightly what its statistics are of ({error}); write it again") from error


def _checked_build(path: Path, about: Mapping[str, Any] | None, extractor: ExtractorConfig, build: Build | None) -> str:
    """Who made the statistics; UserError where they are of other features than the extractor's."""
    own = extractor_identity(extractor)
    if about is not None:
        _check_no_build(path, build)
        differing = sorted(name for name in own if own[name] != about["extractor"].get(name))
        if differing:
            shown = ", ".join(f"{name} {about['extractor'].get(name)}, not {own[name]}" for name in differing)
            raise UserError(
                f"{path} holds statistics of other features: {shown}; give quality.extractor as it was then"
            )
        return "unet-harness"
    if build is None:
        raise UserError(
            f"{path} does not say which network its statistics are of; name its maker, quality.reference_build="
            f"{'|'.join(BUILDS)}"
        )
    if not isinstance(extractor, InceptionV3Extractor):
        raise UserError(
            f"{path} holds statistics of Inception's features ({BUILDS[build]}), and quality.extractor is "
            f"{extractor_name(extractor)}; take quality.extractor.kind=inception_v3, or another reference"
        )
    if marks := [mark for mark in OTHER_RESIZING if mark in path.name]:
        raise UserError(
            f"{path} is of clean-fid's mode {marks[0].strip('_')} by its name, which resizes otherwise than the "
            "published FID's Inception; take its statistics of mode legacy_tensorflow"
        )
    return BUILDS[build]


def _check_no_build(path: Path, build: Build | None) -> None:
    if build is not None:
        raise UserError(
            f"quality.reference_build={build} is for statistics that do not say what they are of, and {path} does, or "
            "holds pictures alone; leave it out"
        )


def _torch_fidelity_cache(path: Path) -> dict[str, NDArray[Any]]:
    """torch-fidelity keeps statistics as a mapping of NumPy arrays under torch.save; nothing else is unpickled."""
    from numpy._core import multiarray

    rebuild: Any = vars(multiarray)["_reconstruct"]
    known = [rebuild, np.ndarray, np.dtype, np.dtypes.Float32DType, np.dtypes.Float64DType]
    try:
        with torch.serialization.safe_globals(known):
            stored = torch.load(path, map_location="cpu", weights_only=True)
        return {str(name): np.asarray(stored[name]) for name in stored}
    except Exception as error:  # torch.load raises nearly anything of damaged bytes
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:120]
        raise UserError(f"{path} holds no statistics of torch-fidelity that can be read ({reason})") from error
