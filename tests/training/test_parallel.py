"""A training is the same function however it is cut over processes: DDP and FSDP over gloo, on this CPU."""

import contextlib
import dataclasses
import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import parallel_training
import pytest
import torch
import torch.distributed as dist
from tiny_training import OBJECTIVES, RECIPE, TinyData, flow_matching, in_float64, run, tiny_network, undropped
from torch import nn

from harness.records.errors import UserError
from harness.training.batches import training_rows
from harness.training.guard import Guard
from harness.training.outcomes import Trained
from harness.training.parallel import World, check_independent, process_group
from harness.training.parallel_config import DdpParallel

pytestmark = pytest.mark.timeout(900)


def job(folder: Path, size: int, parallel: str = "ddp", **more: Any) -> dict[str, Any]:
    folder.mkdir(exist_ok=True)
    own = {"folder": str(folder), "size": size, "parallel": parallel}
    return {
        "recipe": {},
        "objective": "flow_matching",
        "double": False,
        "dies": None,
        "data": None,
        "bad": 0,
        **own,
        **more,
    }


def train_together(work: Path, jobs: list[dict[str, Any]]) -> list[list[int]]:
    """All jobs one after the other; the exit codes of each one's processes."""
    (work / "jobs.json").write_text(json.dumps(jobs))
    program = [sys.executable, parallel_training.__file__, str(work / "jobs.json")]
    here = str(Path(__file__).parent)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join([here, *sys.path])}
    subprocess.run(program, env=environment, check=True, timeout=800)
    codes: list[list[int]] = json.loads((work / "codes.json").read_text())
    return codes


def result(folder: Path) -> dict[str, Any]:
    return torch.load(folder / "result.pt", weights_only=True)


def assert_alike(folder: Path, one: Trained, rtol: float) -> None:
    found, expected = result(folder), one.model.state_dict()
    assert found["tensors"].keys() == expected.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(found["tensors"][name], tensor, rtol=rtol, atol=rtol)
    points = [(point.step, point.name, point.value) for point in one.curve]
    assert [point[:2] for point in found["curve"]] == [point[:2] for point in points]
    assert [point[2] for point in found["curve"]] == pytest.approx([point[2] for point in points], rel=max(rtol, 1e-6))


CUTS = [(2, "fsdp", 1), (3, "ddp", 2), (4, "ddp", None), (4, "fsdp", None)]


BESIDE = [
    ("judged", "ddp"),
    ("distillation", "ddp"),
    ("distillation", "fsdp"),
    ("step_distillation", "ddp"),
    ("step_distillation", "fsdp"),
]
"""Objectives with modules of their own, and how two processes share them; a feature is tapped inside DDP and FSDP."""


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every cut, in float64; two objectives; and three that are refused."""
    work = tmp_path_factory.mktemp("parallel")
    cuts = [
        job(work / f"{size}-{parallel}-{micro}", size, parallel, double=True, recipe={"micro_batch": micro})
        for size, parallel, micro in CUTS
    ]
    others = [
        *(
            job(work / f"{objective}-{parallel}", 2, parallel, objective=objective, double=True)
            for objective, parallel in BESIDE
        ),
        job(work / "float32", 2, "fsdp"),
        job(work / "none", 2, "none"),
        job(work / "few", 3, "ddp", recipe={"batch_size": 2}),
        job(work / "other data", 2, "ddp", data=1),
        job(work / "bad", 2, "fsdp", double=True, bad=7, recipe={"max_rollbacks": 1}),
    ]
    assert all(code == 0 for codes in train_together(work, [*cuts, *others]) for code in codes)
    return work


@pytest.mark.parametrize(("size", "parallel", "micro"), CUTS)
def test_in_float64_it_is_the_training_of_one_process(
    tmp_path: Path, trained: Path, size: int, parallel: str, micro: int | None
) -> None:
    one = run(tmp_path, model=undropped(tiny_network()).double(), objective=in_float64(flow_matching()))
    assert_alike(trained / f"{size}-{parallel}-{micro}", one, rtol=1e-10)


def test_in_float32_it_is_to_rounding(tmp_path: Path, trained: Path) -> None:
    assert_alike(trained / "float32", run(tmp_path, model=undropped(tiny_network())), rtol=2e-4)


@pytest.mark.parametrize(("objective", "parallel"), BESIDE)
def test_what_an_objective_trains_beside_is_shared_too(
    tmp_path: Path, trained: Path, objective: str, parallel: str
) -> None:
    one = run(tmp_path, model=undropped(tiny_network()).double(), objective=in_float64(OBJECTIVES[objective]()))
    assert_alike(trained / f"{objective}-{parallel}", one, rtol=1e-10)


def test_a_batch_that_is_bad_in_one_process_is_left_out_by_all(
    tmp_path: Path, trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe, guard = dataclasses.replace(RECIPE, max_rollbacks=1), Guard.__init__
    monkeypatch.setattr(Guard, "__init__", lambda self, given: guard(self, given) or self.leave_out(7))
    one = run(tmp_path, recipe, model=undropped(tiny_network()).double(), objective=in_float64(flow_matching()))
    assert_alike(trained / "bad", one, rtol=1e-10)
    (note,) = result(trained / "bad")["notes"]
    assert note.startswith("step 7 is left out, with rows ")


def test_what_cannot_be_is_one_sentence(trained: Path) -> None:
    assert (trained / "none" / "refused-1.txt").read_text() == (
        "parallel=none trains in one process, and there are 2; give parallel=ddp or fsdp"
    )
    assert (trained / "few" / "refused-0.txt").read_text() == (
        "3 processes share a batch of recipe.batch_size=2 images, which leaves some without any; use at most 2"
    )

    assert (
        (trained / "other data" / "refused-0.txt")
        .read_text()
        .startswith(
            "process 1 of 2 has another model, recipe, data or seed than process 0; start all of them on the same code"
        )
    )


CHAIN = [
    (2, "ddp", 5, [1, "forward", 7, 5]),
    (2, "fsdp", 5, [0, "all-reduce", 9, 5]),
    (2, "ddp", 5, [1, "write", 10, 5]),
    (2, "fsdp", 5, [0, "before the manifest", 10, 5]),
    (1, "none", 5, [0, "forward", 12, 10]),
    (3, "fsdp", 4, [2, "forward", 14, 12]),
    (4, "ddp", 5, None),
]
"""Processes, how they share, steps between checkpoints, who dies where and after which checkpoint."""


TAUGHT = [("distillation", "ddp", [1, "forward", 7, 5]), ("step_distillation", "fsdp", [0, "all-reduce", 12, 10])]
"""Objectives with a teacher, killed in two processes, which end in one."""


def test_killed_in_turn_it_goes_on_in_any_number_of_processes(tmp_path: Path) -> None:
    folder = tmp_path / "killed"
    chain = [
        job(folder, size, parallel, double=True, recipe={"checkpoint_every": every}, dies=dies)
        for size, parallel, every, dies in CHAIN
    ]
    taught = [
        job(tmp_path / name, size, parallel if size > 1 else "none", double=True, objective=name, dies=ends)
        for name, parallel, dies in TAUGHT
        for size, ends in ((2, dies), (1, None))
    ]
    codes = train_together(tmp_path, [*chain, *taught])
    assert [[code == -9 for code in ended] for ended in codes[len(CHAIN) :]] == [
        [False, True], [False], [True, False], [False],
    ]  # fmt: skip
    for name, _, dies in TAUGHT:
        alone = run(
            tmp_path / f"one {name}", model=undropped(tiny_network()).double(), objective=in_float64(OBJECTIVES[name]())
        )
        assert_alike(tmp_path / name, alone, rtol=1e-10)
        assert result(tmp_path / name)["from"] == (dies[-1],)
    for (size, _, _, dies), ended in zip(CHAIN, codes[: len(CHAIN)], strict=True):
        assert [code == -9 for code in ended] == [dies is not None and dies[0] == rank for rank in range(size)]
        assert all(code != 0 for code in ended) or dies is None, "one that dies ends the training of all"
    one = run(tmp_path / "one", model=undropped(tiny_network()).double(), objective=in_float64(flow_matching()))
    assert_alike(folder, one, rtol=1e-10)
    assert result(folder)["from"] == (5, 10, 12)
    assert trained_again(folder / "steps.log") == []


def trained_again(log: Path) -> list[int]:
    """The steps that were trained after a checkpoint had them."""
    saved, again = 0, []
    for line in map(json.loads, log.read_text().splitlines()):
        saved = line.get("saved", saved)
        again += [line["step"]] if line.get("step", saved + 1) <= saved else []
    return again


@pytest.mark.parametrize("count", [1, 2, 7, 8, 1024])
@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_shares_have_every_sample_once(size: int, count: int) -> None:
    shares = [World(rank, size).share(count) for rank in range(size)]
    assert [sample for share in shares for sample in share] == list(range(count))
    assert max(map(len, shares)) == World(0, size).largest_share(count)


def test_processes_read_the_rows_of_their_share() -> None:
    whole = [rows for rows, _ in training_rows(TinyData(), RECIPE, 0, 1, range(8))]
    parts = [
        [rows for rows, _ in training_rows(TinyData(), RECIPE, 0, 1, World(rank, 3).share(8))] for rank in range(3)
    ]
    assert all(torch.equal(rows, torch.cat(own)) for rows, *own in zip(whole, *parts, strict=True))


@pytest.mark.parametrize("layer", [nn.Dropout(0.1), nn.BatchNorm2d(2)])
def test_what_depends_on_the_cut_is_refused(tmp_path: Path, layer: nn.Module) -> None:
    with pytest.raises(UserError, match=f"parallel=ddp cuts batches, and {type(layer).__name__} at '1' depends on how"):
        check_independent(nn.Sequential(nn.Identity(), layer), "parallel=ddp")
    check_independent(nn.Sequential(nn.Dropout(0.0), nn.GroupNorm(1, 2)), "parallel=ddp")
    with pytest.raises(UserError, match=r"recipe\.micro_batch cuts batches"):
        run(tmp_path, dataclasses.replace(RECIPE, micro_batch=4))


def test_an_error_is_said_though_the_end_of_the_group_would_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """As NCCL's does for a process that is gone."""
    ends: list[str] = []
    monkeypatch.setattr(dist, "destroy_process_group", lambda: ends.append("waited"))
    monkeypatch.setattr(dist, "init_process_group", lambda *_args, **_named: None)
    monkeypatch.setattr(dist.distributed_c10d, "_abort_process_group", lambda: ends.append("aborted"))
    for error in (UserError("the data changed"), None):
        listener = socket.create_server(("127.0.0.1", 0))
        where = ("127.0.0.1", listener.getsockname()[1])
        with (
            pytest.raises(UserError) if error else contextlib.nullcontext(),
            process_group(0, 2, where, torch.device("cpu"), listener),
        ):
            if error:
                raise error
    assert ends == ["aborted", "waited"]


def test_one_process_may_ask_for_ddp(tmp_path: Path, unbroken: Trained) -> None:
    assert run(tmp_path, parallel=DdpParallel()).curve == unbroken.curve
