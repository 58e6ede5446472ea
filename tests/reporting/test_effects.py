"""What a factorial's page says: main effects and interactions, by arithmetic."""

import re
from dataclasses import replace
from statistics import fmean

import pytest

from harness.measure.statistics import noise_of
from harness.records.quantity import Measured, value_of
from harness.reporting.report import write_report
from harness.reporting.sections.effects import effects_of

TWO_BY_TWO = {
    "base": {"a": "0", "b": "0"},
    "a": {"a": "1", "b": "0"},
    "b": {"a": "0", "b": "1"},
    "both": {"a": "1", "b": "1"},
}


def test_effects_of_two_knobs_of_two_choices():
    effects = {effect.title: effect.contrast for effect in effects_of(TWO_BY_TWO)}
    assert effects == {
        "a: 0 to 1": {"base": -0.5, "a": 0.5, "b": -0.5, "both": 0.5},
        "b: 0 to 1": {"base": -0.5, "b": 0.5, "a": -0.5, "both": 0.5},
        "a=1 together with b=1: beyond their sum": {"base": 1.0, "a": -1.0, "b": -1.0, "both": 1.0},
    }


def test_a_refused_combination_leaves_its_pair_out_of_the_mean():
    there = {name: levels for name, levels in TWO_BY_TWO.items() if name != "both"}
    effects = {effect.title: effect.contrast for effect in effects_of(there)}
    assert effects == {"a: 0 to 1": {"base": -1.0, "a": 1.0}, "b: 0 to 1": {"base": -1.0, "b": 1.0}}


def test_of_three_knobs_an_effect_is_the_mean_over_the_others():
    rungs = {f"{a}{b}{c}": {"a": a, "b": b, "c": c} for a in "01" for b in "012" for c in "01"}
    scores = {name: 2 * int(of["a"]) + 5 * int(of["b"]) * int(of["c"]) for name, of in rungs.items()}
    values = {
        effect.title: sum(weight * scores[name] for name, weight in effect.contrast.items())
        for effect in effects_of(rungs)
    }
    assert values["a: 0 to 1"] == pytest.approx(2)
    assert values["b: 0 to 2"] == pytest.approx(5)  # 10 where c is 1, 0 where it is 0
    assert values["b=2 together with c=1: beyond their sum"] == pytest.approx(10)
    assert values["a=1 together with c=1: beyond their sum"] == pytest.approx(0)


def test_the_default_page_of_a_factorial_has_them_and_another_ablation_has_not(synthetic, page_cells):
    page = write_report(synthetic.store, synthetic.manifest, {}, None, synthetic.path).read_text()
    assert "effects" not in [cell["id"] for cell in page_cells(page) if cell["tag"] == "section"]
    names = [rung.name for rung in synthetic.manifest.rungs[:4]]
    rungs = [
        replace(rung, against=names[0] if rung.name != names[0] else None, levels=levels)
        for rung, levels in zip(synthetic.manifest.rungs[:4], TWO_BY_TWO.values(), strict=True)
    ]
    manifest = replace(synthetic.manifest, rungs=tuple(rungs))
    page = write_report(synthetic.store, manifest, {}, None, synthetic.path).read_text()
    kids = {
        name: {seed: value_of(synthetic.record(name, seed).quantities["kid"]) for seed in manifest.seeds}
        for name in names
    }
    means = [fmean(of_rung.values()) for of_rung in kids.values()]
    interaction = means[3] - means[2] - means[1] + means[0]
    interval = noise_of(kids).contrast(dict(zip(names, (1.0, -1.0, -1.0, 1.0), strict=True)))
    assert interval.value == pytest.approx(interaction)
    row = re.search(r"<tr><th scope=\"row\">a=1 together with b=1: beyond their sum</th><td>([^<]*)</td>", page)
    assert float(row[1].split()[0].replace("−", "-")) == pytest.approx(interaction, rel=0.01)
    assert "one change to the rung it is compared to" not in re.sub(r"\s+", " ", page)


def test_a_beaten_combination_leaves_the_others_to_the_scores(synthetic, page_cells):
    """Of 2 x 2 x 2 with one beaten, every effect has the means of what is left, and the page names it."""
    names = [rung.name for rung in synthetic.manifest.rungs]
    eight = [{"a": a, "b": b, "c": c} for a in "01" for b in "01" for c in "01"]
    rungs = [
        replace(rung, against=names[0] if rung.name != names[0] else None, levels=levels)
        for rung, levels in zip(synthetic.manifest.rungs, eight, strict=True)
    ]
    for seed in synthetic.manifest.seeds:
        kid = synthetic.record(names[-1], seed).quantities["kid"]
        assert isinstance(kid, Measured)
        synthetic.replace(names[-1], seed, {"kid": replace(kid, value=2.0 + seed)})
    manifest = replace(synthetic.manifest, rungs=tuple(rungs))
    page = write_report(synthetic.store, manifest, {}, None, synthetic.path).read_text()
    rows = dict(re.findall(r"<tr><th scope=\"row\">([^<]*)</th><td>([^<]*)</td>", page.split('id="effects"')[1]))
    assert {"a: 0 to 1", "b: 0 to 1", "c: 0 to 1"} <= set(rows)
    assert all(rows[name].startswith(("+", "−", "0")) for name in ("a: 0 to 1", "b: 0 to 1", "c: 0 to 1"))
    assert f"scores leave out what a control beats ({rungs[-1].title})" in re.sub(r"\s+", " ", page)
