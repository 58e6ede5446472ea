"""A study that scores its networks at more settings of sampling than their own."""

from pathlib import Path

import pytest
from tiny_study import ABLATION, lay_out, write_yaml

from harness.cli import main
from harness.diffusion.config import SamplingConfig
from harness.records.errors import UserError
from harness.records.store import Store
from harness.trials.scored_at import ScoredAt

AT = {"steps": [1, 2], "guidance": [1, 1.5], "solvers": ["euler", "heun"]}


def test_every_solver_has_every_number_of_steps_but_one_step_is_eulers() -> None:
    at = ScoredAt(steps=(1, 4), guidance=(1.0, 1.5), solvers=("dpmpp_2m", "heun"))
    base = SamplingConfig(guidance_scale=2.0, seed=3)
    grid = [(each.solver, each.steps, each.guidance_scale) for each in at.grid(base)]
    assert grid == [
        ("euler", 1, 1.0), ("euler", 1, 1.5), ("dpmpp_2m", 4, 1.0), ("dpmpp_2m", 4, 1.5), ("heun", 4, 1.0),
        ("heun", 4, 1.5),
    ]  # fmt: skip
    assert {each.seed for each in at.grid(base)} == {3}
    with pytest.raises(UserError, match=r"has none of the times of 1 steps \(1\); widen it"):
        at.grid(SamplingConfig(guidance_scale=2.0, guidance_interval=(0.0, 0.6)))


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"steps": ()}, r"scored_at\.steps are different values, at least one, not \[\]"),
        ({"steps": (4, 4)}, r"scored_at\.steps are different values"),
        ({"steps": (0,)}, r"sampling\.steps must be at least 1, not 0"),
        ({"steps": (4,), "solvers": ("eulr",)}, r"scored_at\.solvers 'eulr'"),
        ({"steps": (4,), "guidance": (0.5,)}, "guidance_scale must be a number from 1"),
    ],
)
def test_what_cannot_be_is_one_sentence(settings: dict[str, tuple[object, ...]], says: str) -> None:
    with pytest.raises(UserError, match=says):
        ScoredAt(**settings)  # type: ignore[arg-type]


@pytest.mark.slow  # two trainings and ten scores
def test_one_command_trains_and_scores_and_twice_it_does_nothing(tmp_path, cache, monkeypatch, capsys):
    monkeypatch.chdir(lay_out(tmp_path, cache))
    ladder = {**ABLATION["architecture"], "rungs": ABLATION["architecture"]["rungs"][:1]}
    write_yaml(Path("sweeps/tiny.yaml"), {**ABLATION, "architecture": ladder, "scored_at": AT, "report": "few_steps"})
    assert main(["ablate", "tiny", "--dry-run"]) == 0
    assert "all are then scored at 6 settings of sampling" in capsys.readouterr().out
    assert main(["ablate", "tiny"]) == 0
    store = Store(Path("runs/store"))
    scores = [each for each in store.measurements() if each.subject == "score"]
    (record,) = store.trials()
    ways = {(each.settings["sampling"]["solver"], each.settings["sampling"]["steps"]) for each in scores}
    assert (len(scores), {each.settings["trial"] for each in scores}) == (6, {record.key})
    assert ways == {("euler", 1), ("euler", 2), ("heun", 2)}
    assert "best of 4" in Path("runs/tiny/report.html").read_text()
    before = {path: path.stat().st_mtime_ns for path in Path("runs/store").rglob("*.json")}
    assert main(["ablate", "tiny"]) == 0
    assert {path: path.stat().st_mtime_ns for path in Path("runs/store").rglob("*.json")} == before
