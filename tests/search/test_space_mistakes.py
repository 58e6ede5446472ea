"""A mistake in a space's YAML is a sentence, and no candidate that a rule refuses."""

import pytest

from harness.cli import main
from harness.commands.space import Census, census
from harness.records.errors import UserError
from harness.records.yaml_text import parse_yaml
from harness.search.knob_checks import check_types_of_values, check_values_possible
from harness.search.space import space
from harness.trials.studies import read_study

SPACES = ("decoder", "full", "ladder", "laptop", "laptop_dit", "laptop_ladder_rates")
CONVOLUTION = "conv: {edits: {regular: {}, separable: sepconv}}\n  "
KERNEL = "k: {path: convolution.kernel_size, choices: "


def read(knobs: str):
    return space(parse_yaml(f"base: laptop/thin_sdxl\nknobs:\n  {knobs}\n", "space.yaml"))


@pytest.mark.parametrize("name", SPACES)
def test_every_value_of_the_spaces_here_has_its_knobs_type(name):
    check_types_of_values(space(read_study("search_spaces", name)))


@pytest.mark.parametrize(
    ("knob", "sentence"),
    [
        ("a: {path: self_attention.kind, choices: [mhsa, mqaa]}", "knob 'a', value mqaa: .*'mqaa'; choose one of: mqa"),
        ("a: {path: self_attention, choices: [mhsa, mqaa]}", "knob 'a', value mqaa: .*'mqaa'; choose one of: mqa"),
        (
            "a: {path: feed_forward.ratio, choices: [2, '3x']}",
            "knob 'a', value 3x: 'feed_forward.ratio' must be .*'3x'",
        ),
        ("a: {path: time_width, choices: [32, wide]}", "knob 'a', value wide: 'time_width' must be a whole number"),
        ("a: {path: time_width, choices: [32, 48.5]}", "knob 'a', value 48.5: 'time_width' must be a whole number"),
        ("a: {path: time_width, range: [32, 64], step: 0.5}", "knob 'a', value 32.5: 'time_width' must be a whole"),
        ("a: {path: time_width, range: [32.5, 64]}", "knob 'a', value 32.5: 'time_width' must be a whole number"),
        ("a: {path: time_width, choices: [32, null]}", "knob 'a', value None: 'time_width' must be a whole number"),
        ("a: {path: qk_norm, choices: [rms, none]}", "knob 'a', value none: .*'none'; choose one of"),
        ("a: {path: stages.*.chanels, choices: [16, 32]}", "knob 'a', value 16: unknown path .*stages.0.channels"),
        ("a: {path: stages.3.channels, choices: [16, 32]}", "knob 'a', value 16: unknown path"),
        ("a: {path: stages.1.block.self_attention, choices: [true, 'no']}", "knob 'a', value no: .*true or false"),
        ("a: {edits: {base: {}, wide: {stages.0.chanels: 48}}}", "knob 'a', value wide: unknown path"),
        ("a: {edits: {base: {}, wide: {time_width: 32, feed_forward.ratio: big}}}", "knob 'a', value wide: .*'big'"),
        ("recipe.learning_rate: {choices: [1.0e-3, fast]}", "value fast: 'recipe.learning_rate' must be a number"),
        (
            "objective.scaling: {choices: [fixed]}",
            "objective.scaling, and all candidates of a sweep have its objective;",
        ),
        ("recipe.schedule: {choices: [constant, cosin]}", "value cosin: .*'cosin'; choose one of: cosine"),
        ("a: {edits: {plain: {}, warm: {recipe.warmup_steps: some}}}", "warm: 'recipe.warmup_steps' must be a whole"),
    ],
)
def test_a_value_of_the_wrong_type_is_named(knob, sentence):
    with pytest.raises(UserError, match=sentence):
        check_types_of_values(read(knob))


def test_a_type_is_wrong_whatever_rules_say_of_the_value_beside_it():
    with pytest.raises(UserError, match="knob 'a', value odd: 'time_width' must be a whole number"):
        check_types_of_values(read("a: {edits: {base: {}, odd: {stages.0.channels: -7, time_width: wide}}}"))


def test_what_a_rule_refuses_is_no_mistake():
    check_types_of_values(read("a: {path: stages.0.channels, choices: [16, 17]}"))


def test_a_value_that_no_combination_can_have_is_a_mistake():
    with pytest.raises(UserError, match=r"knob 'a', value 17, is in no combination that rules allow: .*17 channels"):
        check_values_possible(read("a: {path: stages.0.channels, choices: [16, 17]}"))
    check_values_possible(read("a: {path: head_dim, choices: [16, 12]}\n  b: {path: stages.*.channels, choices: [48]}"))


@pytest.mark.parametrize("value", ["0", "-16"])
def test_a_size_is_above_nought_whatever_the_other_knobs_are(value):
    with pytest.raises(UserError, match=f"knob 'a', value {value}: a size or a count is more than 0 .*: head_dim is"):
        check_types_of_values(read(f"a: {{path: head_dim, choices: [16, {value}]}}"))


RATIO = "a: {path: feed_forward.ratio, choices: [2, 3]}\n  "
CONV = "conv: {edits: {regular: {}, separable: {convolution: separable}}}\n  "


@pytest.mark.parametrize(
    ("knobs", "sentence"),
    [
        (f"{RATIO}b: {{path: feed_forward.ratio, choices: [2, 4]}}", "'a' and 'b' both set feed_forward.ratio; make"),
        (f"{RATIO}b: {{edits: {{x: {{}}, y: {{feed_forward.ratio: 4}}}}}}", "both set feed_forward.ratio"),
        (f"{RATIO}b: {{edits: {{x: {{}}, y: ffn3}}}}", "both set feed_forward.ratio"),  # the catalogue's edits
        (f"{RATIO}b: {{ladder: fig3}}", "both set feed_forward.ratio"),
        (
            f"{RATIO}b: {{path: feed_forward, choices: [geglu, gelu]}}",
            "'b' sets feed_forward, which undoes .* 'a' above",
        ),
        (
            "a: {path: stages.0.channels, choices: [16, 32]}\n  b: {path: 'stages.*.channels', choices: [32, 64]}",
            "undoes",
        ),
        ("recipe.clip: {choices: [1, 2]}\n  b: {path: recipe.clip, choices: [1, 3]}", "both set recipe.clip"),
    ],
)
def test_no_knob_undoes_another(knobs, sentence):
    with pytest.raises(UserError, match=sentence):
        read(knobs)


def test_a_knob_may_refine_another_or_take_its_place_where_it_says_so():
    read("b: {path: 'stages.*.channels', choices: [32, 64]}\n  a: {path: stages.0.channels, choices: [16, 32]}")
    read(f"{CONV}k: {{path: convolution, choices: [separable], when: {{conv: [separable]}}}}")
    ratio = "{{path: feed_forward.ratio, choices: [2, 3], when: {{conv: [{}]}}}}"
    read(f"{CONV}a: {ratio.format('regular')}\n  b: {ratio.format('separable')}")


def test_a_knob_may_set_inside_what_another_names_in_short():
    made = read(f"b: {{path: feed_forward, choices: [geglu, gelu]}}\n  {RATIO}")
    check_types_of_values(made)
    assert census(made) == Census(combinations=4, refused=0, distinct=4)


def test_a_path_may_exist_by_another_knobs_value():
    check_types_of_values(read(f"{CONVOLUTION}{KERNEL}[3, 5]}}"))
    check_types_of_values(read(f"{CONVOLUTION}{KERNEL}[3, 5], when: {{conv: [separable]}}}}"))
    with pytest.raises(UserError, match=r"knob 'k', value big: .*must be a whole number"):
        check_types_of_values(read(f"{CONVOLUTION}{KERNEL}[3, big]}}"))


@pytest.mark.parametrize("wanted", ["[seperable]", "[true]", "[]", "[0]"])
def test_when_names_a_value_that_the_other_knob_has(wanted):
    with pytest.raises(UserError, match=r"knob 'k' (exists where 'conv' is .*, which it never is|never exists)"):
        read(f"{CONVOLUTION}{KERNEL}[3, 5], when: {{conv: {wanted}}}}}")


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ("range: [0, 4], log: true", "log: true has a range above 0"),
        ("range: [-1, 4], log: true", "log: true has a range above 0"),
        ("range: [1, 4], log: true, step: 1", "above 0, from 1e-300, and no step"),
        ("range: [1, 4], step: -1", "a step is above 0, not -1"),
        ("range: [1, 4], step: 0", "a step is above 0, not 0"),
        ("range: [1, 4], step: .inf", "knobs.a.step' must be a finite number, not inf"),
        ("range: [1, 4], step: .nan", "knobs.a.step' must be a finite number, not nan"),
        ("range: [1, .inf]", "knobs.a.range.1' must be a finite number, not inf"),
        ("range: [-.inf, 1]", "knobs.a.range.0' must be a finite number, not -inf"),
        ("range: [.nan, 1]", "knobs.a.range.0' must be a finite number, not nan"),
        ("range: [-1.0e+308, 1.0e+308]", r"the ends of a range lie between .*, not \[-1e\+308, 1e\+308\]"),
        ("range: [1, 1.0e+19]", "the ends of a range lie between"),
        ("range: [1.0e-320, 1], log: true", "above 0, from 1e-300"),
        ("range: [2, 4], step: 1.0e-320", "a step is at least 2e-15"),
        ("range: [4, 1]", r"from low to high, not \[4, 1\]"),
        ("range: [16, 48], step: 20", "steps of 20 from 16 do not lead to 48; end the range at 36"),
        ("range: [1, 4], step: 10", "a step of 10 is longer than its range"),
        ("range: [1]", "a list of 2 values"),
        ("range: [1, many]", "must be a number"),
        ("choices: [1, 2], log: true", "step and log belong to a range"),
        ("choices: [1, 2], step: 1", "step and log belong to a range"),
        ("choices: [1, 2, 1]", "1 does twice"),
        ("choices: [1, .inf]", "finite number"),
        ("choices: [[1, 2], [3]]", r"not \[1, 2\]; name it under edits"),
        ("choices: []", "exactly one of choices"),
    ],
)
def test_ranges_and_choices_that_make_no_sense(values, sentence):
    with pytest.raises(UserError, match=sentence) as refused:
        read(f"a: {{path: time_width, {values}}}")
    assert "'a'" in str(refused.value) or "knobs.a." in str(refused.value)


@pytest.mark.parametrize(
    ("values", "count"),
    [
        ("range: [0.1, 0.7], step: 0.1", 7),
        ("range: [1, 4]", 4),
        ("range: [2, 2]", 1),
        ("range: [1.0e-6, 1.0], log: true", None),
        ("range: [1, 1000000000]", None),
    ],
)
def test_ranges_that_do(values, count):
    assert read(f"a: {{path: time_width, {values}}}").count() == count


def test_commands_refuse_it_in_one_sentence(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.yaml").write_text(
        "base: laptop/thin_sdxl\nknobs: {a: {path: self_attention, choices: [mhsa, x]}}\n"
    )
    (tmp_path / "search.yaml").write_text(
        "space: mine.yaml\nobjectives: {macs: minimize}\nsettings: {count_only: true, seeds: [0]}\n"
    )
    for words in (["space", "mine.yaml"], ["sweep", "search.yaml"], ["sweep", "search.yaml", "--dry-run"]):
        assert main(words) == 2
        assert "knob 'a', value x: " in capsys.readouterr().err
