"""Every decoder that a study here trains or counts, as a package: of what preflight says, and the network's equal."""

from pathlib import Path

import pytest
import torch
import yaml

from harness.architecture.catalogue import architecture
from harness.architecture.ladder import Ladder
from harness.coreml.config import Mlprogram
from harness.coreml.mil_program import read_program
from harness.coreml.parity import parity
from harness.coreml.preflight import preflight
from harness.models.build import build, example_inputs
from harness.records.plain import from_plain

from .mil_packages import exported

SWEEPS = Path(__file__).parents[2] / "sweeps"


def rungs_of(name):
    ladder = from_plain(Ladder, yaml.safe_load((SWEEPS / f"{name}.yaml").read_text())["architecture"])
    return {rung.name: config for rung, config in ladder.architectures()}


RUNGS, FULL_SIZE = rungs_of("tab2_trained"), rungs_of("tab2")
TRAINED = {f"laptop: {name}": config for name, config in RUNGS.items()}
CATALOGUE = {name: architecture(name) for name in ("decoder/sdxl", "decoder/sd3", "decoder/tiny")}
BY_CONVERTER = {"batch_norm", "cast"}
"""What the converter makes of a norm's scale and shift, and of the output."""


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.xdist_group("gigabytes")
@pytest.mark.parametrize("name", [*TRAINED, *CATALOGUE])
def test_a_decoder_is_what_preflight_says_and_passes(name, tmp_path):
    module, inputs, summary = exported({**TRAINED, **CATALOGUE}[name], tmp_path, Mlprogram())
    report = preflight(module, inputs, Mlprogram())
    result = parity(module, inputs, read_program(summary.path))
    print(f"{name}: {result.float32_db:.1f} dB computed in float32, {result.float16_db:.1f} dB in fp16")
    result.check()
    assert set(summary.operators) - BY_CONVERTER <= set(report.operators)
    for kind in ("conv", "linear", "upsample_nearest_neighbor", "pixel_shuffle"):
        assert summary.operators.get(kind, 0) == report.operators.get(kind, 0)
    assert {finding.limit for finding in report.findings} <= {"number format"}
    assert not report.not_laid_out


@pytest.mark.parametrize("rung", FULL_SIZE)
def test_a_rung_at_the_papers_size_has_the_operators_of_the_small_one(rung):
    """Which is exported and held against the network: what preflight lists of one is what it lists of the other."""
    kinds = []
    for config in (RUNGS[rung], FULL_SIZE[rung]):
        with torch.device("meta"):
            module = build(config)
        kinds.append(set(preflight(module, example_inputs(config, latent=8, device="meta"), Mlprogram()).operators))
    assert kinds[0] == kinds[1]
