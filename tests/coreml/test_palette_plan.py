"""Bits by sensitivity: the plan that errs least at a size, written down, read back and shipped."""

import itertools
import re

import numpy as np
import pytest
import torch
from torch import nn

from harness.cli import main
from harness.coreml import palette_measure
from harness.coreml.config import Mlprogram
from harness.coreml.export import convert, metadata_of, write_package
from harness.coreml.mil_program import read_program
from harness.coreml.palette_measure import large_weights, layers_of, measured_layers
from harness.coreml.palette_plan import Layer, cheapest, read_plan, write_plan
from harness.coreml.parity import program_psnr_db
from harness.records.errors import UserError

from .mil_packages import normal

BITS = (4, 6, 8)


def layer(name, size, *errors):
    return Layer(name=name, size=size, errors=dict(zip(BITS, errors, strict=True)))


LAYERS = [
    layer("sensitive", 4_000, 1.0, 0.1, 0.01),
    layer("large", 40_000, 0.5, 0.05, 0.004),
    layer("robust", 8_000, 0.002, 0.001, 0.0009),
    layer("no hull", 4_000, 0.3, 0.29, 0.001),  # 6 bits are above the line from 4 to 8
]


def cost(plan):
    by_name = {each.name: each for each in LAYERS}
    return sum(by_name[name].bytes_at(bits) for name, bits in plan.items())


def error(plan):
    return sum(each.errors[plan[each.name]] for each in LAYERS)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.3, 0.5, 0.8, 1.0])
def test_no_plan_of_its_size_errs_less_than_by_one_step(share):
    """Of all plans that fit, the best errs at most one tensor's step less."""
    least, most = (cost({each.name: bits for each in LAYERS}) for bits in (4, 8))
    limit = round(least + share * (most - least))
    plan = cheapest(LAYERS, limit)
    assert cost(plan) <= limit
    names = [each.name for each in LAYERS]
    every = [dict(zip(names, bits, strict=True)) for bits in itertools.product(BITS, repeat=len(names))]
    best = min(error(each) for each in every if cost(each) <= limit)
    step = max(each.errors[4] - each.errors[8] for each in LAYERS)
    assert best <= error(plan) <= best + step
    uniform = [error(dict.fromkeys(names, bits)) for bits in BITS if cost(dict.fromkeys(names, bits)) <= limit]
    assert error(plan) <= min(uniform)


def test_more_bytes_never_err_more():
    limits = range(cost(dict.fromkeys((each.name for each in LAYERS), 4)), 60_000, 1_000)
    errors = [error(cheapest(LAYERS, limit)) for limit in limits]
    assert all(after <= before for before, after in itertools.pairwise(errors))


def test_less_than_the_fewest_bits_take_is_refused():
    with pytest.raises(UserError, match="take 28,128 bytes at the fewest bits, and at most 20,000 are asked"):
        cheapest(LAYERS, 20_000)


def test_a_plan_is_read_as_it_was_written(tmp_path):
    plan = cheapest(LAYERS, 40_000)
    write_plan(tmp_path / "x.yaml", plan, LAYERS, "for a test")
    assert read_plan(tmp_path / "x.yaml") == plan
    assert "# 4,000; 1, 0.1, 0.01" in (tmp_path / "x.yaml").read_text()
    (tmp_path / "x.yaml").write_text("bits: {a: 5}\n")
    with pytest.raises(UserError, match="5"):
        read_plan(tmp_path / "x.yaml")


@pytest.fixture(scope="module")
def network():
    """Two tensors of a table each, and one that is too small for it."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Conv2d(8, 64, 3, padding=1), nn.Conv2d(64, 64, 3, padding=1), nn.Conv2d(64, 4, 1))


@pytest.fixture(scope="module")
def program(network):
    """Converted once."""
    return convert(network, (normal(1, 8, 8, 8),), Mlprogram())


@pytest.fixture(scope="module")
def programs(program, tmp_path_factory):
    folder = tmp_path_factory.mktemp("plan")
    paths = {bits: write_package(program, folder / f"{bits}.mlpackage", bits).path for bits in (16, *BITS)}
    return {bits: read_program(path) for bits, path in paths.items()}


def test_a_tensors_error_is_what_its_own_palette_costs(programs):
    inputs = [(normal(1, 8, 8, 8, seed=seed),) for seed in (1, 2)]
    layers = list(layers_of(programs[16], {bits: programs[bits] for bits in BITS}, inputs, large_weights(programs[16])))
    assert [each.size for each in layers] == [8 * 64 * 9, 64 * 64 * 9]  # the last is too small for a table
    assert len(layers) == len(large_weights(programs[16]))
    for each in layers:
        assert each.errors[4] > each.errors[6] > each.errors[8] > 0
    assert 0 < layers[1].errors[4] < 0.1


def test_what_was_measured_is_not_measured_again(program, tmp_path, monkeypatch):
    """Killed in the middle of its second line, it goes on at the second tensor; once all is there, nothing is run."""
    inputs, asked = [(normal(1, 8, 8, 8, seed=seed),) for seed in (1, 2)], []

    def counted(whole, palettized, inputs, places):
        asked.append([name for _, _, name in places])
        return layers_of(whole, palettized, inputs, places)

    monkeypatch.setattr(palette_measure, "layers_of", counted)
    layers = measured_layers(program, inputs, tmp_path)
    (file,) = tmp_path.glob("*.jsonl")
    first, second = file.read_text().splitlines(keepends=True)
    file.write_text(first + second[:20])
    assert measured_layers(program, inputs, tmp_path) == layers
    assert measured_layers(program, inputs, tmp_path) == layers
    assert asked == [[each.name for each in layers], [layers[1].name]]
    measured_layers(program, inputs[:1], tmp_path)
    assert len(asked) == 3, "other inputs are another measurement"


def test_a_network_without_a_large_tensor_is_a_sentence(tmp_path):
    small = convert(nn.Conv2d(3, 4, 3), (normal(1, 3, 8, 8),), Mlprogram())
    layers = measured_layers(small, [(normal(1, 3, 8, 8),)], tmp_path)
    with pytest.raises(UserError, match="the network has no tensor of more than 2,048 weights"):
        cheapest(layers, 1_000)


def test_a_limit_that_nothing_meets_is_refused_before_anything_is_measured(program, tmp_path, monkeypatch):
    monkeypatch.setattr(palette_measure, "layers_of", lambda *_: pytest.fail("it was measured"))
    least = sum((size * 2 + 7) // 8 + 8 for size in (8 * 64 * 9, 64 * 64 * 9))
    sentence = f"take {least:,} bytes at the fewest bits, and at most {least - 1:,} are asked"
    with pytest.raises(UserError, match=sentence):
        measured_layers(program, [(normal(1, 8, 8, 8),)], tmp_path, least - 1)


def test_one_conversion_gives_packages_of_all_bits(network, program, tmp_path):
    """What was converted keeps its weights and says nothing of the packages that were written of it."""
    first = write_package(program, tmp_path / "4.mlpackage", 4, about={"told": "of 4 bits"})
    whole = write_package(program, tmp_path / "16.mlpackage", about={"told": "of 16 bits"})
    plain = write_package(program, tmp_path / "plain.mlpackage")
    mixed = write_package(program, tmp_path / "mixed.mlpackage", {large_weights(read_program(whole.path))[0][2]: 2})
    assert [each.bits for each in (first, whole, plain, mixed)] == [4, 16, 16, "mixed"]
    assert [metadata_of(each.path).get("told") for each in (first, whole, plain)] == ["of 4 bits", "of 16 bits", None]
    assert first.bytes < mixed.bytes < whole.bytes == pytest.approx(plain.bytes, abs=100)


def test_what_is_planned_is_shipped(program, programs, tmp_path):
    """Each tensor has the values of the whole model's palette at its bits."""
    names = [name for _, _, name in large_weights(programs[16])]
    plan = {names[0]: 8, names[1]: 4}
    path = write_package(program, tmp_path / "x.mlpackage", plan).path
    shipped = read_program(path)
    for (operation, argument, name), bits in zip(large_weights(programs[16]), (8, 4), strict=True):
        values = [
            np.asarray(program.constants[program.operations[operation].arguments[argument][0]]())
            for program in (shipped, programs[bits])
        ]
        assert np.array_equal(*values), name


def test_a_plan_of_another_network_is_refused(program, tmp_path):
    with pytest.raises(UserError, match="the palette plan names other, and the network has no such tensor"):
        write_package(program, tmp_path / "x.mlpackage", {"other": 4})


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--at-most-mb", "1"], "--at-most-mb measures trained weights; name them with --weights FILE"),
        (["--at-most-mb", "1", "--bits", "4"], "--bits and --at-most-mb each say of how many bits weights are"),
        (["--at-most-mb", "0", "--weights", "x.safetensors"], "--at-most-mb is a size above 0, not 0"),
        (["--preflight", "--cut"], "--preflight writes no package, so it takes no --cut"),
    ],
)
def test_flags_that_do_not_go_together_are_refused_before_anything_is_read(flags, sentence, capsys):
    assert main(["export", "laptop/dit", *flags]) == 2
    assert sentence in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("bits: {a: 5}\n", "unknown value for .*bits.a': '5'"),
        ("bits: {}\n", "names no tensor"),
        (None, "cannot read the palette plan .*plan.yaml: No such file"),
    ],
)
def test_a_bad_plan_is_refused_before_the_network_is_built(text, sentence, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("harness.trials.shipping.untrained", lambda *_, **__: pytest.fail("it was built"))
    file = tmp_path / "plan.yaml"
    if text is not None:
        file.write_text(text)
    assert main(["export", "laptop/dit", "--plan", str(file), "--to", str(tmp_path / "x.mlpackage")]) == 2
    assert re.search(sentence, capsys.readouterr().err)


def test_mixed_bits_are_nearer_than_uniform_ones_of_their_size(network, program, programs, tmp_path):
    x = (normal(1, 8, 8, 8, seed=3),)
    with torch.no_grad():
        reference = network(*x)
    layers = list(layers_of(programs[16], {bits: programs[bits] for bits in BITS}, [x], large_weights(programs[16])))
    plan = cheapest(layers, sum(each.bytes_at(6) for each in layers))
    path = write_package(program, tmp_path / "x.mlpackage", plan).path
    mixed = program_psnr_db(read_program(path), x, [reference], "float32")
    assert mixed >= program_psnr_db(programs[6], x, [reference], "float32") - 0.1
