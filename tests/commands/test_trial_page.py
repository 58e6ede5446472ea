"""Pages of a trial and of two networks: their numbers are the store's, what they lack they say, their text is text."""

import json
import re
from pathlib import Path

import pytest
from stored_trials import BASE, EDITED, PROTOCOL, ablation, record

from harness.cli import main
from harness.records.quantity import Failed, Unavailable
from harness.trials.placed import placed_cost


def page(capsys, *words):
    assert main([*words]) == 0
    return Path(capsys.readouterr().out.strip()).read_text()


def value(text, **data):
    """What the page says of that place or quantity."""
    for tag in re.findall(r"<span [^>]*data-[^>]*>", text):
        found = dict(re.findall(r'data-([\w-]+)="([^"]*)"', tag))
        if data.items() <= found.items():
            return float(found["value"])
    raise AssertionError(data)


def test_a_trial_s_page_has_its_drawing_its_numbers_and_where_it_belongs(store, capsys):
    one = record()
    store.put(one)
    ablation(store, one)
    text = page(capsys, "report", one.key[:6])
    assert Path(f"runs/pages/{one.key}.html").is_file()
    cost = placed_cost(EDITED, 8)
    assert value(text, quantity="kid") == 0.05
    for name in ("params", "macs"):
        assert value(text, quantity=name, subject="trial") == one.quantities[name].value
        assert value(text, quantity=name, place="all") == one.quantities[name].value
    for place, share in cost.places.items():
        if share.ms:
            assert value(text, place=place, quantity="ms") == share.ms
    assert 'class="network"' in text
    assert 'm-removed" data-part="self_attention"' in text
    assert "1 edit of thin_sdxl" in text
    assert "study mine, The no_high_res_sa" in text
    assert "(its page: harness report mine)" in text
    assert "harness ablate mine" in text
    assert "predicted for the A17 Pro, not measured" in text
    assert 'data-figure="curves"' in text


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        ({"state": "failed", "quantities": {"kid": Failed(phase="train", message="loss is NaN")}},
         "this trial failed: train: loss is NaN"),
        ({"state": "failed", "quantities": {"kid": Failed(phase="train", message="loss is NaN")}},
         "its curve ends at step 600"),
        ({"state": "rejected", "curve": (), "quantities": {"kid": Unavailable(reason="params is above 1 M")}},
         "refused before training: params is above 1 M"),
        ({"curve": ()}, "has no curve"),
        ({"architecture": {"kind": "unet-1"}}, "its architecture is of another version"),
        ({"parent": "0123456789abcdef"}, "trial 0123456789abcdef"),
        ({"name": "<script>alert(1)</script>"}, "&lt;script&gt;alert(1)"),
    ],
)  # fmt: skip
def test_a_page_says_what_became_of_its_trial(store, capsys, more, sentence):
    one = record(**more)
    store.put(one)
    text = page(capsys, "report", f"trials/{one.key}")
    assert sentence in text
    assert "<script>alert" not in text


@pytest.mark.parametrize("damage", ["older schema", "cut"])
def test_a_record_that_cannot_be_read_has_a_page_that_says_so(store, capsys, damage):
    one = record()
    store.put(one)
    file = store.root / "trials" / f"{one.key}.json"
    plain = json.loads(file.read_text())
    del plain["fidelity"], plain["quantities"]
    file.write_text(json.dumps(plain) if damage == "older schema" else file.read_text()[:100])
    text = page(capsys, "report", one.key)
    assert "its record cannot be read, so this page has no numbers" in text
    assert ("The file says name: no_high_res_sa, seed: 0, state: complete" in text) == (damage == "older schema")


def test_names_of_no_trial_or_several_are_refused(store, capsys):
    store.put(record())
    assert main(["report", "trials/ffff"]) == 2
    assert "'trials/ffff' begins the key of no trial in runs/store" in capsys.readouterr().err
    assert main(["compare", record().key, "sdxl", "--html"]) == 2
    assert "a trial and an architecture" in capsys.readouterr().err


def test_two_trials_stand_side_by_side_and_are_compared_under_one_protocol(store, capsys):
    for seed in (0, 1, 2):
        store.put(record(BASE, seed=seed, name="thin_sdxl", kid=0.05 + 0.001 * seed))
        store.put(record(seed=seed, kid=0.09 + 0.001 * seed))
    text = page(capsys, "compare", record(BASE).key, record().key, "--html")
    assert "in this store, by seed: thin_sdxl: 0, 1, 2; no_high_res_sa: 0, 1, 2." in text
    assert "mean of 3 seeds, 0.0900 to 0.0920" in text
    assert re.search(r'class="sentence">KID of no_high_res_sa against thin_sdxl: \+.*; worse \(p', text)
    assert re.search(r"; worse \(p", text)
    assert "the intervals overlap, so which is faster is not told" in text
    assert "the same in both" in text
    difference = value(text, place="down.1.attention.0", quantity="ms-difference")
    places = [placed_cost(config, 8).places["down.1.attention.0"].ms for config in (BASE, EDITED)]
    assert difference == pytest.approx(places[1] - places[0])


def test_scores_under_two_protocols_are_not_compared(store, capsys):
    other = {**PROTOCOL, "recipe": {"steps": 100, "batch_size": 64}}
    store.put(record(BASE, name="thin_sdxl"))
    store.put(record(protocol=other, kid=0.9))
    text = page(capsys, "compare", record(BASE).key, record(protocol=other).key, "--html")
    assert "no_high_res_sa has another protocol (recipe.steps=100)" in text
    assert "another protocol: not compared" in text
    assert "worse" not in text.split("</style>")[-1].split("<script")[0]


def test_two_seeds_of_one_network_are_compared_as_such(store, capsys):
    for seed in (0, 1):
        store.put(record(seed=seed))
    text = page(capsys, "compare", record(seed=0).key, record(seed=1).key, "--html")
    assert "no_high_res_sa, seed 0" in text
    assert "The same network as no_high_res_sa, seed 0" in text


def test_two_architectures_stand_side_by_side(store, capsys):
    text = page(capsys, "compare", "laptop/thin_sdxl", "laptop/dit", "--html", "--latent", "8")
    assert "<td>UNetConfig</td><td>DiTConfig</td>" in text
    assert Path("runs/pages/laptop-thin_sdxl_and_laptop-dit.html").is_file()
    assert "harness compare laptop/thin_sdxl laptop/dit --html" in text
    assert 'id="curves"' not in text


def test_a_ladders_time_by_operator_adds_up_to_what_its_records_predict(store, capsys):
    one = record(quantities=record().quantities | {"latency_predicted": placed_cost(EDITED, 8).latency})
    ablation(store, one)
    store.put(one)
    Path("reports").mkdir()
    Path("reports/mine.yaml").write_text("sections: [operators]\n")
    text = page(capsys, "report", "mine")
    assert value(text, subject=one.name, operator="all") == pytest.approx(one.quantities["latency_predicted"].value)
    spans = re.findall(rf'data-subject="{one.name}" data-operator="(.+?)" data-value="(.+?)"', text)
    *parts, (last, whole) = spans
    assert last == "all"
    assert sum(float(ms) for _, ms in parts) == pytest.approx(float(whole))
    name, share = next(iter(placed_cost(EDITED, 8).operators.items()))
    assert float(dict(spans)[name]) == share.ms
