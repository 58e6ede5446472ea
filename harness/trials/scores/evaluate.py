"""One thing's score, whatever names it: what `harness evaluate` prints, and `--to` writes.

KEY          a trial's checkpoint, sampled anew; or a file of weights, or the YAML that a trial was promoted to
FOLDER       any folder of images, brought to the data set's size; against a reference at a path, as they are;
             a diffusers pipeline (model_index.json), sampled by its own call
FILE.npz     `arr_0`, images as they are; `mu` and `sigma`, statistics, of which FD and sFID alone can be told: no score
             of pictures, so it is told at once and not stored
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from harness.data.pictures import npz_names
from harness.measure.quality import DISTANCES, Scorer, distances_of_statistics
from harness.measure.quality_config import Build
from harness.measure.quality_moments import merged
from harness.measure.quality_reference import load_statistics
from harness.measure.quality_reference_files import check_size, open_given, write_statistics
from harness.measure.statistics import sampling_difference
from harness.records.errors import UserError
from harness.records.quantity import Failed, Measured, Quantity
from harness.training.device import resolve_device
from harness.trials.scores.request import ScoreRequest, check_jobs
from harness.trials.scores.score import Inspect, data_of
from harness.trials.scores.source import Source
from harness.trials.scores.workers import scores
from harness.trials.settings import Settings
from harness.trials.spec import cache_folder
from harness.trials.trained import OTHERS, TrainedNetwork, names_network, trained_network


@dataclass(frozen=True, kw_only=True, slots=True)
class Evaluated:
    quantities: dict[str, Quantity]
    remarks: tuple[str, ...]  # what was left out


def evaluate(
    name: str,
    settings: Settings,
    *,
    network: TrainedNetwork | None = None,
    to: Path | None = None,
    build: Build | None = None,
    workers: int | None = None,
) -> Evaluated:
    """Score what `name` is (see above) against the data set or `quality.reference_path`.

    `network`: the one that it names, where that is known. `to`: where to write the images' statistics, a file that can
    itself be a reference. `build`: who made a file of statistics that does not say so. `workers`: as `scores`.
    UserError for what cannot be read or must not be compared.
    """
    path, is_network = Path(name), names_network(name)
    is_statistics = not is_network and path.is_file() and (path.suffix == ".pt" or "mu" in npz_names(path))
    if build is not None and not is_statistics:
        raise UserError(f"--build names who made a file of statistics, and {name} is none; leave it out")
    if is_statistics:
        check_jobs(path, settings, workers)
        return _statistics(path, settings, to, build)
    what = network or trained_network(name, settings.out, OTHERS) if is_network else path
    request, written = ScoreRequest(what=what, settings=settings, grid=(settings.sampling,)), list[Path]()
    (scored,) = scores(request, workers, None if to is None else _writer(to, settings, written))
    title, quantities = scored.source.title, scored.quantities
    failed = next((each for each in quantities.values() if isinstance(each, Failed)), None)
    if failed is not None:
        raise UserError(f"{title} cannot be scored: {failed.message}")
    if to is not None and not written:
        raise UserError(f"another command scored {title} meanwhile; run the same command again for {to}")
    return Evaluated(quantities=dict(quantities), remarks=scored.source.remarks)


def _writer(to: Path, settings: Settings, written: list[Path]) -> Inspect:
    """Of statistics, to that file, which is then `written`."""

    def write(source: Source, scorer: Scorer) -> None:
        about = {"images": source.identity, "shape": source.shape, **source.conditions}
        write_statistics(to, settings.quality, merged(scorer.feature_moments()), scorer.spatial_moments(), about)
        written.append(to)

    return write


def _statistics(path: Path, settings: Settings, to: Path | None, build: Build | None) -> Evaluated:
    config = settings.quality
    if to is not None:
        raise UserError(f"{path} holds statistics already; leave out --to")
    given, data = open_given(path, config, build), data_of(settings, path)
    if data is not None:
        check_size(given, data.size)
    if config.reference_path is not None and given.size is not None:
        check_size(open_given(config.reference_path, config, config.reference_build), given.size)
    device = resolve_device(settings.recipe.device)
    reference = load_statistics(config, data, cache=cache_folder(settings.out), device=device)
    ignored = (f"{path} has pictures too, which are not scored: its statistics are",) if given.pictures else ()
    return Evaluated(quantities=distances_of_statistics(given, reference), remarks=ignored)


def differences(scores: Mapping[str, Quantity], others: Mapping[str, Quantity], of: str) -> dict[str, Quantity]:
    """`kid` and `fd` of trials sampled alike: one less the other, with the sampling noise that they do not share."""
    result: dict[str, Quantity] = {}
    for name in DISTANCES:
        one, two = scores.get(name), others.get(name)
        if not isinstance(one, Measured) or not isinstance(two, Measured):
            continue
        interval = sampling_difference(one, two)
        result[f"{name} less that of {of}"] = Measured(
            value=interval.value,
            unit=one.unit,
            low=interval.low,
            high=interval.high,
            spread=f"95%, sampling noise of {one.conditions['samples']} pairs of images (jackknife); other seeds apart",
            conditions=one.conditions,
        )
    return result
