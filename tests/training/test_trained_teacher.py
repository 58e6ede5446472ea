"""A network that was trained here teaches: its own velocity, prompts and features; what cannot teach is refused."""

import dataclasses
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from small_teacher import CPU, DIT, LATENTS, NAMES, STUDENT, samples, written

sys.path.insert(0, str(Path(__file__).parents[1] / "models"))
from tiny_pipelines import save_clip

from harness.architecture.edits import with_edits
from harness.architecture.kinds import builder_of
from harness.architecture.prediction import VELOCITY, Epsilon, VPrediction
from harness.data.config import HuggingFaceText, MiniLmText
from harness.data.prompts import class_prompts, class_table
from harness.diffusion.prediction import velocity_of
from harness.models.build import build
from harness.models.parameters import filled_copy
from harness.models.weights import read_weights, write_weights
from harness.records.errors import UserError
from harness.training.recipe import Recipe
from harness.training.teacher import Student, check_recorded
from harness.training.teacher_config import TrainedTeacher
from harness.training.teachers.guided import GuidedTeacher
from harness.training.teachers.trained import TrainedDescription


def described(path: Path, student: Student = STUDENT, **settings: Any) -> TrainedDescription:
    config = TrainedTeacher(name=str(path), **settings)
    return builder_of(config)(config, student)  # type: ignore[no-any-return]


def teacher_of(path: Path, student: Student = STUDENT, **settings: Any) -> GuidedTeacher:
    return described(path, student, **settings).load(CPU)


ROWS = [2, 0, 0, 4]
"""Of the teacher's own table: three, one, one, and no class."""


@pytest.mark.parametrize(
    "prediction", [VELOCITY, Epsilon(beta_schedule="linear"), VPrediction(beta_schedule="scaled_linear")]
)
def test_it_answers_with_its_own_velocity_at_each_time_of_the_class_of_that_name(tmp_path: Path, prediction) -> None:
    config = dataclasses.replace(DIT, prediction=prediction)
    path = written(tmp_path, config)
    x_t, times, labels, drop = samples()
    answer = teacher_of(path)(x_t, times, labels, drop)
    velocity = velocity_of(read_weights(path).network(), prediction)
    context = torch.eye(5)[ROWS][:, None]
    for index in range(4):
        part = slice(index, index + 1)
        with torch.no_grad():
            expected = velocity(x_t[part], times[part].item(), context[part], None)
        torch.testing.assert_close(answer.velocity[part], expected, rtol=1e-4, atol=1e-5)
    assert not answer.features


def test_guidance_is_its_own_setting_and_does_nothing_to_the_empty_prompt(tmp_path: Path) -> None:
    path, (x_t, times, labels, drop) = written(tmp_path), samples()
    plain, guided = teacher_of(path), teacher_of(path, guidance_scale=3.0)
    prompted = plain(x_t, times, labels, torch.zeros_like(drop)).velocity
    empty = plain(x_t, times, labels, torch.ones_like(drop)).velocity
    expected = empty + 3 * (prompted - empty)
    expected[3] = empty[3]
    answer = guided(x_t, times, labels, drop, ["block.0"])
    torch.testing.assert_close(answer.velocity, expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(
        answer.features["block.0"], plain(x_t, times, labels, drop, ["block.0"]).features["block.0"]
    )
    unguided = guided(x_t, times, labels, torch.zeros_like(drop), guided=False).velocity
    torch.testing.assert_close(unguided, prompted)


def test_its_features_are_maps_of_the_last_block_unless_told_else(tmp_path: Path) -> None:
    path, asked = written(tmp_path), samples()
    teacher = teacher_of(path)
    assert list(teacher.taps.items()) == [("block.0", 16), ("block.1", 16)]
    first, last = (teacher(*asked, [tap]).features[tap] for tap in teacher.taps)
    both = teacher(*asked, list(teacher.taps)).features
    assert list(both) == list(teacher.taps)
    assert all(torch.equal(found, alone) for found, alone in zip(both.values(), (first, last), strict=True))
    assert first.shape == last.shape == (4, 16, 4, 4)
    assert described(path).maps(list(teacher.taps)) == [(16, 4, 4)] * 2
    assert not torch.equal(first, last)


def test_a_recorded_step_reads_no_prompts_from_the_disk() -> None:
    recipe, table = Recipe(steps=2, batch_size=4, cuda_graph=True), class_table(NAMES)
    there = torch.device("meta")
    check_recorded("it", table.to(there), there, recipe)
    stays = table.to(there, most=0)
    assert stays.embeddings.device.type == "cpu"
    check_recorded("it", stays, there, Recipe(steps=2, batch_size=4))
    with pytest.raises(UserError, match=f"teacher it reads its {len(NAMES)} prompts batch by batch from the disk"):
        check_recorded("it", stays, there, recipe)


def test_gradients_go_through_it_only_where_that_is_asked_for(tmp_path: Path) -> None:
    teacher, (x_t, *asked) = teacher_of(written(tmp_path)), samples()
    x_t.requires_grad_()
    answer = teacher(x_t, *asked, ["block.1"])
    assert not answer.velocity.requires_grad
    assert not answer.features["block.1"].requires_grad
    answer = teacher(x_t, *asked, ["block.1"], differentiable=True)
    (answer.velocity.sum() + answer.features["block.1"].sum()).backward()
    assert x_t.grad.abs().sum() > 0
    assert all(not each.requires_grad and each.grad is None for each in teacher.network.parameters())


def test_its_precision_is_its_own(tmp_path: Path) -> None:
    """In bfloat16 its weights are too; in float32 it computes so, though the student does not."""
    path, asked = written(tmp_path), samples()
    exact, rounded = (teacher_of(path, precision=name) for name in ("float32", "bfloat16"))
    assert {each.dtype for each in rounded.network.parameters()} == {torch.bfloat16}
    with torch.autocast("cpu", torch.bfloat16):
        inside = exact(*asked).velocity
    assert torch.equal(inside, exact(*asked).velocity)
    assert rounded(*asked).velocity.dtype == torch.float32
    torch.testing.assert_close(rounded(*asked).velocity, inside, rtol=0.1, atol=0.1 * float(inside.abs().max()))
    student = dataclasses.replace(STUDENT, recipe=Recipe(steps=1, batch_size=4, precision="bfloat16"))
    assert torch.equal(teacher_of(path, student)(*asked).velocity, rounded(*asked).velocity)
    assert (described(path).precision("float32"), described(path, precision="bfloat16").precision("float32")) == (
        "float32", "bfloat16",
    )  # fmt: skip


def test_its_identity_is_contents_and_no_path(tmp_path: Path) -> None:
    path = written(tmp_path)
    there = shutil.copy(path, tmp_path / "elsewhere.safetensors")
    assert described(Path(there)).identity == described(path).identity
    assert str(tmp_path) not in str(described(path).identity)
    assert described(path, guidance_scale=2.0).identity != described(path).identity
    (tmp_path / "other").mkdir()
    other = written(tmp_path / "other", with_edits(DIT, {"depth": 1}))
    assert described(other).identity != described(path).identity
    swapped = written(tmp_path / "other", text=class_table(NAMES[::-1]).identity)
    assert described(swapped).tensors_sha256 == described(path).tensors_sha256
    assert described(swapped).identity != described(path).identity, "its rows stand for other classes"


def test_text_is_read_by_its_own_encoder_into_its_own_template(tmp_path: Path, cache: Path) -> None:
    own = MiniLmText(template="the number {}", length=9)
    text = class_prompts(own, NAMES, cache)
    config = with_edits(DIT, {"condition": "text", "context_width": 384, "context_length": 9})
    path = written(tmp_path, config, text=text.identity)
    student = dataclasses.replace(STUDENT, text=MiniLmText(), cache=cache, class_names=("three", "five"))
    teacher, (x_t, times, labels, _) = teacher_of(path, student), samples()
    prompts = described(path, student).prompts
    assert prompts is not None
    assert prompts.identity["prompts"] == ["the number three", "the number five"]
    torch.testing.assert_close(prompts.embeddings[0], text.embeddings[2, : prompts.length])  # padding is masked
    teacher(x_t, times, labels, torch.zeros(4, dtype=torch.bool))


def test_prompts_of_an_encoder_that_sees_padding_are_padded_as_in_its_training(tmp_path: Path, cache: Path) -> None:
    """Though the network does not: the student's names alone may be shorter."""
    save_clip(tmp_path / "clip")
    own = HuggingFaceText(name=str(tmp_path / "clip"), template="{}", sees_padding=True)
    text = class_prompts(own, NAMES, cache)
    config = with_edits(DIT, {"condition": "text", "context_width": 16, "context_length": text.length})
    path = written(tmp_path, config, text=text.identity)
    student = dataclasses.replace(STUDENT, text=own, cache=cache, class_names=("two", "one"))
    prompts = described(path, student).prompts
    assert prompts is not None
    assert prompts.mask.sum(1).max() < text.length
    assert torch.equal(prompts.embeddings, text.embeddings[[1, 0]])


def test_what_cannot_teach_is_one_sentence(tmp_path: Path) -> None:
    path = written(tmp_path)
    (tmp_path / "latents").mkdir()
    latents = written(tmp_path / "latents", autoencoder=LATENTS)
    learners: list[tuple[Path, dict[str, Any], str]] = [
        (path, {"autoencoder": LATENTS}, "sees pixels, and the student an autoencoder's latents"),
        (latents, {}, "sees an autoencoder's latents, and the student pixels"),
        (latents, {"autoencoder": LATENTS | {"weights": "xyz", "shift": 0.1}},
         "latents than the student: its shift is 0, the student's 0.1; its weights is abc, the student's xyz; name"),
        (path, {"shape": (3, 8, 8)}, "takes 1 channels, and the student has 3"),
        (path, {"shape": (1, 7, 7)}, "takes no latent of 7 x 7, as the student's are: height and width must be mult"),
        (path, {"shape": (1, 16, 16)}, "was trained on 8 x 8, and the student is on 16 x 16, of which it"),
        (path, {"class_names": ("one", "zero", "nil")}, "has no 'zero', and 1 more; name one that"),
    ]  # fmt: skip
    for file, differing, says in learners:
        with pytest.raises(UserError) as caught:
            described(file, dataclasses.replace(STUDENT, **differing))
        assert says in str(caught.value)
        assert "\n" not in str(caught.value)
    described(latents, dataclasses.replace(STUDENT, autoencoder=LATENTS | {"encoding": "sampled"}))
    meant = described(path, dataclasses.replace(STUDENT, shape=(1, 16, 16)), another_size=True)
    assert meant.identity == described(path).identity
    with pytest.raises(UserError, match=r"cannot read"):
        described(tmp_path / "missing.safetensors")
    torch.manual_seed(0)
    write_weights(tmp_path / "bare.safetensors", filled_copy(build(DIT)).state_dict(), DIT)
    with pytest.raises(UserError, match="does not say how its weights were trained"):
        described(tmp_path / "bare.safetensors")
    with pytest.raises(UserError, match="of task=decode, and a teacher is a network that denoises"):
        described(written(tmp_path, task="decode"))


def test_another_encoder_than_its_own_is_refused(tmp_path: Path, cache: Path) -> None:
    text = dict(class_prompts(MiniLmText(), NAMES, cache).identity)
    config = with_edits(DIT, {"condition": "text", "context_width": 384, "context_length": 9})
    path = written(tmp_path, config, text=text)
    with pytest.raises(UserError, match=r"a text encoder, not with text=class_table; .* objective\.teacher\.text"):
        described(path)
    assert described(path, text=MiniLmText(), student=dataclasses.replace(STUDENT, cache=cache)).prompts is not None
    foreign = written(tmp_path, config, text=text | {"encoder": "another"})
    with pytest.raises(UserError, match=r"another text encoder than text=minilm; .*objective\.teacher\.text=\{kind: h"):
        described(foreign, dataclasses.replace(STUDENT, text=MiniLmText(), cache=cache))


def test_without_the_data_a_dry_run_tells_what_it_can(tmp_path: Path) -> None:
    """Its prompts are not known, the rest is."""
    found = described(written(tmp_path), dataclasses.replace(STUDENT, class_names=None))
    assert found.params == sum(each.numel() for each in build(DIT).parameters())
    assert found.prompts is None
