"""The physics: against arithmetic by hand, and what no machine does: more work in less time."""

import numpy as np
import pytest
import torch
from torch import nn

from harness.measure.cost import count
from harness.predictor.calibration import read
from harness.predictor.chips import CHIPS
from harness.predictor.memory import chunks, doubts, weights_mb, why_too_big
from harness.predictor.networks import catalogue_network
from harness.predictor.operators import COLUMNS, operators_of
from harness.predictor.predict import predict_latency, predict_operators
from harness.predictor.roofline import ChipScale, Physics, milliseconds
from harness.records.errors import UserError
from harness.records.quantity import Predicted, Unavailable

PHYSICS = Physics(
    dense=0.5, depthwise=0.1, attention=0.25, vector=100.0, norm=50.0, score_bytes=10.0,
    bandwidth=0.5, on_chip_mb=2.0, launch_ms=0.01, attention_ms=0.05, fixed_ms=0.3,
)  # fmt: skip
A15 = CHIPS["A15"]  # 7.9e12 multiply-adds and 34.1e9 bytes a second


def operators(*rows: dict[str, float]) -> np.ndarray:
    return np.array([[row.get(name, 0.0) for name in ("times", *COLUMNS)] for row in rows]).reshape(-1, 10)


def time_of(table: np.ndarray, bits: float = 16) -> float:
    return milliseconds(table, PHYSICS, A15, ChipScale(), bits)


def test_nothing_to_do_takes_no_time():
    assert time_of(operators()) == 0
    assert len(operators_of([])) == 0


def test_a_list_bound_by_arithmetic_by_hand():
    table = operators({"times": 3, "dense": 7.9e9, "launches": 1})
    assert time_of(table) == pytest.approx(0.3 + 3 * (7.9e9 / (0.5 * 7.9e12) * 1e3 + 0.01))


def test_a_list_bound_by_weights_by_hand():
    table = operators({"times": 1, "dense": 1e6, "weights": 34.1e6, "launches": 1})
    assert time_of(table) == pytest.approx(0.3 + 34.1e6 * 2 / (0.5 * 34.1e9) * 1e3 + 0.01)
    assert time_of(table, bits=4) == pytest.approx(0.3 + 34.1e6 / 2 / (0.5 * 34.1e9) * 1e3 + 0.01)


def test_activations_spill_by_hand():
    """2 MB touched with 2 MB on the chip: half of them goes through DRAM."""
    table = operators({"times": 1, "activations": 1e6})
    assert time_of(table) == pytest.approx(0.3 + 1e6 / (0.5 * 34.1e9) * 1e3)


def test_elements_by_hand():
    table = operators({"times": 1, "vector": 1e6, "norm": 1e6})
    assert time_of(table) == pytest.approx(0.3 + (1e6 / 100e9 + 1e6 / 50e9) * 1e3)


def test_scores_move_between_the_matmuls_by_hand():
    """Their traffic waits for the first matmul and the second for it: it adds to what takes longer, and so does what an
    attention costs by itself."""
    table = operators({"times": 1, "attention": 7.9e9, "scores": 1e6})
    by_hand = 0.3 + 0.05 + 7.9e9 / (0.25 * 7.9e12) * 1e3 + 10 * 1e6 / (0.5 * 34.1e9) * 1e3
    assert time_of(table) == pytest.approx(by_hand)
    assert time_of(operators({"times": 3, "scores": 1e-9})) == pytest.approx(0.3 + 3 * 0.05)


@pytest.mark.parametrize("column", COLUMNS)
def test_more_of_any_work_is_never_faster(column):
    generator = np.random.default_rng(0)
    for _ in range(50):
        table = np.concatenate([np.ones((4, 1)), generator.uniform(0, 1e8, (4, len(COLUMNS)))], axis=1)
        more = table.copy()
        more[generator.integers(4), 1 + COLUMNS.index(column)] *= 1 + generator.uniform()
        assert time_of(more) >= time_of(table)


@pytest.mark.parametrize("name", ["snapgen", "laptop/dit"])
def test_larger_images_larger_batches_and_wider_weights_take_longer(name):
    fitted = read().fitted
    sizes = [operators_of(count(*catalogue_network(name, latent)).rows) for latent in (16, 32, 64)]
    batches = [operators_of(count(*catalogue_network(name, 16, batch)).rows) for batch in (1, 2, 4)]
    for chip in CHIPS:
        for growing in (sizes, batches):
            times = [fitted.predict(table, chip, 16) for table in growing]
            assert times == sorted(times)
            assert times[0] < times[-1]
        bits = [fitted.predict(sizes[0], chip, width) for width in (1, 4, 6, 8, 16)]
        assert bits == sorted(bits)


def test_a_batch_norm_and_an_activation_after_a_convolution_cost_nothing():
    with torch.device("meta"):
        plain, inputs = nn.Conv2d(8, 8, 3), (torch.empty(1, 8, 16, 16),)
        dressed = nn.Sequential(nn.Conv2d(8, 8, 3), nn.BatchNorm2d(8), nn.ReLU()).eval()
    times = [predict_latency(module, inputs, chip="A15").value for module in (plain, dressed)]
    assert times[0] == times[1]


def test_depthwise_is_dearer_by_the_multiply_add_than_dense():
    with torch.device("meta"):
        inputs = (torch.empty(1, 64, 32, 32),)
        kinds = [operators_of(count(nn.Conv2d(64, 64, 3, groups=groups), inputs).rows) for groups in (1, 64)]
    assert [COLUMNS[np.flatnonzero(table[0, 1:])[0]] for table in kinds] == ["dense", "depthwise"]


def test_an_unknown_chip_lists_the_chips():
    with pytest.raises(UserError, match="A14") as error:
        predict_operators(operators({"times": 1}), chip="M4")
    assert all(chip in str(error.value) for chip in CHIPS)


def test_weight_bits_that_do_not_exist_are_refused():
    for bits in (0, -4, 32):
        with pytest.raises(UserError, match="16 bits"):
            predict_operators(operators({"times": 1}), chip="A15", weight_bits=bits)


def test_no_prediction_where_nobody_measured():
    prediction = predict_operators(operators({"times": 1}), chip="A15", compute_unit="CPU_ONLY")
    assert isinstance(prediction, Unavailable)
    assert "CPU_AND_NE" in prediction.reason


def test_sdxls_decoder_is_predicted_not_to_fit_as_published():
    module, inputs = catalogue_network("decoder/sdxl", 128)
    prediction = predict_latency(module, inputs, chip="A17 Pro")
    assert isinstance(prediction, Unavailable)
    assert "not to fit" in prediction.reason
    assert "reads and writes 1,074 MB, and SDXL's decoder with 1,074 MB" in prediction.reason
    assert "Tab. 2" in prediction.reason
    assert isinstance(predict_latency(*catalogue_network("decoder/tiny", 128), chip="A17 Pro"), Predicted)


def test_between_what_ran_and_what_failed_is_extrapolated():
    table = operators({"times": 1, "dense": 1e9, "weights": 1.4e9 / 2, "launches": 1})
    assert why_too_big(table, 16, A15) is None
    assert doubts(table, 16, A15)
    assert predict_operators(table, chip="A15").extrapolated
    assert why_too_big(table * [1, 1, 1, 1, 1, 1, 1, 2, 1, 1], 16, A15) is not None
    assert not doubts(table, 8, A15)


def test_fp16_weights_have_an_edge_of_their_own_on_a_phone():
    """A 4-bit network of 1,297 MB runs there, which proves nothing of 1,297 MB in fp16; a Mac takes more."""
    fp16, palettized = (operators({"times": 1, "dense": 1e9, "weights": 1.29e9 * 8 / bits}) for bits in (16, 4))
    assert "may leave the Neural Engine" in doubts(fp16, 16, A15)[0]
    assert not doubts(palettized, 4, A15)
    assert not doubts(fp16, 16, CHIPS["M1"])
    assert (chunks(fp16, 16, A15), chunks(fp16, 8, A15), chunks(fp16, 16, CHIPS["M1"])) == (2, 1, 1)
    reasons = predict_operators(fp16, chip="A15").conditions["extrapolated_because"]
    assert any("2 chunks of 645 MB" in reason and "8 bits with 645 MB" in reason for reason in reasons)
    too_large = predict_operators(operators({"times": 1, "dense": 1e9, "weights": 2.7e9 / 2}), chip="A15")
    assert isinstance(too_large, Unavailable)
    assert "has to be split in two" in too_large.reason
    assert "3 chunks of 900 MB, or about" in too_large.reason
    assert too_large.reason.endswith("8 bits with 1,350 MB")


@pytest.mark.parametrize(
    ("rung", "megabytes"), [("thin_sdxl", 1230), ("no_high_res_sa", 1209), ("sepconv", 918), ("expanded_sepconv", 1024)]
)
def test_the_ladders_first_two_rungs_lie_beyond_the_edge(rung, megabytes):
    """The sizes that reports/published/fig3.yaml tells."""
    table = operators_of(count(*catalogue_network(rung, 16)).rows)
    assert weights_mb(table, 16) == pytest.approx(megabytes, abs=0.5)
    assert bool(doubts(table, 16, CHIPS["A17 Pro"])) == (megabytes > 1074)
