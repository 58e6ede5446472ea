"""A student on the latents of a pipeline's own autoencoder, taught by that pipeline's folder, by the command line."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from tiny_study import BASE, SETTINGS

sys.path.insert(0, str(Path(__file__).parents[1] / "models"))
from tiny_pipelines import save_sd3, save_sdxl, tiny_vae

from harness.cli import main
from harness.records.plain import to_plain
from harness.trials.settings import settings_of
from harness.trials.spec import store_of
from harness.trials.tasks.denoise import load

NAMES = ("red", "blue")


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """Pictures in two colours, a pipeline whose autoencoder's shift and scale are theirs, what it made of them, and an
    architecture."""
    folder = tmp_path_factory.mktemp("taught")
    random = np.random.default_rng(0)
    for number in range(48):
        path = folder / "images" / NAMES[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = random.integers(0, 90, (16, 16, 3)) + np.array([[150, 0, 0], [0, 0, 150]])[number % 2]
        Image.fromarray(pixels.astype(np.uint8)).save(path)
    pictures = np.stack([np.asarray(Image.open(path)) for path in (folder / "images").rglob("*.png")])
    with torch.no_grad():
        latents = tiny_vae().encode(torch.tensor(pictures).permute(0, 3, 1, 2) / 127.5 - 1).latent_dist.mean
    save_sd3(folder / "pipeline", shift=float(latents.mean()), scale=1 / float(latents.std()))
    (folder / "tiny.yaml").write_text(yaml.safe_dump(BASE))
    of_data = ["image_folder", f"data.path={folder / 'images'}", "data.size=16", f"to={folder / 'prepared'}"]
    assert main(["data", "prepare", *of_data, *vae(folder), f"out={folder / 'runs'}"]) == 0
    return folder


def vae(folder: Path, name: str = "pipeline") -> list[str]:
    return [
        "autoencoder=kl",
        f"autoencoder.name={folder / name}",
        "autoencoder.subfolder=vae",
        "autoencoder.encoding=mean",
    ]


def words(folder: Path, teacher: str = "pipeline") -> list[str]:
    """Of `harness train`, or settings."""
    small = [f"{name}={str(value).replace(' ', '')}" for name, value in SETTINGS.items() if name != "data"]
    of_data = ["data=prepared", f"data.path={folder / 'prepared'}", *vae(folder), f"out={folder / 'runs'}"]
    of_teacher = ["objective=distillation", "objective.teacher.kind=sd3", f"objective.teacher.name={folder / teacher}"]
    return [*small, *of_data, *of_teacher, "text.template={}"]


def test_a_student_learns_from_a_pipelines_folder(place, capsys):
    told = [*words(place), "objective.teacher.guidance_scale=2"]
    assert main(["train", str(place / "tiny.yaml"), *told, "--dry-run"]) == 0
    assert "the teacher's text encoders read 2 prompts first, once, on the CPU: about " in capsys.readouterr().out
    assert main(["train", str(place / "tiny.yaml"), *told]) == 0
    (record,) = store_of(place / "runs").trials()
    assert record.state == "complete"
    teacher = to_plain(record.protocol)["teacher"]
    assert (teacher["kind"], teacher["guidance_scale"], teacher["text"]["template"]) == ("sd3", 2, "{}")
    assert str(place) not in str(to_plain(record.protocol))
    assert "teacher's prompts" in record.provenance["stage_seconds"]
    curve = {point.name for point in record.curve}
    assert {"train_loss.task", "train_loss.output", "train_loss.feature", "projection_gradient_norm"} <= curve


@pytest.mark.parametrize(
    ("objective", "kind"),
    [("step_distillation", "sd3"), ("distillation", "sdxl"), ("step_distillation", "sdxl")],
)
def test_each_objective_has_each_kind_of_pipeline_as_its_teacher(place, objective, kind):
    """The second one's latents are said to be the first one's."""
    if kind == "sdxl" and not (place / kind).exists():
        save_sdxl(place / kind)
    of_teacher = ["objective.teacher.kind=sdxl", f"objective.teacher.autoencoder={place / 'pipeline'}"]
    of_steps = ["initial=none", "objective.discriminator.width=8", "objective.teacher_steps=1",
                "objective.validation_steps=2"]  # fmt: skip
    given = [
        f"objective={objective}",
        *(of_teacher if kind == "sdxl" else []),
        *(of_steps if objective == "step_distillation" else []),
    ]
    replaced = {each.split("=")[0] for each in given}
    told = words(place, {"sd3": "pipeline"}.get(kind, kind))
    kept = [each for each in told if each.split("=")[0] not in {*replaced, "recipe.steps"}]
    before = {record.key for record in store_of(place / "runs").trials()}
    assert main(["train", str(place / "tiny.yaml"), *kept, *given, "recipe.steps=3"]) == 0
    (record,) = (each for each in store_of(place / "runs").trials() if each.key not in before)
    assert (record.state, record.protocol["teacher"]["kind"]) == ("complete", kind)
    curve = {point.name for point in record.curve}
    parts = {"distillation": "feature", "step_distillation": "adversarial"}
    assert {"train_loss.task", "train_loss.output", f"train_loss.{parts[objective]}"} <= curve


def test_its_teacher_says_what_the_pipeline_does(place):
    """In one step from noise to the latents that the student is trained on."""
    task = load(settings_of([*words(place), "objective.teacher.guidance_scale=2"]))
    teacher = task.teacher.load(torch.device("cpu"))
    pipeline = save_sd3(place / "again", shift=0.0, scale=1.0)  # the same networks: they are drawn from one seed
    noise = torch.randn(2, *task.shape, generator=torch.Generator().manual_seed(0))
    assert task.shape == (4, 8, 8)
    names = task.images.class_names
    made = pipeline(
        list(names), num_inference_steps=1, guidance_scale=2.0, height=16, width=16, latents=noise, output_type="latent"
    ).images
    drop = torch.zeros(2, dtype=torch.bool)
    velocity = teacher(noise, torch.ones(2), torch.arange(2), drop).velocity
    torch.testing.assert_close(noise - velocity, made, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (["objective.teacher.name=NOWHERE/x/y"], "is no folder; give the folder or the hub's name of a teacher"),
        (["objective.teacher_tap=transformer_blocks.7"], "choose one of: transformer_blocks.1, transformer_blocks.0"),
        (["objective.teacher.kind=sdxl"], "has neither unet/config.json nor a config.json"),
        (["objective.teacher.guidance_scale=0.5"], "must be a number from 1"),
        (["objective.teacher.autoencoder=OTHER"], "is of another autoencoder's latents than the student: its weights"),
        (["objective.teacher.size=9"], "unknown setting 'objective.teacher.size'"),
    ],
)
@pytest.mark.parametrize("more", [["--dry-run"], []])
def test_a_mistake_is_one_sentence(place, change, sentence, more, capsys):
    other = tiny_vae()
    with torch.no_grad():
        other.encoder.conv_in.weight.add_(1)
    other.save_pretrained(place / "other")
    change = [each.replace("OTHER", str(place / "other")).replace("NOWHERE", str(place)) for each in change]
    capsys.readouterr()
    replaced = {each.split("=")[0] for each in change}
    kept = [each for each in words(place) if each.split("=")[0] not in replaced]
    assert main(["train", str(place / "tiny.yaml"), *kept, *change, *more]) != 0
    error = capsys.readouterr().err
    assert sentence in error
    assert "Traceback" not in error
