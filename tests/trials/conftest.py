"""A study small enough for a test: two rungs of a tiny network, a few steps, 16 samples."""

import pytest
import yaml

TINY = {
    "stages.*.channels": 16,
    "stages.*.down_blocks": 1,
    "stages.*.up_blocks": 1,
    "head_width": 8,
    "time_width": 16,
}
SETTINGS = {
    "data": "digits",
    "recipe.steps": 6,
    "recipe.batch_size": 8,
    "recipe.checkpoint_every": 2,
    "recipe.validate_every": 6,
    "recipe.validation_images": 16,
    "sampling.solver": "euler",
    "sampling.steps": 2,
    "sampling.micro_batch": 16,
    "quality.samples": 16,
    "quality.reference_samples": 64,
    "quality.kid_subset_size": 8,
    "quality.kid_subsets": 3,
    "quality.extractor.resolution": 32,
    "quality.classifier_images": 100,
    "coreml": "none",
    "latency": "none",
    "tracker": "none",
    "launcher": "debug",
    "seeds": [0],
}
ABLATION = {
    "architecture": {
        "base": "laptop/thin_sdxl",
        "mode": "cumulative",
        "rungs": [
            {"name": "base", "title": "Tiny", "edits": TINY},
            {"name": "ffn2", "title": "Feed-forward 2", "edits": {"feed_forward.ratio": 2}},
        ],
    },
    "report": "fig3",
    "settings": SETTINGS,
}


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    """A working directory with sweeps/tiny.yaml."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sweeps").mkdir()
    (tmp_path / "sweeps" / "tiny.yaml").write_text(yaml.safe_dump(ABLATION, sort_keys=False))
    return tmp_path
