"""`harness space` and the spaces that come with the project: their architectures build, run and count."""

import itertools
import json
from pathlib import Path

import pytest
import torch

from harness.architecture.catalogue import architecture
from harness.architecture.decoder import DecoderConfig
from harness.cli import main
from harness.commands.space import census, draws
from harness.models.build import build, example_inputs
from harness.records.errors import UserError
from harness.search.space import space
from harness.trials.ablation_study import read_ablation
from harness.trials.costs import cost_of
from harness.trials.studies import REPOSITORY, read_study

SPACES = sorted(path.stem for path in Path(REPOSITORY / "search_spaces").glob("*.yaml"))
LAPTOP = [name for name in SPACES if name.startswith("laptop")]
FULL_SIZE = [name for name in SPACES if name not in LAPTOP]
MANY = 20


def space_named(name):
    return space(read_study("search_spaces", name))


def drawn(name, count):
    return list(itertools.islice(draws(space_named(name), seed=0), count))


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", LAPTOP)
def test_architectures_of_the_laptop_spaces_build_run_and_count(name):
    for _, config in drawn(name, MANY):
        torch.manual_seed(0)
        module = build(config).eval()
        for silent in (part for part in module.parameters() if not part.any()):  # what starts at zero hides the rest
            torch.nn.init.normal_(silent, std=0.1)
        with torch.inference_mode():
            out = module(*example_inputs(config, latent=4))
        assert out.shape == (1, 1, 4, 4)
        assert out.isfinite().all()
        assert out.any()
        cost = cost_of(config, 4)
        assert cost.params == sum(parameter.numel() for parameter in module.parameters())
        assert cost.macs > 0


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", FULL_SIZE)
def test_architectures_of_the_full_size_spaces_build_and_count(name):
    fingerprints = set()
    for _, config in drawn(name, MANY):
        cost = cost_of(config, max(8, config.latent_multiple))
        assert cost.params > 0
        assert cost.macs >= cost.macs_without_attention > 0
        fingerprints.add(config.fingerprint)
    assert len(fingerprints) > (MANY / 4 if name == "ladder" else 0.95 * MANY)


@pytest.mark.parametrize("name", SPACES)
def test_no_draw_is_refused_by_a_rule(name):
    """Conditional knobs are asked only where they exist, so every combination is an architecture."""
    import optuna

    whole = space_named(name)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1))
    refused = []
    for _ in range(100):
        parameters = whole.suggest(study.ask())
        try:
            whole.architecture(parameters)
        except UserError as error:
            refused.append((parameters, str(error)))
    assert refused == []


@pytest.mark.parametrize("name", ["ladder", *LAPTOP])
def test_combinations_are_distinct_and_counted_without_enumerating(name):
    whole = space_named(name)
    enumerated = census(whole)
    assert enumerated.combinations == whole.count()
    assert (enumerated.distinct, enumerated.refused) == (enumerated.combinations, 0)


def test_every_rung_is_in_the_ladder_as_a_space():
    whole = space_named("ladder")
    architectures = {whole.architecture(parameters) for parameters in whole.combinations()}
    for rung, _ in read_ablation("fig3_full").architecture.architectures():
        assert architecture(rung.name) in architectures


def test_combinations_that_are_the_same_network_count_once():
    same = {
        "base": "laptop/thin_sdxl",
        "knobs": {
            "attends": {"edits": {"no": {"stages.*.block.self_attention": False, "middle": None}, "yes": {}}},
            "attention": {"path": "self_attention.kind", "choices": ["mhsa", "mqa"]},
        },
    }
    enumerated = census(space(same))
    assert (enumerated.combinations, enumerated.distinct) == (4, 3)


def test_the_command_prints_the_number_and_repeats_its_samples(capsys):
    assert main(["space", "ladder", "--samples", "2", "--latent", "8", "--json"]) == 0
    first = json.loads(capsys.readouterr().out)
    assert (first["distinct"], len(first["samples"])) == (96, 2)
    assert main(["space", "ladder", "--samples", "2", "--latent", "8"]) == 0
    text = capsys.readouterr().out
    assert "96 distinct architectures" in text
    assert all(sample["fingerprint"] in text for sample in first["samples"])
    assert main(["space", "full"]) == 0
    assert "too many to make" in capsys.readouterr().out
    assert main(["space", "laptob"]) == 2
    assert "choose one of: laptop" in capsys.readouterr().err


def test_the_decoders_space_draws_decoders():
    assert all(isinstance(config, DecoderConfig) for _, config in drawn("decoder", 3))
