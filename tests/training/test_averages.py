"""Averages of the weights of any span: what is tracked, what is kept, and what is made of it afterwards."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_training import RECIPE, run, tiny_network
from torch import nn

from harness.records.errors import UserError
from harness.training.ema import PowerAverages
from harness.training.loop import SNAPSHOTS
from harness.training.post_hoc import (
    WIDEST,
    Profile,
    coefficients,
    profile_error,
    read_snapshot,
    reconstructed,
    snapshots_in,
)

SPANS = (0.05, 0.1)
AVERAGED = dataclasses.replace(RECIPE, ema_spans=SPANS, ema_snapshot_every=3)


@pytest.mark.parametrize(("span", "exponent"), [(0.05, 16.97), (0.10, 6.94)])
def test_exponents_are_the_published_ones(span: float, exponent: float) -> None:
    """Karras et al. 2024, section 3.2."""
    assert Profile(1, span).exponent == pytest.approx(exponent, abs=5e-3)


@pytest.mark.parametrize("span", [0.01, 0.05, 0.1, 0.2, 0.28])
def test_the_span_is_the_standard_deviation_of_the_profile(span: float) -> None:
    g = Profile(1, span).exponent
    mean, square = (g + 1) / (g + 2), (g + 1) / (g + 3)
    assert np.sqrt(square - mean**2) == pytest.approx(span, rel=1e-9)
    assert np.sqrt((g + 1) / (g + 3)) / (g + 2) == pytest.approx(span, rel=1e-9)


@pytest.mark.parametrize("span", SPANS)
def test_what_is_tracked_on_a_linear_sequence_has_its_closed_form(span: float) -> None:
    """Weights that are k after step k: step k counts k^(g+1) - (k-1)^(g+1), of t^(g+1) in all."""
    model, last = nn.Linear(1, 1, bias=False, dtype=torch.float64), 200
    averages = PowerAverages(model, [span])
    for step in range(1, last + 1):
        model.weight.data.fill_(step)
        averages.update(model, step)
    power, steps = Profile(1, span).exponent + 1, np.arange(1.0, last + 1)
    expected = (steps * (steps**power - (steps - 1) ** power)).sum() / last**power
    (average,) = averages.tensors().values()
    assert average.item() == pytest.approx(expected, rel=1e-12)


def test_a_snapshot_is_made_of_itself_alone() -> None:
    profiles = [Profile(step, span) for step in (100, 200, 300) for span in SPANS]
    for number, profile in enumerate(profiles):
        assert coefficients(profiles, profile) == pytest.approx(np.eye(len(profiles))[number], abs=1e-6)
        assert profile_error(profiles, profile) < 1e-6


@pytest.mark.parametrize("span", [0.03, 0.07, 0.15, 0.2])
def test_the_sums_profile_comes_close_and_closer_with_more_snapshots(span: float) -> None:
    """Between the two spans that are kept, and beyond them."""
    errors = []
    for every in (200, 100, 50):
        profiles = [Profile(step, kept) for step in range(every, 1001, every) for kept in SPANS]
        errors.append(profile_error(profiles, Profile(1000, span)))
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 0.05
    # against the profiles themselves, on a grid
    profiles = [Profile(step, kept) for step in range(50, 1001, 50) for kept in SPANS]
    at = np.arange(0.5, 1000)
    shapes = np.array([np.where(at <= each.step, (each.exponent + 1) / each.step * (at / each.step) ** each.exponent, 0)
                       for each in (*profiles, Profile(1000, span))])  # fmt: skip
    difference = coefficients(profiles, Profile(1000, span)) @ shapes[:-1] - shapes[-1]
    assert np.linalg.norm(difference) / np.linalg.norm(shapes[-1]) == pytest.approx(errors[-1], abs=0.01)


def test_made_afterwards_it_is_what_was_tracked_directly(tmp_path: Path) -> None:
    """On a real training, at the last step and before it, to the profile's error; other spans are farther by far."""
    recipe = dataclasses.replace(
        RECIPE, steps=240, schedule="constant", ema_spans=(0.05, 0.07, 0.1, 0.15), ema_snapshot_every=20,
        validate_every=1000, checkpoint_every=1000,
    )  # fmt: skip
    trained = run(tmp_path, recipe, model=tiny_network())
    kept = [path for path in trained.snapshots if path.name[8:13] in ("0.050", "0.100")]
    assert len(kept) == 24
    for span, step in ((0.07, 240), (0.15, 240), (0.07, 120)):
        directly = read_snapshot(tmp_path / SNAPSHOTS / Profile(step, span).file_name, "tiny")[1]
        made = reconstructed(kept, span, "tiny", step)
        other = read_snapshot(tmp_path / SNAPSHOTS / Profile(step, 0.05).file_name, "tiny")[1]
        assert distance(made, directly) < 0.1 * distance(other, directly)
        assert made["norm.num_batches_tracked"] == directly["norm.num_batches_tracked"]


def distance(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> float:
    """Over all weights, without what is copied."""
    names = [name for name in ours if "running" not in name and "num_batches" not in name]
    return float(torch.cat([(ours[name] - theirs[name]).flatten() for name in names]).norm())


def test_they_change_nothing_else_and_are_continued_to_the_bit(tmp_path: Path) -> None:
    class KilledError(Exception):
        pass

    def kill(step: int, _of: int) -> None:
        if step == 8:
            raise KilledError

    whole = run(tmp_path / "whole", AVERAGED)
    assert whole.curve == run(tmp_path / "without").curve
    with pytest.raises(KilledError):
        run(tmp_path / "cut", AVERAGED, on_progress=kill)
    cut = run(tmp_path / "cut", AVERAGED)
    assert [path.name for path in cut.snapshots] == [path.name for path in whole.snapshots]
    assert len(whole.snapshots) == 2 * 5  # after steps 3, 6, 9, 12 and 14
    assert all(ours.read_bytes() == theirs.read_bytes() for ours, theirs in zip(whole.snapshots, cut.snapshots))  # noqa: B905


def test_one_that_was_not_tracked_from_the_first_step_is_refused(tmp_path: Path) -> None:
    run(tmp_path, dataclasses.replace(RECIPE, ema_spans=(0.05,)))
    with pytest.raises(UserError, match=r"an average of span 0\.1 from the first step on, and this training was with"):
        run(tmp_path, AVERAGED)


@pytest.mark.parametrize(
    ("spans", "sentence"),
    [
        ((0.05, 0.05), "different spans"),
        ((0.3,), "below 0.2887"),
        ((0.0,), "above 0"),
        ((0.0501,), "three digits"),
    ],
)
def test_spans_that_cannot_be(spans: tuple[float, ...], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        dataclasses.replace(RECIPE, ema_spans=spans)


def test_what_is_damaged_or_foreign_is_one_sentence(tmp_path: Path) -> None:
    files = run(tmp_path, AVERAGED).snapshots
    with pytest.raises(UserError, match="is an average of another network's weights"):
        reconstructed(files, 0.07, "other")
    with pytest.raises(UserError, match="there are averages up to step 14, and one after step 15 is asked for"):
        reconstructed(files, 0.07, "tiny", 15)
    with pytest.raises(UserError, match=r"an average's span is above 0 and below 0\.2887, the plain mean's, not 0\.3"):
        reconstructed(files, 0.3, "tiny")
    with pytest.raises(UserError, match="there are averages up to step 0"):
        reconstructed([], 0.07, "tiny")
    files[0].write_bytes(files[0].read_bytes()[:-8])
    with pytest.raises(UserError, match="is no average that a training wrote"):
        reconstructed(files, 0.07, "tiny")


def test_the_widest_is_the_plain_mean() -> None:
    assert Profile(10, WIDEST - 1e-9).exponent == pytest.approx(0, abs=1e-3)


def test_snapshots_lie_beside_the_checkpoints(tmp_path: Path) -> None:
    trained = run(tmp_path, AVERAGED)
    assert snapshots_in(tmp_path / SNAPSHOTS) == list(trained.snapshots)
    assert trained.snapshots[0].name == "average-0.050-00000003.safetensors"
