"""`snapgen` at its full size really runs here: a forward pass and a training step at a 32x32 latent."""

import json
import subprocess
import sys

import pytest

STEP = """
import json, resource, sys
import torch
from harness.architecture.catalogue import architecture
from harness.models.build import build, example_inputs
torch.set_num_threads(1)
config = architecture("snapgen")
module = build(config, checkpointing=True).train()
torch.nn.init.normal_(module.conv_out.weight, std=0.02)
x, time, context = example_inputs(config, latent=32)
with torch.no_grad():
    forward = module(x, time, context)
weight = module.down[1].attention[0].layer[0].cross_attention.query.weight
before = weight.detach().clone()
optimiser = torch.optim.AdamW(module.parameters(), lr=1e-4, foreach=False)
loss = (module(x, time, context) - x).square().mean()
loss.backward()
optimiser.step()
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
size = sum(parameter.numel() for parameter in module.parameters())
sound = forward.shape == x.shape and bool(forward.std() > 0.01 and loss.isfinite() and weight.isfinite().all())
print(json.dumps([size, sound, not torch.equal(before, weight), peak / 1e9]))
"""


@pytest.mark.xdist_group("gigabytes")
@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_snapgen_runs_forward_and_one_training_step_within_8_gigabytes():
    """Weights, gradients and AdamW's two moments are 6.0 GB in float32; blocks are recomputed. Measured: 6.8 GB."""
    process = subprocess.run([sys.executable, "-c", STEP], check=True, capture_output=True, text=True, timeout=1100)
    size, sound, moved, peak_gb = json.loads(process.stdout)
    print(f"peak {peak_gb:.1f} GB")
    assert size / 1e6 == pytest.approx(372, rel=0.01)
    assert sound
    assert moved
    assert peak_gb < 8
