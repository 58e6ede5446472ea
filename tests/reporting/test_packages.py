"""What ships: packages of a page's trials over their size, apart from the networks and their sweeps."""

from dataclasses import replace
from typing import Any

import pytest

from harness.records.quantity import Measured
from harness.records.record import Measurement
from harness.reporting.packages import TITLE, shipped
from harness.reporting.report import NOTHING, checked_definition, frames_of
from harness.reporting.section import Frames
from harness.reporting.sections import against_cost, guidance
from harness.reporting.subjects import study_of

SIZES = {"16": 3.5, "8": 1.9, "6": 1.5, "mixed": 1.45, "4": 1.0}  # bits -> MB


def frames(synthetic: Any) -> Frames:
    definition, published = checked_definition(synthetic.definition, synthetic.published, "ablation")
    return frames_of(synthetic.store, study_of(synthetic.manifest), definition, published, NOTHING)


def scored(synthetic: Any, bits: str, value: float, **changed: Any) -> Measurement:
    """By a package of the rung `mqa`, seed 0."""
    trial = synthetic.record("mqa", 0)
    parts = {name: {**trial.protocol[name], **changed.get(name, {})} for name in ("data", "quality", "sampling")}
    conditions = {"weight_bits": bits, "package_bytes": round(1e6 * SIZES[bits]), "label": "KID-EffLite0@64, N=512"}
    kid = Measured(value=value, unit="1", low=value - 0.01, high=value + 0.02, conditions=conditions)
    settings = {"trial": trial.key, "samples": 512, "package": f"hash of {bits}", "computed": "float16", **parts}
    return Measurement(subject="score", settings=settings, quantities={"kid": kid})


@pytest.fixture
def packaged(synthetic: Any) -> Any:
    for number, bits in enumerate(SIZES):
        synthetic.store.put(scored(synthetic, bits, 0.1 + 0.05 * number))
    return synthetic


def test_each_package_stands_at_its_size_with_its_score_and_what_it_is(packaged: Any) -> None:
    content = against_cost.content(frames(packaged))
    figure = content.figure[TITLE]
    assert figure.layout.xaxis.title.text.startswith(f"{TITLE} (MB)")
    points = {trace.name: list(trace.x) for trace in figure.data if trace.mode and "markers+text" in trace.mode}
    assert points == {
        "package of 16 bits a weight": [3.5],
        "palettized, all alike": [1.9, 1.5, 1.0],
        "palettized by a plan of mixed bits": [1.45],
    }
    arrows = [list(trace.x) for trace in figure.data if trace.name == "fewer bits, all alike"]
    assert arrows == [[3.5, 1.9], [1.9, 1.5], [1.5, 1.0]], "each number of bits leads to the next fewer"
    whole = next(trace for trace in figure.data if trace.name.startswith("package of 16"))
    assert whole.error_y.array is not None
    assert "5 packages" in content.context["packages"]
    page = packaged.write()
    assert TITLE in page
    assert "not run on a phone" in page


def test_other_sampling_or_scoring_is_counted_and_not_drawn(packaged: Any) -> None:
    packaged.store.put(scored(packaged, "4", 0.9, sampling={"steps": 5}))
    unsized = scored(packaged, "8", 0.8, quality={"samples": 256})
    packaged.store.put(unsized)
    several, otherwise = shipped(frames(packaged), "kid")
    assert ([each.bits for each in several], otherwise) == (list(SIZES), 2)
    assert "2 more were sampled or scored otherwise" in against_cost.content(frames(packaged)).context["packages"]


def test_a_package_is_no_point_of_its_networks_sweep(packaged: Any) -> None:
    """At two guidance scales its scores would be a sweep, called like the network's own."""
    packaged.store.put(scored(packaged, "8", 0.01, sampling={"guidance_scale": 1.5}))
    assert guidance.content(frames(packaged)).context["sweeps"] == []
    alone = replace(scored(packaged, "8", 0.01, sampling={"guidance_scale": 1.5}))
    settings = {name: value for name, value in alone.settings.items() if name not in ("package", "computed")}
    for scale in (1.5, 2.0):
        sampling = {**settings["sampling"], "guidance_scale": scale}
        packaged.store.put(replace(alone, settings={**settings, "sampling": sampling}))
    assert len(guidance.content(frames(packaged)).context["sweeps"]) == 1


def test_a_study_without_packages_has_no_such_picture(synthetic: Any) -> None:
    content = against_cost.content(frames(synthetic))
    assert TITLE not in content.figure
    assert content.context["packages"] == ""
    assert TITLE not in synthetic.write()
