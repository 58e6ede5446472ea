"""A study small enough for a test: two rungs of a tiny network, a few steps, 16 samples."""

from pathlib import Path
from types import SimpleNamespace

import yaml

from harness.architecture.catalogue import architecture
from harness.architecture.edits import with_edits
from harness.latency import exported
from harness.trials.prepared import prepare
from harness.trials.settings import settings_of

TINY = {
    "stages.*.channels": 16,
    "stages.*.down_blocks": 1,
    "stages.*.up_blocks": 1,
    "head_dim": 8,
    "time_width": 16,
}
SMALL = {"head_dim": 16, "stages.2.block.depth": 1}
"""Of the tiny network: as few operators as it can have, for a conversion to Core ML."""
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

BASE = {"base": "laptop/thin_sdxl", "edits": TINY}
SPACE = {
    "base": "tiny_base.yaml",
    "knobs": {
        "ffn": {"path": "feed_forward.ratio", "choices": [2, 3, 4]},
        "self_attention": {"edits": {"mhsa": {}, "mqa": {"self_attention": "mqa"}}},
    },
}
SWEEP = {
    "space": "tiny",
    "objectives": {"kid": "minimize", "macs": "minimize"},
    "sampler": "random",
    "trials": 4,
    "settings": SETTINGS,
}


def lay_out(folder: Path, cache: Path) -> Path:
    """A working directory with the ablation `tiny` and the sweep `search` over six candidates.

    Its `runs` finds what is slow to compute in `cache`.
    """
    write_yaml(folder / "sweeps" / "tiny.yaml", ABLATION)
    write_yaml(folder / "sweeps" / "search.yaml", SWEEP)
    write_yaml(folder / "search_spaces" / "tiny.yaml", SPACE)
    write_yaml(folder / "tiny_base.yaml", BASE)
    share_cache(folder / "runs", cache)
    return folder


def share_cache(out: Path, cache: Path) -> None:
    out.mkdir()
    (out / "cache").symlink_to(cache)


def write_yaml(path: Path, content: object) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(yaml.safe_dump(content, sort_keys=False))


def tiny_spec(*overrides: str, edits=None, seed: int = 0, **more):
    """A trial of the tiny network in the working directory's `runs`."""
    config = with_edits(architecture("laptop/thin_sdxl"), {**TINY, **(edits or {})})
    return prepare(settings_of(overrides, SETTINGS)).spec("tiny", config, seed, **more)


def export_cheaply(monkeypatch, weights) -> list[Path]:
    """Exports are packages of the bytes `weights(module)` and nothing else; the list fills with their paths."""
    from coremltools.proto import Model_pb2

    paths: list[Path] = []

    def export(module, inputs, path, _config):
        paths.append(path)
        data = path / "Data" / "com.apple.CoreML"
        data.mkdir(parents=True)
        (data / "model.mlmodel").write_bytes(Model_pb2.Model().SerializeToString())
        (data / "weight.bin").write_bytes(weights(module))
        return SimpleNamespace(inputs=[f"x{i}" for i in range(len(inputs))], outputs=["out"])

    monkeypatch.setattr(exported, "export_package", export)
    return paths
