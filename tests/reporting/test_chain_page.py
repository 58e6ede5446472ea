"""The page of a chain: its numbers are the store's, and a difference is told by p corrected for all of the page."""

import dataclasses
import re
from pathlib import Path

import pytest
from scipy import stats

from harness.measure.statistics import SHARED, noise_of, sampling_difference
from harness.measure.statistics_joint import Difference as NoDifference
from harness.measure.statistics_joint import corrected
from harness.records.chain_summary import ChainSummary, Cost, StageNetwork, StagePicture, StageRun
from harness.records.errors import UserError
from harness.records.quantity import Measured
from harness.records.record import Measurement, Protocol, TrialRecord
from harness.records.store import Store
from harness.reporting.report import checked_definition, write_report

PROTOCOL = {
    "data": {"kind": "digits", "size": 8},
    "recipe": {"steps": 100, "batch_size": 8},
    "sampling": {"solver": "euler", "steps": 10, "guidance_scale": 1.0},
    "quality": {"samples": 64},
}
FEW = {"solver": "euler", "steps": 4, "guidance_scale": 1.0}
SAME = dict.fromkeys(SHARED, "the same") | {"label": "KID-Eff, N=64"}
SCORES = {"search": 0.30, "train": 0.20, "distil": 0.199, "few_steps": 0.25}
ALIKE = (0.4, 0.2, 0.25)
"""Of each seed's distilled network, in the few steps."""
NOISE = (0.01, -0.02, 0.015, -0.005)


def kid(value: float, apart: float = 0.0) -> Measured:
    """Whose replicates are those of every other score, but for as much."""
    replicates = tuple(value + noise + apart * (-1) ** at for at, noise in enumerate(NOISE))
    return Measured(value=value, unit="1", low=value - 0.05, high=value + 0.05, replicates=replicates, conditions=SAME)


def record(name: str, value: float, seed: int = 0) -> TrialRecord:
    protocol = Protocol(
        sections={**PROTOCOL, "recipe": {"steps": 100, "batch_size": 8, "learning_rate": list(SCORES).index(name)}}
    )
    return TrialRecord(
        name=name, architecture={}, architecture_fingerprint="a", protocol=protocol.sections,
        protocol_fingerprint=protocol.fingerprint, seed=seed, state="complete", quantities={"kid": kid(value, 0.002)},
    )  # fmt: skip


@pytest.fixture
def chain(tmp_path: Path):
    return chain_in(tmp_path)


def chain_in(folder: Path):
    """A store, and the summary of a chain of four networks in it; `seeds` each."""
    store = Store(folder / "store")

    def made(seeds=(0,), **scores: float) -> ChainSummary:
        networks, before = [], None
        for name, value in (SCORES | scores).items():
            records = [record(name, value + 0.001 * seed, seed) for seed in seeds]
            for each in records:
                store.put(each)
            keys = {each.seed: each.key for each in records}
            among = 6 if name == "search" else 0
            networks.append(StageNetwork(name=name, title=name.title(), trials=keys, before=before, cost=Cost(
                trainings=1, steps=100, train_seconds=60.0, cpu_seconds=7200.0, flops=1e12), passes=10,
                sampling="10 steps of euler, no guidance", chosen_among=among))  # fmt: skip
            before = name
        for seed, distil in networks[2].trials.items():
            asked = {"trial": distil, "sampling": FEW, "samples": 64, "quality": {"samples": 64}}
            alike = {"kid": kid(ALIKE[seed])}
            store.put(Measurement(subject="score", settings=asked, quantities=alike))
        return ChainSummary(
            name="tiny", command="harness chain tiny", summary="", networks=tuple(networks), seeds=tuple(seeds),
            runs=(StageRun(name="train", commands=("harness train tiny-train.yaml",), done=True, tries=3, failures=2),
                  StageRun(name="export", commands=("harness export FILE",), done=False)),
            protocol=PROTOCOL, protocol_fingerprint="p", varied=("recipe", "sampling"), few_steps=FEW,
            pictures=(StagePicture(title="Trained: ten steps", name="train", content=b"png"),),
            exports=({"name": "ema", "bytes": 1000, "operators": {"conv": 2}, "findings": [],
                      "parity": {"float32_db": 80.25, "float16_db": 60.5}},),
            totals=({"chip": "A17 Pro", "latent": 8, "decoder": None, "totals": [
                {"steps": 10, "latency_ms": 12.5, "low_ms": 10.0, "high_ms": 15.0, "kind": "predicted"}]},),
        )  # fmt: skip

    made.store = store
    return made


def page_of(chain, summary) -> str:
    return write_report(chain.store, summary, {}, None, Path(chain.store.root).parent / "report.html").read_text()


def differences_in(page: str) -> list[dict[str, str]]:
    pieces = re.findall(r'data-difference="([^"]*)" data-told="([^"]*)" data-value="([^"]*)" data-low="([^"]*)"', page)
    return [dict(zip(("against", "told", "value", "low"), piece, strict=True)) for piece in pieces]


def test_every_number_is_the_stores(chain):
    summary = chain()
    page = page_of(chain, summary)
    records = {each.name: chain.store.trial(each.trials[0]) for each in summary.networks}
    for name, each in records.items():
        score = each.quantities["kid"]
        assert f'data-subject="{name}" data-quantity="kid" data-seed="all" data-kind="measured"' in page
        assert f'data-value="{score.value!r}" data-low="{score.low!r}"' in page
    found = differences_in(page)
    assert [each["against"] for each in found] == [
        "Search", "Train", "Distil, sampled alike", "Distil, in its own 10 steps of euler, no guidance",
    ]  # fmt: skip
    pairs = [("train", "search"), ("distil", "train"), None, ("few_steps", "distil")]
    for shown, pair in zip(found, pairs, strict=True):
        other = kid(0.4) if pair is None else records[pair[1]].quantities["kid"]
        own = records["few_steps" if pair is None else pair[0]].quantities["kid"]
        expected = sampling_difference(own, other)
        assert (float(shown["value"]), float(shown["low"])) == (expected.value, expected.low)
    assert 'data-passes="10"' in page
    assert 'data-kind="predicted" data-value="12.5"' in page
    assert "80.2 dB" in page
    assert "3 commands ended" in page


def test_scores_of_another_protocol_are_not_compared(chain):
    summary = chain()
    for samples in (8, 16, 32, 128):
        asked = {"trial": summary.networks[2].trials[0], "sampling": FEW, "samples": samples}
        other = Measurement(
            subject="score", settings={**asked, "quality": {"samples": samples}}, quantities={"kid": kid(9.0)}
        )
        chain.store.put(other)
    alike = differences_in(page_of(chain, summary))[2]
    assert float(alike["value"]) == pytest.approx(SCORES["few_steps"] - 0.4)


def test_what_is_as_likely_by_chance_is_not_told(chain):
    told = [each["told"] for each in differences_in(page_of(chain, chain()))]
    assert told[:2] == ["better", "better"], "what both samples share cancels: their noise is the same"
    apart = chain(distil=0.2)
    assert differences_in(page_of(chain, apart))[1]["told"] == "not told"
    page = page_of(chain, apart)
    assert "Distil: not told from Train" in page
    assert "Few_Steps: better than Distil, sampled alike, worse than Distil, in its own 10 steps" in page
    assert "the best of 6 by one training each, and partly the luckiest" in page
    assert "still to come: export" in page


def test_differences_are_corrected_for_all_of_the_page(chain):
    """Two with a p of 3% each, by an error of sqrt(3) 0.002 on 3 degrees of freedom: each by itself would be told."""
    step = float(stats.t.isf(0.015, 3) * 3**0.5 * 0.002)
    summary = chain(train=0.3 - step, distil=0.3 - 2 * step)
    (train,) = (each.trials[0] for each in summary.networks if each.name == "train")
    chain.store.put(dataclasses.replace(chain.store.trial(train), quantities={"kid": kid(0.3 - step)}))
    page = page_of(chain, summary)
    first, second = differences_in(page)[:2]
    assert [each["told"] for each in (first, second)] == ["not told", "not told"]
    p = [float(each) for each in re.findall(r'data-p="([^"]*)"', page)]
    assert p[:2] == pytest.approx([0.06, 0.06])
    assert re.search(r"corrected for the\s+4 differences of this page together", page)
    high = float(re.search(r'data-high="([^"]*)" data-p', page)[1])
    assert high < 0, "its own interval leaves out 0"


def test_differences_over_seeds_are_corrected_for_all_of_the_page(chain):
    """By the joint distribution of those of one noise; the one in few steps has a noise of its own."""
    summary = chain(seeds=(0, 1, 2), train=0.295, distil=0.29)
    page = page_of(chain, summary)
    values = {name: {seed: chain.store.trial(key).quantities["kid"].value for seed, key in each.trials.items()}
              for name, each in ((each.name, each) for each in summary.networks)}  # fmt: skip
    noise, in_few = noise_of(values), noise_of({**values, "alike": dict(enumerate(ALIKE))})
    pairs = (("train", "search"), ("distil", "train"), ("few_steps", "alike"), ("few_steps", "distil"))
    expected = corrected({
        pair: NoDifference(noise=in_few if "alike" in pair else noise, one=pair[0], other=pair[1]) for pair in pairs
    })  # fmt: skip
    p = [float(each) for each in re.findall(r'data-p="([^"]*)"', page)]
    assert p == pytest.approx([expected[pair] for pair in pairs])


def test_several_seeds_tell_by_their_own_spread(chain):
    summary = chain(seeds=(0, 1, 2))
    page = page_of(chain, summary)
    values = {name: {seed: value + 0.001 * seed for seed in (0, 1, 2)} for name, value in SCORES.items()}
    expected = noise_of(values).compare("train", "search")
    assert float(differences_in(page)[0]["value"]) == pytest.approx(expected.difference)
    assert float(differences_in(page)[0]["low"]) == pytest.approx(expected.low)
    assert "3 seeds: 0.200 to 0.202" in page
    assert re.search(r"<b>Train:</b>\s*KID 0\.201;", page), "the summary has the mean too"
    alike = noise_of({**values, "alike": dict(enumerate(ALIKE))}).compare("few_steps", "alike")
    in_few = differences_in(page)[2]
    assert float(in_few["value"]) == pytest.approx(alike.difference)
    assert float(in_few["low"]) == pytest.approx(alike.low)
    assert in_few["told"] == "not told", "by the first seed alone it were better"
    assert "3 seeds: 0.200 to 0.400" in page
    assert "paired by seed" in page


def test_scores_without_replicates_have_no_interval_and_say_so(chain):
    summary = chain()
    (train,) = (each.trials[0] for each in summary.networks if each.name == "train")
    old = chain.store.trial(train)
    bare = dataclasses.replace(old.quantities["kid"], replicates=())
    chain.store.put(dataclasses.replace(old, quantities={"kid": bare}))
    first = differences_in(page_of(chain, summary))[0]
    assert (first["told"], first["low"]) == ("unknown", "")


def test_a_section_of_another_kind_of_study_is_refused():
    with pytest.raises(UserError, match="unknown section of a chain's report 'ladder'"):
        checked_definition({"sections": ["ladder"]}, None, "chain")
