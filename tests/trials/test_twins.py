"""Deployment twins: a trial's costs where it would be deployed, beside its quality where it is trained."""

from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from test_waiting import CHIP, QUICK, cheap_export, queue, run_agent  # noqa: F401  # fixtures
from tiny_study import ABLATION, SETTINGS, SWEEP, TINY, tiny_spec, write_yaml

from harness.architecture.catalogue import architecture
from harness.architecture.edits import with_edits
from harness.cli import main
from harness.records.errors import UserError
from harness.records.manifest import read_manifest
from harness.records.quantity import Counted, Measured, Predicted, Unavailable
from harness.records.store import Store
from harness.search.definition import definition_of
from harness.search.driver import problem_of
from harness.search.knob_checks import check_carries_over
from harness.search.problem import gate
from harness.search.space import space
from harness.trials.ablation import ablation
from harness.trials.costs import before_training, cost_of, counted, measure_latency, measure_twin
from harness.trials.outcomes import (
    collect,
    quantity_names,
    record_of,
    rejected,
    with_arrived_answers,
    with_current_costs,
)
from harness.trials.prepared import prepare
from harness.trials.run import run_trial
from harness.trials.settings import settings_of
from harness.trials.twins import DeploymentTwin

WIDER = {**TINY, "stages.*.channels": 32}
TWIN = {"base": "twin_base.yaml", "latent": 16}
COUNTS = ("params", "macs", "macs_without_attention", "flops_fvcore")


@pytest.fixture
def workplace(workplace):
    """The tiny study and sweep, each with a twin of twice the widths at twice the latent."""
    write_yaml(workplace / "twin_base.yaml", {"base": "laptop/thin_sdxl", "edits": WIDER})
    ladder = {**ABLATION["architecture"], "base": "tiny_base.yaml"}
    ladder["rungs"] = [{"name": "base", "title": "Tiny"}, *ladder["rungs"][1:]]
    write_yaml(workplace / "sweeps" / "tiny.yaml", {**ABLATION, "architecture": ladder, "twin": TWIN})
    objectives = {"macs": "minimize", "twin.latency_predicted": "minimize"}
    sweep = {**SWEEP, "objectives": objectives, "twin": TWIN, "settings": {**SETTINGS, "count_only": True}}
    write_yaml(workplace / "sweeps" / "search.yaml", sweep)
    return workplace


def twin_of(*overrides, edits=None):
    """A setting `twin=`, and the tiny network's trial with the twin that the edits make."""
    given = settings_of([*overrides, "twin={base: twin_base.yaml, latent: 16}"], SETTINGS)
    return given.twin.edited(given.twin.read(), edits or {})


def spec_with_twin(*overrides, edits=None):
    setting = "twin={base: twin_base.yaml, latent: 16}"
    return tiny_spec(setting, *overrides, edits=edits, twin=twin_of(edits=edits))


@pytest.fixture(scope="module")
def counted_study(tmp_path_factory, cache):
    """The tiny ablation, counted only: its specs and records."""
    from tiny_study import lay_out

    folder = lay_out(tmp_path_factory.mktemp("twins"), cache)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        write_yaml(folder / "twin_base.yaml", {"base": "laptop/thin_sdxl", "edits": WIDER})
        rungs = [{"name": "base", "title": "Tiny"}, ABLATION["architecture"]["rungs"][1]]
        ladder = {"base": "tiny_base.yaml", "mode": "cumulative", "rungs": rungs}
        settings = {**SETTINGS, "count_only": True, "latent": 8}
        write_yaml(
            folder / "sweeps" / "tiny.yaml",
            {"architecture": ladder, "twin": TWIN, "report": "fig3_full", "settings": settings},
        )
        assert main(["ablate", "tiny"]) == 0
        return {record.name: record for record in Store(Path("runs/store")).trials()}, read_manifest(
            Path("runs"), "tiny"
        )


def test_a_twins_counts_are_those_of_its_architecture_at_its_latent(counted_study):
    records, manifest = counted_study
    for rung, edits in (("base", {}), ("ffn2", {"feed_forward.ratio": 2})):
        config = with_edits(architecture("laptop/thin_sdxl"), {**WIDER, **edits})
        cost, small = cost_of(config, 16), cost_of(with_edits(architecture("laptop/thin_sdxl"), {**TINY, **edits}), 8)
        for name in COUNTS:
            quantity = records[rung].quantities[f"twin.{name}"]
            assert isinstance(quantity, Counted)
            assert quantity.value == getattr(cost, name) > getattr(small, name) == records[rung].quantities[name].value
            assert {
                "latent": 16,
                "twin": "twin_base.yaml",
                "twin_fingerprint": config.fingerprint,
            }.items() <= quantity.conditions.items()
        assert next(each for each in manifest.rungs if each.name == rung).twin_fingerprint == config.fingerprint


def test_every_record_has_its_twins_limits_and_predicted_latency_and_no_phone_for_the_toy(counted_study):
    records, _ = counted_study
    for record in records.values():
        assert isinstance(record.quantities["twin.preflight"], Counted)
        assert record.quantities["twin.preflight"].conditions["limits"] == ["number format"]
        latency = record.quantities["twin.latency_predicted"]
        assert isinstance(latency, Predicted)
        assert latency.conditions["latent"] == 16
        assert latency.conditions["twin_fingerprint"] == record.quantities["twin.macs"].conditions["twin_fingerprint"]


def test_the_manifest_says_which_twin_and_how_much_of_it_a_rung_touches(counted_study):
    _, manifest = counted_study
    assert manifest.twin == TWIN
    first, second = manifest.rungs
    assert first.touched == {}
    assert second.touched.keys() == {"network", "twin"}
    assert all(0 < share < 1 for share in second.touched.values())


def test_without_a_twin_the_manifest_has_the_networks_share_only(workplace):
    manifest = ablation("tiny", ["twin=null", "count_only=true"], "").manifest()
    assert manifest.twin is None
    assert [rung.twin_fingerprint for rung in manifest.rungs] == [None, None]
    assert manifest.rungs[1].touched.keys() == {"network"}


def test_a_twin_is_no_part_of_a_trials_identity(workplace):
    """Whatever twins ask, the same small network is trained once."""
    specs = [spec_with_twin(), tiny_spec(), tiny_spec(twin=twin_of(edits={"feed_forward.ratio": 2}))]
    assert len({spec.twin and spec.twin.architecture for spec in specs}) == 3
    assert len({spec.key for spec in specs}) == 1


def test_a_finished_record_gets_the_twin_that_is_asked_for_now(workplace, monkeypatch):
    plain = tiny_spec()
    record = record_of(plain, "complete", before_training(plain))
    plain.store.put(record)
    spec = spec_with_twin()
    completed = with_current_costs(spec, record)
    assert completed.quantities["twin.macs"].value == cost_of(spec.twin.architecture, 16).macs
    assert {"twin.preflight", "twin.latency_predicted"} <= completed.quantities.keys()
    assert plain.store.trial(record.key) == completed

    def of_the_small_one(config, latent):
        assert config != spec.twin.architecture, "the twin is counted again"
        return counted(config, latent)

    monkeypatch.setattr("harness.trials.costs.counted", of_the_small_one)
    assert with_current_costs(spec, completed) == completed  # counted at full size once


def test_the_latent_setting_moves_the_networks_counts_and_not_the_twins(workplace):
    small, large = (before_training(spec_with_twin(f"latent={latent}")) for latent in (8, 32))
    assert small["macs"].value < large["macs"].value
    assert small["twin.macs"] == large["twin.macs"]


def test_a_limit_on_the_twin_refuses_untrained(workplace):
    params = cost_of(twin_of().architecture, 16).params
    assert cost_of(with_edits(architecture("laptop/thin_sdxl"), TINY), 8).params < params - 1
    spec = replace(spec_with_twin(), limits={"twin.params": params})
    assert rejected(spec) is None
    record = rejected(replace(spec, limits={"twin.params": params - 1}))
    assert record.state == "rejected"
    assert f"twin.params is {params:,}, above the limit of {params - 1:,}" in record.quantities["kid"].reason


def test_a_latency_limit_on_the_twin_is_checked_on_its_chip(workplace):
    loose, tight = (
        spec_with_twin(f"limits.twin.latency_ms={{at_most: {most}, chip: A15}}") for most in (10000, 0.0001)
    )
    assert rejected(replace(loose, limits=loose.settings.limits)) is None
    record = rejected(replace(tight, limits=tight.settings.limits))
    latency = record.quantities["twin.latency_ms"]
    assert latency.conditions["chip"] == "A15"
    assert latency.conditions["latent"] == 16
    assert "latency_ms" not in record.quantities


def test_a_limit_on_the_twins_preflight_is_checked_before_training(workplace):
    meets = measure_twin(spec_with_twin())["twin.preflight"].value
    assert meets > 0
    loose, tight = (spec_with_twin(f"limits.twin.preflight={most}") for most in (meets, 0))
    assert rejected(replace(loose, limits=loose.settings.limits)) is None
    record = rejected(replace(tight, limits=tight.settings.limits))
    assert f"twin.preflight is {meets}, above the limit of 0" in record.quantities["kid"].reason
    assert gate(prepare(tight.settings), tight.architecture, tight.twin).violations == {"twin.preflight": meets}
    assert "twin.preflight" not in before_training(spec_with_twin())  # seconds of a large one, where no limit asks


@pytest.mark.parametrize(
    "given",
    [
        (["limits.twin.params=4e8"], {}),
        (["limits={twin.params: 400000000}"], {}),
        ([], {"limits.twin.params": 400_000_000}),
        ([], {"limits": {"twin.params": 400_000_000}}),
        ([], {"limits": {"twin": {"params": 400_000_000}}}),
    ],
)
def test_dotted_limits_work_from_the_command_line_and_from_yaml(given):
    overrides, defaults = given
    twin = {"twin": {"base": "thin_sdxl", "latent": 128}}
    assert settings_of(overrides, {**twin, **yaml.safe_load(yaml.safe_dump(defaults))}).limits == {
        "twin.params": 400_000_000
    }


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["limits.twin.params=5"], "limits.twin.params is on the deployment twin, and this study has none; name one"),
        (["twin={base: thin_sdxl, latent: 127}"], "twin.latent is a multiple of 4 for thin_sdxl, not 127"),
        (["twin={base: thin, latent: 128}"], "unknown architecture 'thin'"),
        (
            ["twin={base: thin_sdxl, latent: 128}", "limits.twin.param=5"],
            "unknown limit 'twin.param'; choose one of: twin.params",
        ),
        (
            ["twin={base: thin_sdxl, latent: 128}", "limits.twin.latency_predicted=5"],
            "there is no limits.twin.latency_predicted: a latency is limited by limits.twin.latency_ms={at_most: 300, ",
        ),
        (
            ["twin={base: thin_sdxl, latent: 128}", "limits.twin.preflight=-1"],
            "limits.twin.preflight is at least 0, not -1",
        ),
    ],
)
def test_a_wrong_twin_is_one_sentence(overrides, message):
    with pytest.raises(UserError) as caught:
        settings_of(overrides)
    assert message in str(caught.value)


def test_training_one_architecture_has_no_twin(capsys):
    assert main(["train", "laptop/thin_sdxl", "twin={base: thin_sdxl, latent: 128}"]) == 2
    assert "`harness train` edits nothing" in capsys.readouterr().err


def test_the_phone_is_asked_for_the_twin_alone_and_its_late_answer_fills_in(queue, workplace, cheap_export):  # noqa: F811
    spec = spec_with_twin("latency=iphone", f"latency.iphone.queue={queue.root}", CHIP, QUICK)
    assert {"twin.latency_iphone", "twin.latency_predicted"} <= set(quantity_names(spec.settings))
    assert "latency_iphone" not in quantity_names(spec.settings)
    own = measure_latency(spec.store, spec.architecture, spec.settings, spec.latent)
    assert own["latency_iphone"] == Unavailable(
        reason="a study with a deployment twin asks for that one's instead: twin.latency_iphone"
    )
    record = record_of(spec, "complete", {**before_training(spec), **own, **measure_twin(spec)})
    spec.store.put(record)
    assert record.quantities["twin.latency_iphone"].awaits
    assert len(cheap_export) == 1
    run_agent(queue)
    assert collect(spec.store) == 1
    latency = spec.store.trial(record.key).quantities["twin.latency_iphone"]
    assert isinstance(latency, Measured)
    assert latency.conditions["twin"] == "twin_base.yaml"
    assert latency.conditions["twin_fingerprint"] == spec.twin.architecture.fingerprint
    assert latency.conditions["latent"] == 16
    assert with_current_costs(spec, spec.store.trial(record.key)).quantities["twin.latency_iphone"] == latency


@pytest.mark.slow
@pytest.mark.parametrize(
    "filled", [with_current_costs, with_arrived_answers, lambda spec, _record: run_trial(spec, Path("attempt"))]
)
def test_a_measurement_of_another_studys_twin_is_not_taken_for_ones_own(queue, workplace, cheap_export, filled):  # noqa: F811
    """Two studies with other twins share the small network's record; no queue is in reach of the second."""
    settings = ("latency=iphone", f"latency.iphone.queue={queue.root}", CHIP, QUICK)
    other, spec = (spec_with_twin(*settings, edits={"feed_forward.ratio": 2}), spec_with_twin(*settings))
    spec, other = (replace(each, architecture=spec.architecture) for each in (spec, other))
    assert spec.key == other.key
    other.store.put(record_of(other, "complete", {**before_training(other), **measure_twin(other)}))
    run_agent(queue)
    theirs = with_arrived_answers(other, other.store.trial(other.key))
    assert isinstance(theirs.quantities["twin.latency_iphone"], Measured)
    queue.root.rename(queue.root.with_name("away"))
    mine = filled(spec, theirs)
    assert isinstance(mine.quantities["twin.latency_iphone"], Unavailable)
    assert mine.quantities["twin.macs"].value == cost_of(spec.twin.architecture, 16).macs
    assert spec.store.trial(spec.key) == mine
    again = with_current_costs(other, mine)
    assert again.quantities["twin.latency_iphone"] == theirs.quantities["twin.latency_iphone"], "it is in the store"


# spaces and sweeps


def problem(name="search", *overrides):
    definition, settings = definition_of(name, overrides)
    return problem_of(name, definition, settings, Path("runs") / name)[0]


def test_a_candidates_twin_is_the_same_point_of_the_space(workplace):
    point = problem().point({"ffn": 3, "self_attention": "mqa"})
    edits = {"feed_forward.ratio": 3, "self_attention": "mqa"}
    assert point.architecture.stages[0].channels == 16
    assert point.twin.architecture == with_edits(architecture("twin_base.yaml"), edits)


def test_a_sweep_minimises_what_its_twin_costs(workplace):
    assert main(["sweep", "search", "trials=3"]) == 0
    for record in Store(Path("runs/store")).trials():
        assert record.state == "complete"
        assert isinstance(record.quantities["twin.latency_predicted"], Predicted)


def test_a_rehearsal_shows_the_twins_costs(workplace, capsys):
    assert main(["sweep", "search", "--dry-run", "1"]) == 0
    shown = capsys.readouterr().out
    assert "twin.params" in shown
    assert "twin.latency_predicted" in shown
    assert main(["sweep", "search", "limits.twin.params=1000", "max_rejections=1", "--dry-run"]) == 2
    assert "none has twin.params of at most 1,000" in capsys.readouterr().err


def test_another_twin_is_another_sweep_where_an_objective_is_on_it(workplace, capsys):
    assert main(["sweep", "search", "trials=1"]) == 0
    assert main(["sweep", "search", "trials=1", "twin.latent=32"]) == 2
    assert "the twin changed since this sweep began: latent" in capsys.readouterr().err


def knob(**more):
    return space({"base": "laptop/thin_sdxl", "knobs": {"it": more}})


FULL = DeploymentTwin(base="thin_sdxl", latent=128)
WIDE = {"stages.0.channels": 48}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            knob(edits={"base": {}, "wide": WIDE}),
            "knob 'it', value wide, sets stages.0.channels: sizes, which mean nothing on thin_sdxl, the deployment "
            "twin; write what they are there beside the knob's values, twin: {wide: {stages.0.channels: VALUE}}",
        ),
        (knob(path="stages.*.channels", choices=[32, 48]), "value 32, sets stages.0.channels, stages.1.channels"),
        (knob(path="stages.2.block.depth", range=[1, 3]), "value 1, sets stages.2.block.depth"),
        (knob(path="head_dim", choices=[8, 16]), "value 8, sets head_dim"),
        (knob(edits={"group": {"norm": {"kind": "group", "groups": 4}}}), "value group, sets norm.groups"),
        (
            knob(edits={"wide": WIDE}, twin={"wide": {"stages.0.channels": 100}}),
            "knob 'it', value wide, cannot be applied on thin_sdxl, the deployment twin: a group norm's groups divide",
        ),
    ],
)
def test_a_value_that_does_not_carry_over_is_refused_by_name(given, message):
    with pytest.raises(UserError) as caught:
        check_carries_over(given, FULL)
    assert message in str(caught.value)


def test_key_value_heads_are_a_size_though_they_come_with_another_kind():
    groups = {"edits": {"all": {}, "two": {"self_attention": {"kind": "gqa", "groups": 2}}}}
    given, small = {"base": "thin_sdxl", "knobs": {"it": groups}}, DeploymentTwin(base="laptop/thin_sdxl", latent=8)
    with pytest.raises(
        UserError, match=r"knob 'it', value two, sets self_attention\.groups: sizes, which mean nothing"
    ):
        check_carries_over(space(given), small)
    check_carries_over(space({**given, "knobs": {"it": {**groups, "twin": {"two": {"self_attention": "mqa"}}}}}), small)


@pytest.mark.parametrize(
    "given",
    [
        knob(path="feed_forward.ratio", choices=[2, 3]),
        knob(path="feed_forward.ratio", range=[2.0, 3.5]),
        knob(edits={"wide": WIDE}, twin={"wide": {"stages.0.channels": 384}}),
        knob(path="stages.0.channels", choices=[32, 48], twin={"32": {}, "48": {"stages.0.channels": 384}}),
        knob(edits={"transformer": "first_stage_ca"}),  # its depth comes with its kind
    ],
)
def test_a_value_that_carries_over_is_not(given):
    check_carries_over(given, FULL)


def test_a_size_behind_another_knob_is_found():
    knobs = {
        "first": {"edits": {"residual": {}, "transformer": "first_stage_ca"}},
        "depth": {"path": "stages.0.block.depth", "choices": [1, 2], "when": {"first": ["transformer"]}},
    }
    with pytest.raises(UserError, match=r"knob 'depth', value 1, sets stages.0.block.depth"):
        check_carries_over(space({"base": "laptop/thin_sdxl", "knobs": knobs}), FULL)


def test_a_twin_of_a_value_that_the_knob_does_not_have_is_refused():
    with pytest.raises(UserError, match=r"unknown value of a knob under 'twin': 'wider'; choose one of: wide"):
        knob(edits={"wide": WIDE}, twin={"wider": {}})


@pytest.mark.parametrize(
    "words", [["sweep", "search"], ["sweep", "search", "--dry-run"], ["space", "tiny", "--twin", "twin_base.yaml"]]
)
def test_it_is_refused_before_anything_starts(workplace, words, capsys):
    content = {"base": "tiny_base.yaml", "knobs": {"width": {"path": "stages.0.channels", "choices": [16, 24]}}}
    write_yaml(workplace / "search_spaces" / "tiny.yaml", content)
    assert main(words) == 2
    assert "knob 'width', value 16, sets stages.0.channels" in capsys.readouterr().err
    assert not (workplace / "runs" / "search").exists()


@pytest.mark.parametrize("more", [[], ["--dry-run"]])
def test_an_ablations_rung_too(workplace, more, capsys):
    content = yaml.safe_load((workplace / "sweeps" / "tiny.yaml").read_text())
    content["architecture"]["rungs"][1]["edits"] = {"stages.0.channels": 24}
    write_yaml(workplace / "sweeps" / "tiny.yaml", content)
    assert main(["ablate", "tiny", *more]) == 2
    assert "rung 'ffn2' sets stages.0.channels" in capsys.readouterr().err


def test_a_twin_that_a_rule_refuses_refuses_the_candidate(workplace):
    """Two values that are each possible there and together are not."""
    knobs = {
        "width": {
            "edits": {"base": {}, "wide": {"stages.0.channels": 24}},
            "twin": {"wide": {"stages.0.channels": 48}},
        },
        "norm": {
            "edits": {"groups": {}, "more": {"norm": {"kind": "group", "groups": 8}}},
            "twin": {"more": {"norm": {"kind": "group", "groups": 32}}},
        },
    }
    write_yaml(workplace / "search_spaces" / "tiny.yaml", {"base": "tiny_base.yaml", "knobs": knobs})
    assert problem().point({"width": "wide", "norm": "groups"}).twin is not None
    with pytest.raises(UserError, match=r"its twin on twin_base.yaml: a group norm's groups divide"):
        problem().point({"width": "wide", "norm": "more"})


def test_the_shipped_studies_have_twins_that_every_choice_carries_over_to():
    definition, settings = definition_of("laptop", [])
    assert settings.twin == FULL
    assert "twin.latency_predicted" in definition.objectives
    from harness.trials.studies import read_study

    check_carries_over(space(read_study("search_spaces", "laptop")), FULL)
