"""The interface for notebooks: its documented lines run, importing it is light, it samples what was trained."""

import doctest
import subprocess
import sys

import pytest
import torch

import harness
from harness.models.weights import Training, write_weights
from harness.records.errors import UserError


def test_the_documented_lines_run():
    results = doctest.testmod(harness)
    assert results.attempted >= 5
    assert results.failed == 0


def test_importing_it_loads_nothing_heavy():
    code = "import sys, harness; sys.exit(bool({'torch', 'numpy', 'yaml', 'optuna'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_file_of_weights_is_loaded_and_sampled_from(tmp_path, monkeypatch):
    from harness.data.config import MiniLmText
    from harness.data.prompts import class_prompts
    from harness.models.parameters import filled_copy

    monkeypatch.chdir(tmp_path)
    prompts = class_prompts(MiniLmText(), ["3", "7"], tmp_path)
    config = harness.edit("laptop/thin_sdxl", {"context_length": prompts.length})
    network = filled_copy(harness.build(config))
    training = Training(trial="0123456789abcdef", latent=8, text=prompts.identity)
    file = tmp_path / "ema.safetensors"
    write_weights(file, network.state_dict(), config, training)
    model = harness.load(file)
    assert model.architecture == config
    texts = ["a photo of a 3", "7", "a photo of a 3"]
    images = model.images(texts, steps=2, seed=1)
    assert (images.shape, images.dtype) == ((3, 1, 8, 8), torch.uint8)
    assert torch.equal(images, model.images(texts, steps=2, seed=1))
    assert not torch.equal(images, model.images(texts, steps=2, seed=2))
    assert [picture.tobytes() for picture in model.sample(texts, steps=2, seed=1)] == [
        image.numpy().tobytes() for image in images
    ]
    with pytest.raises(UserError, match=r"'fedcba9876543210' is neither the key of a trial .* nor a folder that"):
        harness.load("fedcba9876543210", out=tmp_path)
