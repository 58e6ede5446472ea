"""A chain's YAML: what is wrong with any stage is one sentence, before anything runs."""

from dataclasses import replace
from pathlib import Path

import pytest
from tiny_chain import STAGES, chain, lay_out
from tiny_study import ABLATION, write_yaml

from harness.chain.definition import STAGES as KNOWN
from harness.chain.definition import chain_study
from harness.chain.settings import searched, trained_by, words_of
from harness.chain.stages import Chain, is_over
from harness.chain.step import Looked
from harness.chain.summary import _best_of
from harness.cli import main
from harness.diffusion.config import SamplingConfig
from harness.records.manifest import Promotion
from harness.records.plain import to_plain
from harness.search.candidates import Candidate, FreshScore, LevelResult
from harness.search.definition import Finalists
from harness.search.status import StoredSweep
from harness.trials.compose import parsed
from harness.trials.settings import settings_of


@pytest.fixture
def place(tmp_path, monkeypatch, cache):
    monkeypatch.chdir(tmp_path)

    def lay(content=None):
        lay_out(tmp_path, cache, content)
        return tmp_path

    return lay


def without(*names: str, **changed):
    return chain(*(name for name in STAGES if name not in names), **changed)


def turned():
    content = chain()
    return {**content, "stages": dict(reversed(content["stages"].items()))}


WRONG = [
    ({"stages": {}}, (), "a chain has stages, of search, promote, teacher"),
    ({"stages": {"serch": None}}, (), "unknown stage 'serch'; choose one of: search"),
    (turned(), (), "stages come in this order: search, promote"),
    (without("teacher"), (), "stage distil learns from a teacher, and there is none; add stage teacher"),
    (without("train"), (), "stage distil goes on from stage train, and there is none"),
    (without("promote"), (), "stage promote says which is trained"),
    (without("search"), (), "stage promote goes on from stage search"),
    (without("search", "promote"), (), "stage train trains what stage promote chooses, or an architecture"),
    (chain(train={"architecture": "sdxl"}), (), "stage train is given two architectures, sdxl and the promoted one"),
    (chain(teacher=None), (), "stage teacher trains an architecture that it names"),
    (chain(promote={"rule": "luck"}), (), "unknown value for 'promote.rule': 'luck'"),
    (chain(promote={"rule": "limit"}), (), "at_most goes with rule: limit"),
    (chain(promote={"rule": "limit", "at_most": {"macs": -1}}), (), "at_most is a number above 0, and macs has -1"),
    (
        chain(few_steps={"scored_at": {"steps": [2], "solvers": ["euler", "heun"]}}),
        (),
        "scored_at.solvers of a chain",
    ),
    (chain(search={"trials": 3}), (), "stage search is a sweep, search: {sweep: laptop}"),
    (chain(total={"chips": "A17 Pro"}), (), "unknown setting 'total.chips'; choose one of: total.chip"),
    (chain(total={"chip": []}), (), "stage total has no chip; name one, or several"),
    ({**chain(), "stage": 1}, (), "unknown setting 'stage'"),
    (chain(), ("decoder.architecture=decoder/tiny",), "says something of stage decoder, and this chain has none"),
    (chain(), ("--until", "decoder"), "--until decoder: this chain has no such stage"),
    (chain(), ("--until", "end"), "unknown stage 'end'"),
]
"""What the YAML alone tells."""
LATER = [
    (chain(few_steps={"settings": {"objective.steps": 0}}), "stage few_steps: objective.steps must be at least 1"),
    (chain(distil={"settings": {"recipe.stepz": 5}}), "stage distil: unknown setting 'recipe.stepz'"),
    (chain(search={**STAGES["search"], "objectives": {"kidd": "minimize"}}), "stage search: unknown objective 'kidd'"),
    (chain(search={**STAGES["search"], "space": "nowhere"}), "stage search: unknown name in search_spaces/: 'nowhere'"),
    (chain(promote={"score": "kidd"}), "stage promote: unknown quantity 'kidd'; choose one of:"),
    (
        chain(train={"settings": {"seeds": [0, 1]}}, distil={"settings": {"seeds": [1, 2]}}),
        "stage distil: seed 2 goes on from the network of stage train with that seed, which has the seeds 0, 1",
    ),
    (chain(teacher={"architecture": "laptop/techer"}), "stage teacher: unknown architecture 'laptop/techer'"),
    (chain(export={"bits": 5}), "stage export: "),
    (chain(total={"chip": "A1"}), "stage total: "),
    ({**chain(), "stages": {**{k: STAGES[k] for k in list(STAGES)[:6]}, "decoder": None}}, "has no latents"),
]
"""What a stage's settings tell."""


@pytest.mark.parametrize(("content", "more", "says"), WRONG, ids=[says[:40] for *_, says in WRONG])
def test_a_wrong_yaml_is_one_sentence(place, refusal, content, more, says):
    place(content)
    assert says in refusal("chain", "tiny", *more)


@pytest.mark.parametrize(("content", "says"), LATER, ids=[says[:40] for _, says in LATER])
def test_a_later_stage_is_refused_before_the_first_begins(place, refusal, content, says):
    folder = place(content)
    assert says in refusal("chain", "tiny")
    assert not (folder / "runs" / "chains").exists()


def test_another_study_is_no_chain(place, refusal):
    place()
    write_yaml(Path("sweeps/other.yaml"), ABLATION)
    assert "it has no 'stages'; `harness ablate sweeps/other.yaml` runs it" in refusal("chain", "sweeps/other.yaml")
    assert "unknown name in sweeps/chains/" in refusal("chain", "tyni")


def test_what_is_handed_on(place):
    place()
    study, _, _ = chain_study("tiny", [])
    keys = {"teacher": {0: "a" * 16}, "train": {0: "b" * 16}, "distil": {0: "c" * 16}}
    promoted = {
        "data": "digits",
        "recipe.steps": 48,
        "recipe.learning_rate": 0.5,
        "sampling.steps": 2,
        "recipe.device": "auto",
    }
    of = {stage: trained_by(study, stage, promoted, keys) for stage in study.trained}
    assert of["train"]["recipe.steps"] == 8, "its own, not eight times the search's"
    assert of["train"]["recipe.learning_rate"] == 0.5, "the candidate's"
    assert "recipe.device" not in of["train"], "the chain's machine is that of its search"
    assert of["distil"]["initial"] == "b" * 16
    assert of["few_steps"]["initial"] == "c" * 16
    assert {of[stage]["objective.teacher.name"] for stage in ("distil", "few_steps")} == {"a" * 16}
    assert settings_of((), of["few_steps"]).sampling.solver == "euler"
    assert "sampling.steps" not in of["few_steps"], "as it is trained for"
    assert "objective.teacher.name" not in of["teacher"]
    of_two = {**keys, "train": {0: "b" * 16, 1: "d" * 16}}
    two = chain_study("tiny", ["seeds=[0,1]"])[0]
    assert trained_by(two, "distil", promoted, of_two)["initial"] == ["b" * 16, "d" * 16], "each seed has its own"
    turned_round, second = (chain_study("tiny", ["seeds=[0,1]", f"distil.seeds={of}"])[0] for of in ("[1,0]", "[1]"))
    assert trained_by(turned_round, "distil", promoted, of_two)["initial"] == ["d" * 16, "b" * 16]
    assert trained_by(second, "distil", promoted, of_two)["initial"] == "d" * 16
    assert trained_by(two, "teacher", promoted, of_two)["seeds"] == [0], "one teacher"
    assert of["distil"]["launcher"] == "debug", "where and how its jobs run is the chain's"


def test_the_command_line_has_the_last_word_of_all_stages_or_of_one(place):
    place()
    study, _, out = chain_study(
        "tiny", ["recipe.batch_size=16", "train.recipe.steps=9", "search.trials=5", "out=there"]
    )
    assert str(out) == "there"
    assert searched(study)["trials"] == 5
    assert searched(study)["settings"]["recipe.batch_size"] == 16
    of_train = trained_by(study, "train", {}, {})
    assert (of_train["recipe.steps"], of_train["recipe.batch_size"]) == (9, 16)
    assert trained_by(study, "teacher", None, {})["recipe.steps"] == 4
    both, _, _ = chain_study("tiny", ["train.recipe.steps=9", "recipe.steps=5", "search.recipe.steps=7"])
    assert trained_by(both, "train", {}, {})["recipe.steps"] == 9, "of it alone, before what is said of all"
    assert trained_by(both, "teacher", None, {})["recipe.steps"] == 5
    assert searched(both)["settings"]["recipe.steps"] == 7


def test_other_samples_are_another_picture(place):
    """More of them, or sampled otherwise: what lies there is not taken for what is asked."""
    place()
    guided = SamplingConfig(guidance_scale=2.0)

    def asked(pictures: int, sampling: SamplingConfig | None = None):
        study, *where = chain_study("tiny", [])
        made = Chain(replace(study, pictures=pictures), *where)
        made.looked["train"] = Looked(steps=(), keys={0: "a" * 16})
        (step,) = made._pictures("train", sampling)
        return step

    every = [asked(8), asked(9), asked(8, SamplingConfig()), asked(8, guided)]
    places = [Path(step.words[step.words.index("--to") + 1]) for step in every]
    assert len(set(places)) == len(every)
    places[0].parent.mkdir(parents=True)
    places[0].write_bytes(b"")
    assert [asked(8).done, asked(9).done] == [True, False]


def test_a_search_with_other_finalists_is_not_over():
    asked = Finalists(most=1, seeds=2)
    level = LevelResult(steps=3, key="a" * 16, values=(0.1, 2.0))
    stored = StoredSweep(
        place="", attributes={}, began={}, definition={"finalists": to_plain(asked)},
        candidates=tuple(
            Candidate(number=at, trial_id=at, parameters={}, state="complete", levels=[level]) for at in range(2)
        ),
        rescored={"trial-0": tuple(FreshScore(seed=seed, key="b" * 16, values=(0.1, 2.0)) for seed in (1, 2))},
    )  # fmt: skip
    assert is_over(stored, 2, asked)
    assert not is_over(stored, 3, asked)
    assert not is_over(stored, 2, replace(asked, most=2)), "the second is to be trained again too"
    assert not is_over(stored, 2, replace(asked, seeds=3))


def test_the_best_of_many_is_what_the_rule_best_chose(place):
    place()
    study, *where = chain_study("tiny", [])
    made = Chain(study, *where)
    made.looked["train"] = Looked(steps=(), settings=settings_of((), made.settings_of("train")))
    by_search = Promotion(rule="best", basis="search", among=6)
    assert _best_of(made, by_search) == 6
    assert _best_of(made, replace(by_search, rule="knee")) == 0
    assert _best_of(made, replace(by_search, basis="rescored")) == 0, "several trainings told"
    by_another = replace(study, stages={**study.stages, "promote": {"score": "macs"}})
    made.study = by_another
    assert _best_of(made, by_search) == 0


def test_a_twin_is_of_the_search_alone(place):
    content = chain()
    place({**content, "settings": {**content["settings"], "limits.twin.params": 5e8}})
    study, _, _ = chain_study("tiny", ["search.twin={base: thin_sdxl, latent: 64}"])
    assert searched(study)["twin"] == {"base": "thin_sdxl", "latent": 64}
    assert "limits.twin.params" in searched(study)["settings"]
    assert "limits.twin.params" not in trained_by(study, "train", None, {})


def test_a_decoder_with_settings_is_trained_by_those_of_its_task(place):
    content = chain(decoder=None)
    content["settings"] |= {"text.template": "{}", "seeds": [0, 1]}
    decoder = {"architecture": "decoder/tiny", "settings": {"recipe.steps": 2, "objective.patch": 16}}
    stages = [*content["stages"].items()]
    place({**content, "stages": dict([*stages[:6], ("decoder", decoder), *stages[6:]])})
    study, _, _ = chain_study("tiny", ["quality.samples=9"])
    own = trained_by(study, "decoder", None, {})
    settings = settings_of((), own)
    assert (settings.task.name, settings.objective.patch, settings.recipe.steps) == ("decode", 16, 2)
    assert {key.partition(".")[0] for key in own}.isdisjoint({"sampling", "quality", "text", "initial"})


@pytest.mark.parametrize(
    "value",
    [
        1,
        0.5,
        True,
        None,
        "digits",
        "a photo, of {}",
        "12",
        "true",
        [1, 2],
        ["a", "b c"],
        {"kind": "x", "n": [1]},
        "~/x",
    ],
)
def test_a_setting_is_written_as_a_command_line_reads_it(value):
    (word,) = words_of({"data.path" if value == "~/x" else "data.kind": value}, ["data"])
    read = next(iter(parsed([word]).values()))
    assert read == value or str(value).startswith("~")


def test_a_dry_run_shows_every_stage_and_writes_nothing(place, capsys):
    folder = place()
    assert main(["chain", "tiny", "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert all(f", {stage}" in said for stage in STAGES)
    assert "harness latency total runs/store/artifacts/KEY/ema.safetensors --steps" in said
    assert [path.name for path in (folder / "runs").iterdir()] == ["cache"]


def test_the_stages_are_documented_in_their_order():
    assert list(STAGES) == [name for name in KNOWN if name != "decoder"]


def test_its_page_is_asked_for_by_its_name(place, capsys):
    place(chain())
    for name in ("chains/tiny", "sweeps/chains/tiny.yaml"):
        assert main(["report", name]) == 2
        assert "the chain 'tiny' has no network yet" in capsys.readouterr().err
    assert main(["report", "chains/tinny"]) == 2
    assert "'tinny'; choose one of: tiny" in capsys.readouterr().err
