"""Settings of the recipe as knobs: which may vary, what tells candidates apart, and a sweep over rungs and rates."""

from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from tiny_study import SETTINGS, SWEEP, lay_out, write_yaml

from harness.architecture.catalogue import architecture
from harness.cli import main
from harness.commands.space import census
from harness.records.errors import UserError
from harness.records.store import Store
from harness.records.yaml_text import parse_yaml
from harness.search.candidates import rescored_in
from harness.search.definition import definition_of
from harness.search.driver import problem_of
from harness.search.knob_checks import check_recipes
from harness.search.problem import parameters_of
from harness.search.space import space
from harness.search.study import stored_study
from harness.training.recipe import Recipe
from harness.trials.ablation_study import read_ablation
from harness.trials.compose import compose_plain, merged
from harness.trials.prepared import prepare
from harness.trials.promoted import promoted_in
from harness.trials.settings import settings_of
from harness.trials.studies import read_study

BASE = "laptop/thin_sdxl"
RATE = "recipe.learning_rate"


def of(**knobs):
    return space({"base": BASE, "knobs": {name.replace("__", "."): knob for name, knob in knobs.items()}})


@pytest.mark.parametrize(
    ("text", "number"),
    [("1e-4", 1e-4), ("2E3", 2000.0), ("-1e+1", -10.0), (".5e1", 5.0), ("1.e-2", 0.01), ("1e4", 1e4)],
)
def test_an_exponent_without_a_dot_is_a_number(text, number):
    assert parse_yaml(text, "x") == number
    assert isinstance(parse_yaml(text, "x"), float)


@pytest.mark.parametrize("text", ["'1e-4'", "1e", "e4", "a1e4", "1e4b", "sha1e4"])
def test_what_only_looks_like_one_is_a_text(text):
    assert isinstance(parse_yaml(text, "x"), str)


def test_a_knob_named_by_its_path_needs_no_path():
    found = space(parse_yaml(f"base: {BASE}\nknobs: {{{RATE}: {{range: [1e-4, 1e-2], log: true}}}}", "x")).knobs[RATE]
    assert (found.path, found.range, found.log) == (RATE, (1e-4, 1e-2), True)
    assert found.recipe_for(0.003) == {"learning_rate": 0.003}
    assert found.edits_for(0.003) == {}


def test_one_value_may_edit_both():
    found = of(size={"edits": {"small": {"feed_forward.ratio": 2, "recipe.weight_decay": 0.1}, "as_is": {}}})
    assert found.edits({"size": "small"}) == {"feed_forward.ratio": 2}
    assert found.recipe({"size": "small"}) == {"weight_decay": 0.1}
    assert found.turns_recipe
    assert not of(ratio={"path": "feed_forward.ratio", "choices": [2, 3]}).turns_recipe


@pytest.mark.parametrize(
    ("knob", "sentence"),
    [
        ({"recipe__learning_rat": {"choices": [1]}}, "knob 'recipe.learning_rat' varies: 'learning_rat'; did you mean"),
        ({"recipe__device": {"choices": ["cpu"]}}, "recipe.device, which changes no result"),
        ({"recipe__checkpoint_every": {"choices": [5]}}, "recipe.checkpoint_every, which changes no result"),
        ({"recipe__steps": {"choices": [5]}}, "varies recipe.steps, but all candidates of a sweep are trained alike"),
        ({"x": {"edits": {"a": {"recipe.nothing": 1}}}}, "knob 'x' varies: 'nothing'"),
        ({"x": {"edits": {"a": {}}, "twin": {"a": {RATE: 1}}}}, "a deployment twin is not trained"),
        ({"recipe__learning_rate": {"range": ["1e-4", 1]}}, "range.0' must be a number, not '1e-4'"),
        ({"recipe__learning_rate": {"range": [0, 1], "log": True}}, "log: true has a range above 0"),
    ],
)
def test_wrong_knobs_of_the_recipe_are_refused_by_name(knob, sentence):
    with pytest.raises(UserError) as refused:
        of(**knob)
    assert sentence.split("; did")[0] in str(refused.value)


def checked(found, *, several_budgets=False, **recipe):
    plain = [f"recipe.{name}={value}" for name, value in recipe.items()]
    check_recipes(found, settings_of(plain, {"data": "digits", "recipe": "laptop"}), several_budgets=several_budgets)


@pytest.mark.parametrize(
    ("knob", "sentence"),
    [
        (
            {"range": [0.0, 0.1]},
            "'recipe.learning_rate', value 0.0: recipe.learning_rate must be a number above 0",
        ),
        (
            {"choices": [0.1, "fast"]},
            "'recipe.learning_rate', value fast: 'recipe.learning_rate' must be a number",
        ),
    ],
)
def test_each_value_is_held_against_the_recipe_before_anything_runs(knob, sentence):
    with pytest.raises(UserError, match=sentence):
        checked(of(recipe__learning_rate=knob))


def test_both_ends_of_a_range_are():
    with pytest.raises(UserError, match=r"'recipe.cooldown', value 1.5: recipe.cooldown must be from 0 to below 1"):
        checked(of(recipe__cooldown={"range": [0.5, 1.5]}))


def test_a_value_is_tried_with_the_knobs_that_it_depends_on():
    cooldown = {"choices": [0, 0.2], "when": {"recipe.schedule": ["constant"]}}
    found = of(recipe__schedule={"choices": ["cosine", "constant"]}, recipe__cooldown=cooldown)
    checked(found, schedule="cosine")
    with pytest.raises(UserError, match=r"value 0.2: recipe.cooldown must be 0 with a cosine"):
        checked(of(recipe__cooldown={"choices": [0, 0.2]}), schedule="cosine")


def test_beside_several_budgets_a_recipe_is_extendable():
    found = of(recipe__schedule={"choices": ["constant", "cosine"]})
    checked(found)
    with pytest.raises(UserError, match=r"value cosine: recipe.schedule=cosine depends on the last step"):
        checked(found, several_budgets=True)


def test_a_space_counts_candidates_not_architectures():
    found = of(ratio={"path": "feed_forward.ratio", "choices": [2, 3]}, recipe__clip={"choices": [0.5, 1.0, 2.0]})
    assert (found.count(), census(found).distinct) == (6, 6)


def test_the_rungs_of_a_ladder_are_a_knob():
    found = space(read_study("search_spaces", "laptop_ladder_rates"))
    ladder = read_ablation("fig3").architecture.architectures()
    assert found.count() == 8 * 5
    for rung, made in ladder:
        assert found.architecture({"rung": rung.name, RATE: 0.004}) == made


def test_a_rungs_own_recipe_is_part_of_the_choice(tmp_path, monkeypatch):
    """Carried on to the rungs that build on it; and no part of a deployment twin."""
    monkeypatch.chdir(tmp_path)
    rungs = [
        {"name": "base"},
        {"name": "fast", "edits": {RATE: 0.1}},
        {"name": "wide", "edits": {"stages.0.channels": 48}, "twin": {"stages.0.channels": 384}},
    ]
    study = {"architecture": {"base": BASE, "mode": "cumulative", "rungs": rungs}}
    (tmp_path / "sweeps").mkdir()
    (tmp_path / "sweeps" / "rates.yaml").write_text(yaml.safe_dump(study))
    found = space({"base": BASE, "knobs": {"rung": {"ladder": "rates"}}})
    rates = {rung: found.recipe({"rung": rung}) for rung in ("base", "fast", "wide")}
    assert rates == {"base": {}, "fast": {"learning_rate": 0.1}, "wide": {"learning_rate": 0.1}}
    assert found.edits({"rung": "wide"}) == {"stages.0.channels": 48}
    assert found.twin_edits({"rung": "wide"}) == {"stages.0.channels": 384}


def test_a_rung_is_placed_where_the_recipe_is_the_sweeps_own():
    recipe = Recipe(steps=10, batch_size=8, learning_rate=0.002)
    wanted = architecture(BASE)
    choices, continuum = {"choices": [0.001, 0.002]}, {"range": [1e-4, 1e-2], "log": True}
    ratio = {"path": "feed_forward.ratio", "choices": [4, 2]}
    for knob in (choices, continuum):
        found = of(ratio=ratio, recipe__learning_rate=knob)
        assert parameters_of(found, wanted, lambda made: made, recipe) == {"ratio": 4, RATE: 0.002}
    elsewhere = of(ratio=ratio, recipe__learning_rate={"range": [0.1, 0.2]})
    assert parameters_of(elsewhere, wanted, lambda made: made, recipe) is None


# without trainings, under a real protocol

SPACE = f"base: {BASE}\nknobs: {{rung: {{ladder: tiny}}, {RATE}: {{choices: [1e-3, 4e-3]}}}}\n"


def laid_out(place, space_text, **study):
    """Sweep `rates` of the tiny ladder at two budgets."""
    settings = {name: value for name, value in SETTINGS.items() if name != "recipe.steps"}
    write_yaml(place / "sweeps" / "rates.yaml", {**SWEEP, "budgets": [2, 6], "settings": settings, **study})
    (place / "search_spaces" / "tiny.yaml").write_text(space_text)
    problem, _, _ = problem_of("rates", *definition_of("rates", []), Path("runs/rates"))
    return problem, settings


def test_levels_keep_their_steps_and_candidates_their_recipe_and_checkpoints(workplace):
    problem, settings = laid_out(workplace, SPACE)
    slow, fast = (problem.point({"rung": "base", RATE: rate}) for rate in (0.001, 0.004))
    assert slow.fingerprint != fast.fingerprint
    assert slow.architecture == fast.architecture
    for level, steps in enumerate((2, 6)):
        alone = prepare(settings_of([f"recipe.steps={steps}", f"{RATE}=0.004"], settings))
        assert problem.spec("", fast, level).key == alone.spec("", fast.architecture, 0).key
        assert problem.spec("", fast, level).settings.recipe == replace(fast.recipe, steps=steps)
    specs = [[problem.spec("", point, level) for level in (0, 1)] for point in (slow, fast)]
    assert len({spec.key for pair in specs for spec in pair}) == 4
    assert [len({spec.checkpoints for spec in pair}) for pair in specs] == [1, 1]
    assert specs[0][0].checkpoints != specs[1][0].checkpoints
    fresh = problem.fresh_spec("", {"rung": "base", RATE: 0.001}, 7, parent="p")
    assert fresh.settings.recipe == replace(slow.recipe, steps=6)


def test_two_values_that_make_the_same_recipe_are_one_candidate(workplace):
    knob = "{edits: {plain: {}, same: {recipe.weight_decay: 0.0}, other: {recipe.weight_decay: 0.1}}}"
    problem, _ = laid_out(workplace, f"base: tiny_base.yaml\nknobs: {{decay: {knob}}}\n")
    plain, same, other = (problem.point({"decay": value}).fingerprint for value in ("plain", "same", "other"))
    assert plain == same != other


def test_each_names_a_knob(workplace):
    with pytest.raises(UserError, match=r"unknown knob in finalists.each: 'rate'"):
        laid_out(workplace, SPACE, finalists={"each": "rate"})


def test_the_shipped_study_is_whole():
    definition, _ = definition_of("ladder_at_best_rate", [])
    found = space(read_study("search_spaces", definition.space))
    assert definition.trials == found.count(), "all rungs at all rates"
    assert definition.finalists.each in found.knobs


# with trainings

BEST_RATES = {
    **SWEEP,
    "objectives": {"kid": "minimize"},
    "finalists": {"each": "rung", "most": 1, "seeds": 2},
    "settings": {**SETTINGS, "latency": "predicted"},
}
TRAIN = [f"{key}={value}".replace(" ", "") for key, value in SETTINGS.items() if not key.startswith("recipe.")]


@pytest.fixture(scope="module")
def swept(tmp_path_factory, cache):
    """Both rungs of the tiny ladder at two rates, and the better rate of each again with two fresh seeds."""
    folder = lay_out(tmp_path_factory.mktemp("rates"), cache)
    write_yaml(folder / "sweeps" / "search.yaml", BEST_RATES)
    (folder / "search_spaces" / "tiny.yaml").write_text(SPACE)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert main(["sweep", "search"]) == 0
    return folder


@pytest.fixture
def place(swept, monkeypatch):
    monkeypatch.chdir(swept)
    return swept


def records(fidelity):
    return [each for each in Store(Path("runs/store")).trials() if each.fidelity == fidelity]


def rate_of(record):
    return record.protocol["recipe"]["learning_rate"]


@pytest.mark.slow
def test_candidates_of_one_architecture_and_two_rates_are_two(place):
    found = {(each.architecture_fingerprint, rate_of(each)) for each in records("search")}
    assert len(found) == 4
    assert len({architecture for architecture, _ in found}) == 2
    assert {rate for _, rate in found} == {0.001, 0.004}


@pytest.mark.slow
def test_what_does_not_hang_on_the_recipe_is_measured_once(place):
    timed = [each for each in Store(Path("runs/store")).measurements() if each.subject == "latency"]
    assert len(timed) == 2, "one an architecture"


@pytest.mark.slow
def test_the_better_rate_of_each_rung_is_trained_again_by_its_recipe(place):
    study = stored_study(Path("runs/search"), "search")
    trials = {f"trial-{trial.number}": trial for trial in study.get_trials()}
    best = {}
    for name, trial in trials.items():
        rung = trial.params["rung"]
        best[rung] = min(best.get(rung, name), name, key=lambda each: trials[each].values)
    assert set(rescored_in(study.user_attrs)) == set(best.values())
    rates = sorted((each.name, rate_of(each)) for each in records("final"))
    assert rates == sorted((name, trials[name].params[RATE]) for name in best.values() for _ in range(2))


@pytest.mark.slow
def test_a_promoted_file_trains_by_its_recipe(place, capsys):
    slow = next(each for each in records("search") if rate_of(each) == 0.001)
    assert main(["promote", "search", slow.name, "--to", "winner.yaml"]) == 0
    assert promoted_in(Path("winner.yaml")).settings["recipe.learning_rate"] == 0.001
    assert main(["train", "winner.yaml", *TRAIN, "recipe.steps=6"]) == 2, "the parent's own training, again"
    assert "train it longer: recipe.steps=12" in capsys.readouterr().err
    assert main(["train", "winner.yaml", *TRAIN, "recipe.steps=7", "recipe.checkpoint_every=7"]) == 0
    (child,) = records("full")
    assert child.parent == slow.key
    assert child.protocol["recipe"] == {**slow.protocol["recipe"], "steps": 7}


def test_a_recipe_chosen_on_the_command_line_replaces_the_promoted_one():
    assert merged({"recipe.learning_rate": 0.1}, {"recipe": "full"}) == {"recipe": "full"}
    assert compose_plain([], {"recipe.learning_rate": 0.1})["recipe"]["learning_rate"] == 0.1
