"""The network converts to an ML program with fused attention, and MQA copies no keys or values there."""

from collections import Counter

import pytest
import torch

from harness.architecture.catalogue import architecture
from harness.architecture.edits import with_edits
from harness.models.build import build, example_inputs

SHARED = {"self_attention": "mqa", "cross_attention": "mqa", "qk_norm": "rms", "position": "rope_2d"}
SMALL = {"stages.2.block.depth": 1, "stages.*.up_blocks": 1, "middle": None}


@pytest.mark.slow
@pytest.mark.parametrize("edits", [{}, SHARED], ids=["mhsa", "mqa, qk norm, rope"])
def test_converts_with_fused_attention_and_without_tile(edits):
    ct = pytest.importorskip("coremltools")
    config = with_edits(architecture("laptop/thin_sdxl"), SMALL | edits)
    module = build(config).eval()
    with torch.no_grad():
        exported = torch.export.export(module, example_inputs(config, latent=8)).run_decompositions({})
    program = ct.convert(exported, skip_model_load=True, minimum_deployment_target=ct.target.iOS18)
    (function,) = program._mil_program.functions.values()
    operators = Counter(operation.op_type for operation in function.operations)
    assert operators["scaled_dot_product_attention"] == 8  # self and cross: one down and one up block, two stages
    assert operators["tile"] == 0
