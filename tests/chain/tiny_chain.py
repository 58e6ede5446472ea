"""A chain small enough for a test: every stage on the digits, a few steps each."""

from pathlib import Path
from typing import Any

from tiny_study import BASE, SETTINGS, SMALL, SPACE, TINY, share_cache, write_yaml

STAGES: dict[str, Any] = {
    "search": {
        "space": "tiny", "objectives": {"kid": "minimize", "macs": "minimize"}, "sampler": "random", "trials": 2,
    },
    "promote": None,
    "teacher": {"architecture": "tiny_base.yaml", "settings": {"recipe.steps": 4}},
    "train": {"settings": {"recipe.steps": 8}},
    "distil": {"settings": {"recipe.steps": 4}},
    "few_steps": {
        "settings": {
            "recipe.steps": 3, "objective.steps": 2, "objective.discriminator.width": 8,
            "objective.validation_steps": 2,
        },
        "scored_at": {"steps": [2]},
    },
    "export": None,
    "total": {"chip": "A17 Pro", "steps": [4]},
}  # fmt: skip


def chain(*names: str, **changed: Any) -> dict[str, Any]:
    """The YAML with the stages of these names, or all; `changed` takes the place of some."""
    stages = {name: changed.get(name, each) for name, each in STAGES.items() if not names or name in names}
    return {"summary": "A tiny one.", "settings": dict(SETTINGS), "pictures": 8, "stages": stages}


def lay_out(folder: Path, cache: Path, content: dict[str, Any] | None = None) -> None:
    """A working directory with the chain `tiny`; its `runs` finds what is slow to compute in `cache`."""
    write_yaml(folder / "search_spaces" / "tiny.yaml", SPACE)
    write_yaml(folder / "tiny_base.yaml", {**BASE, "edits": TINY | SMALL})
    (folder / "sweeps").mkdir(exist_ok=True)
    write_yaml(folder / "sweeps" / "chains" / "tiny.yaml", content or chain())
    if not (folder / "runs").exists():
        share_cache(folder / "runs", cache)
