"""A verb alone lists what its NAME can be: everything that is there, and what each file says of itself."""

import pytest

from harness.architecture.catalogue import catalogue_names
from harness.cli import main
from harness.commands.operands import first_sentence
from harness.records.yaml_text import leading_comment
from harness.trials.studies import read_study, study_names


def listed(capsys, *words: str) -> dict[str, str]:
    assert main([*words]) == 0
    lines = capsys.readouterr().out.splitlines()[1:]
    return {line.split()[0]: line for line in lines}


def test_architectures(capsys):
    for verb in ("measure", "train", "export", "compare"):
        assert tuple(sorted(listed(capsys, verb))) == catalogue_names()
    assert "the last rung" in listed(capsys, "measure")["snapgen"]


def test_spaces_with_their_base(capsys):
    lines = listed(capsys, "space")
    assert sorted(lines) == study_names("search_spaces")
    assert all(f"around {read_study('search_spaces', name)['base']}: " in line for name, line in lines.items())


def test_studies_of_the_verbs_kind_and_no_other(capsys):
    ablations, sweeps, both = (set(listed(capsys, verb)) for verb in ("ablate", "sweep", "promote"))
    assert "fig3" in ablations
    assert "laptop" in sweeps
    assert not ablations & sweeps
    assert ablations | sweeps == both == set(study_names("sweeps"))


@pytest.mark.parametrize("verb", ["measure", "space", "ablate", "sweep"])
def test_every_file_that_comes_with_the_repository_says_what_it_is(verb, capsys):
    for name, line in listed(capsys, verb).items():
        assert len(line.split(name, 1)[1].strip()) > 20, line


def test_ones_own_studies_are_listed_and_a_broken_one_hides_no_other(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sweeps").mkdir()
    (tmp_path / "sweeps" / "mine.yaml").write_text("# What I try. More of it.\narchitecture: {}\n")
    (tmp_path / "sweeps" / "broken.yaml").write_text("a: [\n")
    (tmp_path / "search_spaces").mkdir()
    (tmp_path / "search_spaces" / "twice.yaml").write_text("base: mqa\nbase: ffn3\n")
    lines = listed(capsys, "ablate")
    assert lines["mine"].endswith("What I try.")
    assert "is not YAML" in lines["broken"]
    assert "fig3" in lines
    lines = listed(capsys, "space")
    assert "line 2: the key 'base' stands in line 1 too" in lines["twice"]
    assert "laptop" in lines


def test_a_sentence_ends_before_a_capital_and_not_within_a_figures_name(tmp_path):
    assert first_sentence("Fig. 3, rung 2b: the same. It edits rung 1.") == "Fig. 3, rung 2b: the same."
    (tmp_path / "a.yaml").write_text("\ufeff# One\n# two.\n\n# three\na: 1\n", encoding="utf-8")
    assert leading_comment(tmp_path / "a.yaml") == "One two."
