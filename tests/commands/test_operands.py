"""A verb alone lists what its NAME can be: everything that is there, and what each file says of itself."""

import json
from pathlib import Path

import pytest

import harness
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


@pytest.fixture
def winner(tmp_path, monkeypatch):
    """As a promotion writes it, as far as sizes go; another that was trained at 16; an edit of it."""
    monkeypatch.chdir(tmp_path)
    thin = "architecture: {base: laptop/thin_sdxl"
    Path("winner.yaml").write_text(f"origin: {{latent: 8}}\n{thin}}}\n")
    Path("other.yaml").write_text(f"origin: {{latent: 16}}\n{thin}, edits: {{feed_forward.ratio: 3}}}}\n")
    Path("child.yaml").write_text("base: winner.yaml\nedits: {feed_forward.ratio: 2}\n")
    return "winner.yaml"


@pytest.mark.parametrize(
    ("words", "latent"),
    [
        ("measure winner.yaml", 8),
        ("measure child.yaml", 8),
        ("measure winner.yaml --latent 16", 16),
        ("compare winner.yaml laptop/thin_sdxl", 8),
        ("compare laptop/thin_sdxl winner.yaml", 8),
        ("compare laptop/thin_sdxl laptop/thin_sdxl", 128),
        ("compare winner.yaml other.yaml --latent 32", 32),
        ("export winner.yaml --preflight", 8),
    ],
)
def test_costs_are_for_the_latent_that_a_file_was_trained_on_wherever_it_is_named(words, latent, winner, capsys):
    assert main([*words.split(), "--json"]) == 0
    printed = capsys.readouterr()
    assert json.loads(printed.out)["latent"] == latent
    said = f"note: {winner} was trained on 8x8 latents; this is for {latent}x{latent}" in printed.err
    assert said == (winner in words and latent != 8)


def test_two_trained_sizes_are_a_question(winner, refused):
    said = refused("compare", winner, "other.yaml")
    assert "trained on different latents, winner.yaml on 8x8, other.yaml on 16x16; choose one with --latent" in said


def test_python_counts_at_the_same_latent(winner):
    assert harness.count(winner).macs == harness.count("laptop/thin_sdxl", latent=8).macs
    assert harness.count("child.yaml").macs == harness.count("child.yaml", latent=8).macs


@pytest.mark.parametrize("size", ["x", "-8", "8.5", "true"])
def test_a_trained_size_that_is_none_is_a_mistake(size, winner, refused):
    Path(winner).write_text(f"origin: {{latent: {size}}}\narchitecture: {{base: laptop/thin_sdxl}}\n")
    assert "says on which latents the network was trained; mend it, or take it out" in refused("measure", winner)


def test_a_trials_key_is_no_architecture(refused):
    assert "'0123456789abcdef' is a trial's key" in refused("export", "0123456789abcdef", "--preflight")


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
