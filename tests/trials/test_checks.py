"""What a study cannot have is one sentence before anything is read, timed or trained, and in `--dry-run`."""

import ast
import importlib
import os
import sys
from pathlib import Path

import pytest
import torch
from tiny_study import SWEEP, write_yaml

import harness
from harness.cli import main
from harness.records.errors import UserError
from harness.records.manifest import RESERVED
from harness.trials.checks import check_device, check_launcher, check_study
from harness.trials.settings import settings_of

NO_GPU = pytest.mark.skipif(torch.cuda.is_available(), reason="has CUDA")
PACKAGE = Path(harness.__file__).parent
VERBS = ("ablate tiny", "ablate tiny --dry-run", "sweep search", "sweep search --dry-run", "train laptop/thin_sdxl")


@pytest.fixture
def refused(workplace, capsys, monkeypatch):
    """The sentence with which a command that would train is refused, before it reads its data."""
    monkeypatch.setenv("PATH", str(workplace))  # no Slurm
    monkeypatch.setattr("harness.data.dataset.load_dataset", lambda *_, **__: pytest.fail("read the data"))

    def call(words: str | list[str]) -> str:
        assert main(words.split() if isinstance(words, str) else words) == 2
        printed = capsys.readouterr()
        assert printed.out == ""
        (line,) = printed.err.splitlines()
        assert not Path("runs/tiny").exists()
        assert not Path("runs/search").exists()
        return line

    return call


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        pytest.param("recipe.device=cuda", "recipe.device is 'cuda', which this machine does not have", marks=NO_GPU),
        pytest.param(
            "recipe.device=auto launcher=local launcher.cuda_devices=[0,9]", "this machine has 0 of them", marks=NO_GPU
        ),
        pytest.param(
            "latency=mac",
            "latency.mac needs a Mac",
            marks=pytest.mark.skipif(sys.platform == "darwin", reason="is a Mac"),
        ),
        ("data=fashion_mnist data.size=30", "data.size=30 does not fit the architecture"),
        ("latency.latent=9", "latency.latent=9 does not fit the architecture"),
        ("coreml=ios17 coreml.latent=9", "coreml.latent=9 does not fit the architecture"),
        (
            "recipe.device=cpu launcher=local launcher.cuda_devices=[0]",
            "launcher.cuda_devices deals out GPUs, and recipe.device is",
        ),
    ],
)
def test_what_cannot_be_had_is_said_before_the_data_is_read(verb, settings, sentence, refused):
    assert sentence in refused(f"{verb} {settings}")


@pytest.mark.parametrize("verb", [verb for verb in VERBS if "--dry-run" not in verb])
def test_without_slurm_nothing_is_begun_there_but_a_dry_run(verb, refused):
    said = refused(f"{verb} launcher=slurm")
    assert "needs Slurm's srun and sbatch on this machine, and sbatch and srun cannot be found" in said


def test_a_folder_that_one_may_not_enter_is_a_sentence(workplace, monkeypatch):
    """As the system has it, also for a user who may do all."""
    locked = workplace / "locked"
    locked.mkdir()

    def forbidding(look):
        def forbid(path, *arguments, **more):
            if locked in Path(path).parents:
                raise PermissionError(13, "Permission denied")
            return look(path, *arguments, **more)

        return forbid

    may = os.access
    for name in ("stat", "lstat"):
        monkeypatch.setattr(os, name, forbidding(getattr(os, name)))
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != locked and may(path, mode))
    with pytest.raises(UserError, match=r"out=locked/runs cannot be written: \S*locked does not let you"):
        check_study(settings_of(["data=digits", "out=locked/runs"]), [], name="tiny")


def test_onnx_runtime_is_missed_before_it_is_needed(refused, monkeypatch):
    monkeypatch.setattr("harness.latency.onnx.find_spec", lambda name: None if name == "onnxruntime" else object())
    assert "pip install 'unet-harness[onnx]'" in refused("ablate tiny latency=onnx --dry-run")


@pytest.mark.parametrize("name", ["cache", "Scores", "train-mqa", "score-mqa", "Train-mqa"])
@pytest.mark.parametrize("kind", ["ablate", "sweep"])
def test_a_study_whose_folder_would_not_be_its_own(name, kind, refused):
    assert f"a study cannot be called '{name}'" in refused(f"{kind} {study_file(name, kind)}")


def test_what_the_code_writes_beside_the_studies_is_reserved():
    """Every OUT/NAME that a file of the package names, as a text or as a constant of its module."""
    beside = set()
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div) and is_out(node.left):
                beside |= {name.split("/")[0] for name in texts_of(node.right, path)}
    assert beside >= {"store", "cache", "scores", "samples", "chains", "pages", "index.html", "data", "tracking"}
    assert beside <= RESERVED.keys()


def is_out(node: ast.expr) -> bool:
    """`out`, `settings.out` or `Path(out)`."""
    if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Path":
        return is_out(node.args[0])
    return (node.id if isinstance(node, ast.Name) else getattr(node, "attr", "")) == "out"


def texts_of(node: ast.expr, path: Path) -> list[str]:
    if isinstance(node, ast.Name) and node.id.isupper():
        module = ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)
        return [getattr(importlib.import_module(module), node.id)]
    return [node.value] if isinstance(node, ast.Constant) else []


@pytest.mark.parametrize("name", ["", "..", ".hidden", "two\nlines", "\x1b[2J"])
@pytest.mark.parametrize("kind", ["ablate", "sweep"])
def test_a_study_whose_name_no_folder_should_have(name, kind, refused):
    assert f"does not begin with a dot, unlike {name or '.yaml'!r}" in refused([kind, study_file(name, kind)])


def study_file(name: str, kind: str) -> str:
    path = Path(f"{name}.yaml")
    write_yaml(path, SWEEP) if kind == "sweep" else path.write_text(Path("sweeps/tiny.yaml").read_text())
    return f"./{path}"


def test_names_that_differ_in_case_alone_are_one_folder_on_many_file_systems(refused):
    Path("runs/TINY").mkdir()
    assert "runs/TINY is another study's, and 'tiny' differs from it in case only" in refused("ablate tiny")


@pytest.mark.parametrize(("name", "out"), [("50%j", "runs"), ("tiny", "at 50%")])
def test_slurm_is_given_no_path_with_a_percent_sign(name, out, refused, workplace, monkeypatch):
    monkeypatch.setattr("harness.trials.checks.shutil.which", lambda command: f"/usr/bin/{command}")
    words = ["ablate", study_file(name, "ablate"), f"out={out}", "launcher=slurm", "launcher.gpus=0"]
    assert f"Slurm takes the % in {workplace / out}" in refused(words)
    check_study(settings_of(["out=50%", "tracker=none"]), [], name="50%")  # nobody else does


def slurm(*overrides: str):
    return settings_of(["launcher=slurm", *overrides])


def test_no_job_is_given_a_gpu_that_its_training_leaves_idle(monkeypatch):
    monkeypatch.setattr("harness.trials.checks.shutil.which", lambda command: f"/usr/bin/{command}")
    check_launcher(slurm("recipe.device=cuda", "launcher.gpus=1"))
    check_launcher(slurm("recipe.device=cpu", "launcher.gpus=1", "count_only=true"))
    with pytest.raises(UserError, match=r"launcher.gpus=1 asks Slurm for GPUs, and recipe.device is 'cpu'"):
        check_launcher(slurm("recipe.device=cpu", "launcher.gpus=1"))


def test_a_workers_gpu_is_not_asked_of_the_machine_that_submits(monkeypatch):
    monkeypatch.setattr("harness.trials.checks.shutil.which", lambda command: f"/usr/bin/{command}")
    check_study(slurm("recipe.device=cuda", "launcher.gpus=1", "tracker=none"), [])


def test_what_several_processes_need_is_asked_before_they_start(monkeypatch):
    several = ["launcher=local", "launcher.processes=2", "parallel=ddp"]
    check_device(settings_of([*several, "recipe.device=cpu"]))
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    monkeypatch.setattr("torch.distributed.is_nccl_available", lambda: True)
    with pytest.raises(
        UserError, match=r"launcher.processes=2 wants 2 GPUs here, .* this machine has 1; use at most 1"
    ):
        check_device(settings_of([*several, "recipe.device=cuda"]))
    with pytest.raises(UserError, match=r"and launcher.cuda_devices deals out 1; use at most 1"):
        check_device(settings_of([*several, "launcher.cuda_devices=[0]", "recipe.device=auto"]))
    monkeypatch.setattr("torch.distributed.is_nccl_available", lambda: False)
    with pytest.raises(UserError, match="talk by gloo and nccl, and this PyTorch has no nccl"):
        check_device(settings_of([*several, "recipe.device=cuda"]))
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: True)
    with pytest.raises(UserError, match="on CPUs or CUDA, not on 'mps'"):
        check_device(settings_of([*several, "recipe.device=mps"]))


@pytest.mark.parametrize(
    ("began", "verb", "sentence"),
    [
        (
            "manifest.json",
            "sweep search",
            "runs/search has an ablation of the name 'search', and a folder has one",
        ),
        ("sweep.json", "ablate tiny", "runs/tiny has a sweep of the name 'tiny', and a folder has one"),
    ],
)
@pytest.mark.parametrize("dry", ["", " --dry-run"])
def test_an_ablation_and_a_sweep_of_one_name_do_not_share_a_folder(workplace, capsys, began, verb, sentence, dry):
    """Else the page of one is written over the other's."""
    write_yaml(Path("sweeps/search.yaml"), SWEEP)
    folder = Path("runs") / verb.split()[1]
    folder.mkdir(parents=True)
    (folder / began).write_text("{}")
    assert main((verb + dry).split()) == 2
    assert sentence in capsys.readouterr().err
