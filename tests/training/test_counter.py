"""Numbers by index: the published generator's, normal, uniform, and the same however a batch is cut."""

import dataclasses
import math
from pathlib import Path

import pytest
import torch
from tiny_training import RECIPE, run

from harness.training.counter import philox
from harness.training.randomness import IndexedDraws

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("counter", "key", "words"),
    [
        ([0] * 4, (0, 0), [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]),
        ([0xFFFFFFFF] * 4, (0xFFFFFFFF,) * 2, [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]),
        (
            [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344],
            (0xA4093822, 0x299F31D0),
            [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1],
        ),
    ],
)
def test_philox_gives_the_published_words(counter: list[int], key: tuple[int, int], words: list[int]) -> None:
    """The known answers of Random123, `philox 4x32 10`."""
    drawn = philox(tuple(torch.tensor([word]) for word in counter), key)  # type: ignore[arg-type]
    assert [int(word) for word in drawn] == words


def draws(samples: range, seed: int = 0, step: int = 3) -> IndexedDraws:
    return IndexedDraws(seed, step, samples, 1000, CPU)


def test_normals_are_normal_and_uniforms_uniform() -> None:
    x = draws(range(1000)).normal((10, 5, 5)).double()
    assert x.shape == (1000, 10, 5, 5)
    n = x.numel()
    assert abs(float(x.mean())) < 4 / math.sqrt(n)
    assert float(x.var()) == pytest.approx(1, abs=4 * math.sqrt(2 / n))
    assert float((x**4).mean()) == pytest.approx(3, abs=4 * math.sqrt(96 / n))
    below = torch.special.ndtr(x.flatten()).sort().values
    grid = (torch.arange(n) + 0.5) / n
    assert float((below - grid).abs().max()) < 1.95 / math.sqrt(n)  # Kolmogorov and Smirnov, p = 0.001
    u = draws(range(1000)).uniform()
    assert u.shape == (1000,)
    assert 0 <= float(u.min()) < 0.01
    assert 0.99 < float(u.max()) < 1
    assert float(u.mean()) == pytest.approx(0.5, abs=4 / math.sqrt(12 * 1000))


def test_numbers_of_samples_elements_draws_steps_seeds_and_streams_do_not_depend_on_each_other() -> None:
    one = draws(range(500))
    first, second, encoding = one.normal((8,)), one.normal((8,)), one.encoding((8,))
    others = [second, encoding, draws(range(500), seed=1).normal((8,)), draws(range(500), step=4).normal((8,))]
    others += [first.roll(1, 0), first.roll(1, 1)]
    for other in others:
        correlation = torch.corrcoef(torch.stack([first.flatten(), other.flatten()]))[0, 1]
        assert abs(float(correlation)) < 4 / math.sqrt(first.numel())


def test_a_samples_numbers_are_its_own_however_the_batch_is_cut() -> None:
    whole, parts = draws(range(7)), [draws(range(3)), draws(range(3, 7))]
    for row in ((2, 3), (), (5,)):
        assert torch.equal(whole.normal(row), torch.cat([part.normal(row) for part in parts]))
    assert torch.equal(whole.uniform(), torch.cat([part.uniform() for part in parts]))


def test_a_longer_row_begins_as_a_shorter_one() -> None:
    assert torch.equal(draws(range(3)).normal((9,))[:, :5], draws(range(3)).normal((5,)))


def test_training_by_it_is_another_training_that_learns_too(tmp_path: Path) -> None:
    recipe = dataclasses.replace(RECIPE, steps=60, schedule="constant", validate_every=60, checkpoint_every=100)
    host = run(tmp_path / "host", recipe)
    indexed = run(tmp_path / "indexed", dataclasses.replace(recipe, noise="indexed"))
    assert indexed.curve != host.curve
    assert indexed.validation_loss == pytest.approx(host.validation_loss, rel=0.1)
