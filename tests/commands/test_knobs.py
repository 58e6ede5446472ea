"""Every knob is listed with its values and its meaning, from the configurations' own source."""

import pytest

from harness.architecture.catalogue import architecture, catalogue_names
from harness.architecture.edits import paths
from harness.cli import main
from harness.commands.knobs import knobs
from harness.records.plain import to_plain

FAMILIES = ("unet", "dit", "uvit", "ldm", "decoder", "autoencoder", "recipe")


@pytest.mark.parametrize("family", FAMILIES)
def test_every_knob_says_what_it_means(family):
    assert [line.path for line in knobs(family) if not line.text] == []


def test_every_path_of_every_architecture_is_listed():
    listed = {line.path for family in FAMILIES for line in knobs(family)}
    for name in catalogue_names():
        for path in paths(to_plain(architecture(name))):
            general = ".".join("*" if step.isdigit() else step for step in path.split("."))
            assert general in listed or general.endswith(("kind", "*")), path


def test_one_knob_is_shown_with_what_is_inside_it(capsys):
    assert main(["knobs", "stages.1.block"]) == 0
    shown = capsys.readouterr().out
    assert "stages.*.block = (required)  (residual | residual_transformer | transformer)" in shown
    assert "stages.*.block.depth" in shown
    assert "kernel_size" not in shown
    assert main(["knobs", "kernel_size", "--family", "decoder"]) == 0
    assert "convolution.kernel_size = 3  (whole number)" in capsys.readouterr().out


@pytest.mark.parametrize("words", [["feed_foward"], ["--family", "unett"], ["norm", "a=1"]])
def test_a_wrong_word_is_one_sentence(words, capsys):
    assert main(["knobs", *words]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_a_knob_of_another_family_says_which(capsys):
    assert main(["knobs", "patch_size"]) == 2
    assert (
        "knob 'patch_size' is none of unet and recipe, but of dit, uvit; give --family dit" in capsys.readouterr().err
    )
    assert main(["knobs", "patch_size", "--family", "dit"]) == 0
