"""A package in two parts: one after the other they are the whole."""

import pytest

from harness.coreml.chunks import check_chain, chunks_psnr_db, cut_in_two, run_chain
from harness.coreml.interpreter import run_program
from harness.coreml.mil_program import WEIGHTS, read_program
from harness.coreml.parity import ParityError


def weight_bytes(package):
    return sum(file.stat().st_size for file in (package / WEIGHTS).parent.rglob("*.bin"))


@pytest.fixture(scope="module")
def chunks(last_rung):
    return cut_in_two(last_rung[2].path)


def test_each_part_has_about_half_of_the_weights(last_rung, chunks):
    whole = weight_bytes(last_rung[2].path)
    parts = [weight_bytes(each) for each in chunks]
    assert sum(parts) == pytest.approx(whole, rel=0.02)
    assert max(parts) < 0.75 * whole


def test_one_after_the_other_they_are_the_whole(last_rung, chunks):
    _, inputs, summary = last_rung
    assert chunks_psnr_db(read_program(summary.path), [read_program(each) for each in chunks], inputs) >= 60


def test_a_part_that_is_fed_something_else_is_red(last_rung, chunks):
    """What the second part is given by the first matters."""
    _, inputs, summary = last_rung
    first, second = map(read_program, chunks)
    named = dict(zip((each.name for each in read_program(summary.path).inputs), inputs, strict=True))
    given = run_program(first, {each.name: named[each.name] for each in first.inputs}, "float16")
    halved = {**named, **{name: value / 2 for name, value in given.items()}}
    (out,) = run_program(second, {each.name: halved[each.name] for each in second.inputs}, "float16").values()
    (right,) = run_chain([first, second], named, "float16").values()
    assert (out - right).abs().max() > 0.01


@pytest.mark.parametrize("decibels", [59.9, float("-inf"), float("nan")])
def test_parts_that_are_not_the_whole_are_refused(decibels):
    check_chain(60.0)
    with pytest.raises(ParityError, match="of the whole and 60 dB are asked"):
        check_chain(decibels)
