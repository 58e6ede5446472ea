"""`harness bits KEY`: packages of several sizes of one network, made once; and what each is held against."""

import json
from dataclasses import replace

import pytest
import torch
from test_scores_package import QUALITY
from torch import nn

from harness.cli import main
from harness.coreml.export import metadata_of, package_bytes
from harness.coreml.mil_program import read_program
from harness.coreml.palette_measure import large_weights
from harness.coreml.palette_plan import read_plan
from harness.measure.statistics import SHARED, jackknife_difference
from harness.records.quantity import Failed, Measured
from harness.trials.scores import bits
from harness.trials.scores.bits import ARMS, NETWORK, Packages, Shipped, bits_curve, differences_of
from harness.trials.shipping import Subject
from harness.trials.trained import BITS, TRIAL, network_and_settings


def score(value, seed):
    """With replicates of ten groups."""
    spread = torch.randn(10, generator=torch.Generator().manual_seed(seed)).tolist()
    replicates = tuple(value + 0.01 * each for each in spread)
    return Measured(value=value, unit="1", replicates=replicates, conditions=dict.fromkeys(SHARED, "the same"))


@pytest.fixture
def trained(spec, monkeypatch):
    """The trial's network, in whose place two convolutions are converted, and how often they were."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = nn.Sequential(nn.Conv2d(8, 64, 3, padding=1), nn.Conv2d(64, 32, 3, padding=1))
    converted = []

    def of_trained(trained, settings):
        converted.append(trained.key)
        inputs = [(torch.randn(1, 8, 8, 8, generator=torch.Generator().manual_seed(seed)),) for seed in (1, 2)]
        return Subject(
            module=network, inputs=inputs, source="2 inputs", about={TRIAL: trained.key}, cache=settings.out / "cache"
        )

    monkeypatch.setattr(bits, "of_trained", of_trained)
    found, settings = network_and_settings(spec.key, QUALITY, scored=True)
    return found, replace(settings, out=spec.settings.out / "of_bits"), converted


def test_mixed_packages_are_as_large_as_those_of_equal_bits_and_no_larger(trained):
    packages = Packages(*trained[:2])
    made = {arm.name: packages.made(arm) for arm in ARMS}
    sizes = {name: package_bytes(path) for name, path in made.items()}
    assert sizes["16 bits"] > sizes["8 bits"] > sizes["6 bits"] > sizes["4 bits"]
    for within in (6, 4):
        assert 0.8 * sizes[f"{within} bits"] < sizes[f"mixed, within {within}"] < 1.01 * sizes[f"{within} bits"]
        plan = read_plan(made[f"mixed, within {within}"].with_suffix(".palettes.yaml"))
        assert set(plan) == {name for _, _, name in large_weights(read_program(made["16 bits"]))}
    told = {name: metadata_of(path)[BITS] for name, path in made.items()}
    assert told == {arm.name: "mixed" if arm.bits is None else str(arm.bits) for arm in ARMS}


def test_a_package_that_is_there_is_kept_and_one_of_other_weights_is_not(trained):
    found, settings, converted = trained
    folders = []
    for _ in range(2):
        paths = [Packages(found, settings).made(arm) for arm in ARMS]
        folders.append([path.stat().st_ino for path in paths])
    assert folders[0] == folders[1]
    before = len(converted)
    others = replace(settings, sampling=replace(settings.sampling, steps=3))  # whose inputs are others
    Packages(found, others).made(ARMS[0])
    assert len(converted) == before + 1


def test_each_arm_is_scored_by_its_package_and_held_against_its_own(trained, monkeypatch):
    found, settings, _ = trained
    asked = []

    def scores(what, _settings):
        asked.append(what.package and what.package.name)
        return {"kid": score(0.1 + 0.01 * len(asked), len(asked)), "fd": Failed(phase="sample", message="no number")}

    monkeypatch.setattr(bits, "_scores", scores)
    curve = bits_curve(found, settings)
    assert asked == [None, *(arm.file for arm in ARMS)]
    assert [each.bytes is None for each in curve] == [True] + [False] * 6
    assert curve[1].psnr_db > curve[2].psnr_db > curve[3].psnr_db > curve[5].psnr_db, "fewer bits, further off"
    pairs = {arm: other for arm, other in ((each.name, each.against) for each in curve) if other}
    assert pairs == {
        "16 bits": NETWORK, "8 bits": "16 bits", "6 bits": "16 bits", "4 bits": "16 bits",
        "mixed, within 6": "6 bits", "mixed, within 4": "4 bits",
    }  # fmt: skip
    told = differences_of(curve)
    assert {name for name, _ in told} == set(pairs)
    assert {quantity for _, quantity in told} == {"kid"}, "a score that failed has no difference"


def test_differences_are_paired_and_hold_for_all_together():
    curve = [Shipped(name="a", scores={"kid": score(0.1, 1)})]
    curve += [Shipped(name=f"b{n}", against="a", scores={"kid": score(0.1 + n, n)}) for n in (2, 3, 4)]
    a, b = (each.scores["kid"] for each in curve[:2])
    told = differences_of(curve)["b2", "kid"]
    expected = jackknife_difference((b.value, b.replicates), (a.value, a.replicates), 1 - 0.05 / 3)
    single = jackknife_difference((b.value, b.replicates), (a.value, a.replicates))
    assert told == expected
    assert told.high - told.low > single.high - single.low


def test_a_package_in_a_trials_place_and_scores_without_a_distance_are_refused(spec, trained, refusal):
    package = Packages(*trained[:2]).made(ARMS[0])
    assert "is a package already; name the trial" in refusal("bits", str(package), *QUALITY)
    assert "bits are judged by kid and fd" in refusal("bits", spec.key, "quality.metrics=[class_agreement]")


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_the_curve_of_a_trial_goes_on_where_it_was_killed(spec, capsys, monkeypatch):
    made, whole = [], bits._scores

    def killed(what, settings):
        if len(made) == 3:
            raise KeyboardInterrupt
        made.append(what.package)
        return whole(what, settings)

    monkeypatch.setattr(bits, "_scores", killed)
    assert main(["bits", spec.key, "--json", *QUALITY]) == 130
    monkeypatch.setattr(bits, "_scores", whole)
    monkeypatch.setattr(bits, "convert", lambda *_: pytest.fail("converted again"))
    assert main(["bits", spec.key, "--json", *QUALITY]) == 0
    out, err = capsys.readouterr()
    told = {each["name"]: each for each in json.loads(out)}
    assert "package 6 of 6: mixed, within 4" in err
    assert [told[name]["scores"]["kid"]["conditions"].get("weight_bits") for name in told] == [
        None, "16", "8", "6", "mixed", "4", "mixed",
    ]  # fmt: skip
    assert told["4 bits"]["scores"]["kid"]["conditions"]["package_bytes"] == told["4 bits"]["bytes"]
    assert told["4 bits"]["less"]["kid"]["low"] < told["4 bits"]["less"]["kid"]["high"]
    assert main(["bits", spec.key, *QUALITY]) == 0
    table = capsys.readouterr().out
    assert "mixed, within 4" in table
    assert "\u2026" not in table, "it is as wide as it needs"
