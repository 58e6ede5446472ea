"""The commands about a trained network's samples: `harness sample`, for its page, and `harness evaluate`, at the few
steps of a student and at those of the network before it."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from harness.chain.settings import KEY, words_of
from harness.chain.step import DIGITS, Step
from harness.diffusion.config import SamplingConfig
from harness.records.plain import fingerprint, identity, to_plain
from harness.records.store import Store
from harness.trials.scored_at import ScoredAt
from harness.trials.scores.request import sampling_grid

SAMPLED_BY = ("data", "text", "autoencoder")
"""The settings that a command about a network's samples has to be told."""
SCORED_BY = ("quality.reference_path", "quality.extractor.weights")
"""Those that one about their scores has to be told too: records hold contents, and no paths."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ScoreGrid:
    """Where both networks are scored: every number of steps with every guidance scale."""

    steps: tuple[int, ...]
    guidance: tuple[float, ...]
    base: SamplingConfig
    """What else there is to say: the solver, and where its steps lie."""

    @property
    def points(self) -> tuple[SamplingConfig, ...]:
        return sampling_grid(self.base, self.guidance, self.steps)

    @property
    def words(self) -> list[str]:
        """As `harness evaluate` is told."""
        path = {f"sampling.{name}": getattr(self.base, name) for name in ("solver", "times", "shift")}
        scales = (f"{scale:g}" for scale in self.guidance)
        return ["--steps", *map(str, self.steps), "--guidance", *scales, *words_of(path, ("sampling",))]


def score_grid(at: ScoredAt | None, own: SamplingConfig, before: SamplingConfig) -> ScoreGrid:
    """What the stage asks for; None: the student's steps and those of the one before it, with that one's guidance and
    without."""
    if at is not None:
        return ScoreGrid(steps=at.steps, guidance=at.guidance, base=replace(own, solver=at.solvers[0]))
    steps = tuple(dict.fromkeys((own.steps, before.steps)))
    return ScoreGrid(steps=steps, guidance=tuple(dict.fromkeys((1.0, before.guidance_scale))), base=own)


def score_step(key: str, settings: Mapping[str, Any], grid: ScoreGrid, store: Store, out: str) -> Step:
    """A network's scores; `settings`: those that it was trained by."""
    paths = {name: settings[name] for name in SCORED_BY if name in settings}
    settings_words = (*words_of(settings, SAMPLED_BY), *words_of(paths, ("quality",)))
    words = ("evaluate", key, *grid.words, *settings_words, out)
    return Step(words=words, done=key != KEY and _are_scored(key, grid, store))


def _are_scored(key: str, grid: ScoreGrid, store: Store) -> bool:
    """Whether the store has a score of that trial, by its own protocol, at each of these settings of sampling."""
    record = store.trial(key)
    alike = {"trial": key, "quality": None if record is None else record.protocol.get("quality")}
    stored = [
        each.settings["sampling"]
        for each in store.measurements("score")
        if "average" not in each.settings and all(each.settings.get(name) == alike[name] for name in alike)
    ]
    return all(identity(point) in stored for point in grid.points)


def sample_step(
    key: str, settings: Mapping[str, Any], count: int, sampling: SamplingConfig | None, file: Path, out: str
) -> Step:
    """A picture of samples, beside the `file` that the network was trained by; of its own sampling, if `sampling` is
    none."""
    words = ["--count", str(count)]
    if sampling is not None:
        plain: Any = to_plain(sampling)
        names = ("solver", "steps", "times", "shift", "guidance_scale")
        words += words_of({f"sampling.{name}": plain[name] for name in names}, ("sampling",))
    words += words_of(settings, SAMPLED_BY)
    digits = fingerprint(["sample", *words], schema="chain-1")[:DIGITS]
    path = file.with_name(f"{file.stem}-{key}-{digits}.png")
    return Step(words=("sample", key, *words, "--to", str(path), out), done=path.is_file())
