"""Stable Diffusion 3 and XL as teachers, small and drawn at random, against diffusers' pipelines and closed forms."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import small_teacher
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

sys.path.insert(0, str(Path(__file__).parents[1] / "models"))
from tiny_pipelines import save_clip, save_sd3, save_sdxl, save_t5

from harness.architecture.kinds import builder_of
from harness.data.config import ClassTableText, MiniLmText
from harness.diffusion.prediction import path_of
from harness.measure.kept import kept_through
from harness.models.autoencoder import describe
from harness.models.autoencoder_config import KlAutoencoder
from harness.records.errors import UserError
from harness.records.plain import from_plain
from harness.training.recipe import Recipe
from harness.training.teacher import Student
from harness.training.teacher_config import Sd3Teacher, SdxlTeacher, TeacherConfig, TrainedTeacher
from harness.training.teachers.diffusers_files import network_files
from harness.training.teachers.diffusers_teacher import DiffusersDescription

NAMES = ("cat", "two green dogs", "sea")
KINDS = {"sd3": (Sd3Teacher, save_sd3), "sdxl": (SdxlTeacher, save_sdxl)}
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> Mapping[str, tuple[Path, Any]]:
    """Of each kind its folder and its pipeline."""
    folders = {kind: tmp_path_factory.mktemp(kind) for kind in KINDS}
    return {kind: (folder, KINDS[kind][1](folder)) for kind, folder in folders.items()}


@pytest.fixture(scope="module")
def cache(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def student(saved, cache) -> Student:
    made_by = describe(KlAutoencoder(name=str(saved["sd3"][0]), subfolder="vae")).identity()
    recipe = Recipe(steps=2, batch_size=4, device="cpu")
    return Student(
        shape=(4, 8, 8), autoencoder=made_by, class_names=NAMES, text=MiniLmText(), recipe=recipe, cache=cache,
        weights_of=lambda name: pytest.fail(f"{name} is no network of ours"),
    )  # fmt: skip


def described(saved, student: Student, kind: str, **settings: Any) -> DiffusersDescription:
    config = KINDS[kind][0](**{"name": str(saved[kind][0]), "precision": "float32", **settings})
    description: DiffusersDescription = builder_of(config)(config, student)
    return description


def samples(count: int = 3, seed: int = 0) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """x_t, time, labels, drop: of the second the empty prompt."""
    random = torch.Generator().manual_seed(seed)
    x_t = torch.randn(count, 4, 8, 8, generator=random)
    time = torch.linspace(0.1, 0.9, count)
    return x_t, time, torch.arange(count) % 3, torch.arange(count) == 1


def encoded(pipeline: Any, kind: str, labels: Tensor, drop: Tensor) -> tuple[Tensor, Tensor]:
    """As the pipeline reads these prompts: context, pooled."""
    prompts = [f"a photo of a {NAMES[label]}" for label in labels]
    texts = {"prompt": prompts, "prompt_2": None} | ({"prompt_3": None} if kind == "sd3" else {})
    with torch.no_grad():
        given, empty, pooled, empty_pooled = pipeline.encode_prompt(**texts, device="cpu")
    return torch.where(drop[:, None, None], empty, given), torch.where(drop[:, None], empty_pooled, pooled)


@pytest.mark.parametrize("guidance", [1.0, 3.5])
def test_sd3s_velocity_is_its_transformers_output(saved, student, guidance):
    pipeline = saved["sd3"][1]
    x_t, time, labels, drop = samples()
    teacher = described(saved, student, "sd3", guidance_scale=guidance).load(CPU)
    context, pooled = encoded(pipeline, "sd3", labels, drop)
    empty, empty_pooled = encoded(pipeline, "sd3", labels, torch.ones_like(drop))
    with torch.no_grad():
        prompted = pipeline.transformer(x_t, context, pooled, 1000 * time).sample
        without = pipeline.transformer(x_t, empty, empty_pooled, 1000 * time).sample
    found = teacher(x_t, time, labels, drop)
    assert not found.features
    torch.testing.assert_close(found.velocity, without + guidance * (prompted - without), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found.velocity[1], without[1], rtol=1e-4, atol=1e-5)
    assert not torch.allclose(prompted[0], without[0], rtol=0.1)


@pytest.mark.parametrize("prediction", ["epsilon", "v"])
def test_sdxls_velocity_follows_from_its_unets_output(saved, student, prediction):
    """By the formulas that define both paths, sample by sample, in float64."""
    pipeline = saved["sdxl"][1]
    x_t, time, labels, drop = samples()
    description = described(saved, student, "sdxl", prediction=prediction, original_size=64, crop=(3, 5))
    found = description.load(CPU)(x_t, time, labels, drop).velocity
    context, pooled = encoded(pipeline, "sdxl", labels, drop)
    assert not context[1].any()  # no prompt is zeros, as the pipeline's index says
    path = path_of(description.prediction)
    sizes = torch.tensor([[64.0, 64.0, 3.0, 5.0, 16.0, 16.0]])
    for each in range(3):
        own = path.own(float(time[each]))
        alpha, sigma = path.alpha_sigma(own)
        z = (alpha + sigma) * x_t[each : each + 1]
        added = {"text_embeds": pooled[each : each + 1], "time_ids": sizes}
        with torch.no_grad():
            out = pipeline.unet(z, 1000 * own - 1, context[each : each + 1], added_cond_kwargs=added).sample
        noise = out if prediction == "epsilon" else sigma * z + alpha * out
        data = (z - sigma * noise) / alpha
        torch.testing.assert_close(found[each : each + 1], noise - data, rtol=1e-3, atol=1e-4)


def test_a_pipelines_own_step_is_along_the_teachers_velocity(saved, student):
    """Of SD3 from noise to data in one step of Euler's, and of SDXL in one of DDIM's, which is Euler's on the straight
    path from its last level. Asked at t = 1, beyond that, it says what the pipeline's step makes of this noise."""
    noise = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(3))
    call = {"prompt": "a photo of a sea", "num_inference_steps": 1, "guidance_scale": 2.5, "output_type": "latent"}
    labels, drop = torch.tensor([2]), torch.tensor([False])
    made = saved["sd3"][1](**call, height=16, width=16, latents=noise.clone()).images
    teacher = described(saved, student, "sd3", guidance_scale=2.5).load(CPU)
    found = noise - teacher(noise, torch.ones(1), labels, drop).velocity
    torch.testing.assert_close(found, made, rtol=1e-4, atol=1e-4)

    pipeline = saved["sdxl"][1]
    made = pipeline(**call, height=16, width=16, latents=noise.clone()).images
    description = described(saved, student, "sdxl", guidance_scale=2.5)
    path = path_of(description.prediction)
    alpha, sigma = path.alpha_sigma(1.0)
    start, begin = noise / (alpha + sigma), path.straight(1.0)  # the pipeline starts with z = noise at its last level
    last = (
        float(pipeline.scheduler.final_alpha_cumprod) ** 0.5,
        float(1 - pipeline.scheduler.final_alpha_cumprod) ** 0.5,
    )
    end = last[1] / sum(last)
    teacher = description.load(CPU)
    velocity = teacher(start, torch.tensor([begin]), labels, drop).velocity
    torch.testing.assert_close(sum(last) * (start + (end - begin) * velocity), made, rtol=1e-3, atol=1e-3)
    data = noise - teacher(noise, torch.ones(1), labels, drop).velocity
    torch.testing.assert_close(last[0] * data + last[1] * (noise - alpha * data) / sigma, made, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("kind", ["velocity", "epsilon", "v"])
def test_the_optimum_for_gaussian_data_gives_its_exact_velocity(saved, student, kind):
    """x_0 ~ N(m, s^2), so E[e | x] and E[x_0 | x] are linear in x, on either path."""
    mean, deviation = 0.7, 0.4

    def expected(x: Tensor, alpha: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        """E[x_0 | x], E[e | x] where x = alpha x_0 + sigma e."""
        share = (x - alpha * mean) / (alpha**2 * deviation**2 + sigma**2)
        return mean + alpha * deviation**2 * share, sigma * share

    if kind == "velocity":
        description = described(saved, student, "sd3")

        def network(*, hidden_states, timestep, **_):
            time = (timestep / 1000).view(-1, 1, 1, 1)
            data, noise = expected(hidden_states, 1 - time, time)
            return (noise - data,)
    else:
        description = described(saved, student, "sdxl", prediction=kind)
        path = path_of(description.prediction)

        def network(z, timestep, _context, **_):
            levels = [path.alpha_sigma((float(each) + 1) / 1000) for each in timestep]
            alpha, sigma = (torch.tensor(each).view(-1, 1, 1, 1) for each in zip(*levels, strict=True))
            data, noise = expected(z, alpha, sigma)
            return (noise if kind == "epsilon" else alpha * noise - sigma * data,)

    assert description.prompts is not None
    velocity = description.velocity(network, description.prompts, torch.float32)
    teacher = description.taught_by(torch.nn.Identity(), velocity)
    x_t, _, labels, drop = samples(12)
    time = torch.linspace(0.03, 0.93, 12)  # from SDXL's first level of noise to its last
    data, noise = expected(x_t, *(each.view(-1, 1, 1, 1) for each in (1 - time, time)))
    torch.testing.assert_close(teacher(x_t, time, labels, drop).velocity, noise - data, rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_a_teacher_is_what_its_files_hold(saved, student, cache, kind, tmp_path):
    """And not where they lie, nor how they are named."""
    description = described(saved, student, kind)
    shutil.copytree(saved[kind][0], tmp_path / "copied")
    config = KINDS[kind][0](name=str(tmp_path / "copied"), precision="float32", sharded=True)
    assert builder_of(config)(config, student).identity == description.identity
    assert str(saved[kind][0]) not in str(description.identity)
    others = [
        described(saved, student, kind, guidance_scale=2.0),
        described(saved, student, kind, template="{}"),
        described(saved, student, kind, **({"t5_tokens": 20} if kind == "sd3" else {"original_size": 99})),
    ]
    identities = [str(each.identity) for each in (description, *others)]
    assert len(set(identities)) == 4
    assert from_plain(TeacherConfig, {"kind": kind, "name": "x"}).template is None


def on_own_path(description: DiffusersDescription, x_t: Tensor, time: Tensor) -> tuple[Tensor, Tensor]:
    """z and its times on the teacher's path, sample by sample."""
    path = path_of(description.prediction)
    own = [path.own(float(each)) for each in time]
    return torch.stack([sum(path.alpha_sigma(each)) * x for each, x in zip(own, x_t, strict=True)]), torch.tensor(own)


@pytest.mark.parametrize("kind", KINDS)
def test_taps_are_the_transformers_maps_in_forward_order(saved, student, kind):
    pipeline, description = saved[kind][1], described(saved, student, kind)
    network = pipeline.transformer if kind == "sd3" else pipeline.unet
    expected = (
        {"transformer_blocks.0": 32, "transformer_blocks.1": 32}
        if kind == "sd3"
        else {"down_blocks.1.attentions.0": 32, "mid_block.attentions.0": 32, "up_blocks.0.attentions.0": 32,
              "up_blocks.0.attentions.1": 32}
    )  # fmt: skip
    assert list(description.taps.items()) == list(expected.items())
    assert description.maps(list(expected)) == [(channels, 4, 4) for channels in expected.values()]
    teacher = description.load(CPU)
    x_t, time, labels, drop = samples()
    kept = []
    for place, channels in description.taps.items():
        feature = teacher(x_t, time, labels, drop, [place]).features[place]
        assert feature.shape == (3, channels, 4, 4)
        hook = network.get_submodule(place).register_forward_hook(lambda _m, _i, output: kept.append(output))
        context, pooled = encoded(pipeline, kind, labels, drop)
        with torch.no_grad():
            if kind == "sd3":
                network(x_t, context, pooled, 1000 * time)
                tokens = kept.pop()[1]  # (B, 16, C'), row by row
                torch.testing.assert_close(feature[:, :, 1, 2], tokens[:, 1 * 4 + 2], rtol=1e-3, atol=1e-3)
            else:
                z, own = on_own_path(description, x_t, time)
                added = {"text_embeds": pooled, "time_ids": torch.tensor([[16.0, 16.0, 0.0, 0.0, 16.0, 16.0]] * 3)}
                network(z, 1000 * own - 1, context, added_cond_kwargs=added)
                torch.testing.assert_close(feature, kept.pop()[0], rtol=1e-3, atol=1e-3)
        hook.remove()
    guided = (
        described(saved, student, kind, guidance_scale=3.0).load(CPU)(x_t, time, labels, drop, [place]).features[place]
    )
    torch.testing.assert_close(guided, feature, rtol=1e-3, atol=1e-3)  # under the prompt


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_go_through_it_when_asked_and_never_into_it(saved, student, kind):
    teacher = described(saved, student, kind, guidance_scale=2.0).load(CPU)
    x_t, time, labels, drop = samples()
    x_t.requires_grad_(True)
    place = list(teacher.taps)[-1]
    assert not teacher(x_t, time, labels, drop, [place]).velocity.requires_grad
    found = teacher(x_t, time, labels, drop, [place], differentiable=True)
    (found.velocity.square().mean() + found.features[place].square().mean()).backward()
    assert x_t.grad is not None
    assert x_t.grad.abs().sum() > 0
    direction, step = torch.randn(x_t.shape, generator=torch.Generator().manual_seed(1)), 1e-3
    with torch.no_grad():
        ends = [teacher(x_t + sign * step * direction, time, labels, drop, [place]) for sign in (1, -1)]
        losses = [end.velocity.square().mean() + end.features[place].square().mean() for end in ends]
    assert float((losses[0] - losses[1]) / (2 * step)) == pytest.approx(float((x_t.grad * direction).sum()), rel=0.05)


@pytest.mark.parametrize("kind", KINDS)
def test_in_bfloat16_it_answers_about_the_same_in_float32(saved, student, kind):
    x_t, time, labels, drop = samples()
    exact = described(saved, student, kind).load(CPU)(x_t, time, labels, drop).velocity
    teacher = described(saved, student, kind, precision="bfloat16").load(CPU)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = teacher(x_t, time, labels, drop).velocity
    assert rounded.dtype == torch.float32
    assert not rounded.equal(exact)
    assert (rounded - exact).norm() < 0.1 * exact.norm()


@pytest.mark.parametrize("kind", KINDS)
def test_parameters_and_multiply_adds_are_counted_without_weights(saved, student, kind):
    description = described(saved, student, kind)
    pipeline = saved[kind][1]
    network = pipeline.transformer if kind == "sd3" else pipeline.unet
    assert description.params == sum(each.numel() for each in network.parameters())
    called, inputs = description.example()
    with FlopCounterMode(display=False) as counter:
        called(*inputs)
    assert description.macs == pytest.approx(counter.get_total_flops() / 2, rel=0.02)


@pytest.mark.parametrize("kind", KINDS)
def test_what_its_pass_keeps_for_a_gradient_to_its_input_is_counted_without_weights(saved, student, kind):
    description = described(saved, student, kind)
    teacher, counted = description.load(CPU), kept_through(*description.example(), precision=torch.float32)
    x_t, *asked = samples(1)
    sizes, alive = {each.untyped_storage()._cdata: 0 for each in teacher.network.parameters()}, []

    def pack(tensor):
        alive.append(tensor)
        sizes.setdefault(tensor.untyped_storage()._cdata, tensor.untyped_storage().nbytes())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda each: each):
        alive.append(teacher(x_t.requires_grad_(), *asked, differentiable=True).velocity)
    assert counted == pytest.approx(sum(sizes.values()), rel=0.05)
    assert description.precision("bfloat16") == "float32"
    assert described(saved, student, kind, precision="recipe").precision("bfloat16") == "bfloat16"


def alone_of(teacher, asked):
    """What it answers in one process."""
    (x_t, *others), place = asked, list(teacher.taps)[-1]
    found = teacher(x_t.requires_grad_(True), *others, [place], differentiable=True)
    (of_feature,) = torch.autograd.grad(found.features[place].sum(), x_t, retain_graph=True)
    (found.velocity.sum() + found.features[place].sum()).backward()
    answers = {"velocity": found.velocity, "feature": found.features[place], "gradient": x_t.grad}
    return answers | {"gradient of the feature alone": of_feature}


@pytest.mark.slow
def test_two_processes_share_its_weights_and_answer_alike(saved, student, tmp_path):
    """By FSDP; through it gradients go too."""
    asked, alone = {}, {}
    told = replace(student, weights_of=Path)  # which pickle can write
    for kind, (config, _) in KINDS.items():
        settings = {"name": str(saved[kind][0]), "precision": "float32", "guidance_scale": 2.0}
        asked[kind] = (config(**settings, sharded=True), told, samples())
        alone[kind] = alone_of(described(saved, student, kind, **settings).load(CPU), samples())
    own = TrainedTeacher(name=str(small_teacher.written(tmp_path)), guidance_scale=2.0)
    asked["trained"] = (replace(own, sharded=True), small_teacher.STUDENT, small_teacher.samples())
    alone["trained"] = alone_of(builder_of(own)(own, small_teacher.STUDENT).load(CPU), small_teacher.samples())
    torch.save(asked, tmp_path / "asked.pt")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    program = [
        sys.executable,
        str(Path(__file__).with_name("sharded_teacher.py")),
        str(tmp_path / "asked.pt"),
        str(port),
    ]
    subprocess.run(program, check=True, timeout=250, env={**os.environ, "OMP_NUM_THREADS": "1"})
    for rank in range(2):
        answers = torch.load(tmp_path / f"answers-{rank}.pt")
        for kind, expected in alone.items():
            for name, tensor in expected.items():
                apart, size = (answers[kind][name] - tensor).abs().max(), tensor.abs().max()
                assert apart < 1e-3 * size, name
            assert answers[kind]["again"].equal(answers[kind]["velocity"])
            assert answers[kind]["share"] < 0.6


def test_without_t5_its_tokens_are_zeros_as_in_diffusers(saved, student, tmp_path):
    pipeline = save_sd3(tmp_path, t5=False)
    assert pipeline.text_encoder_3 is None
    shutil.rmtree(tmp_path / "text_encoder_3")
    x_t, time, labels, drop = samples()
    teacher = described({"sd3": (tmp_path, pipeline)}, student, "sd3").load(CPU)
    context, pooled = encoded(pipeline, "sd3", labels, drop)
    with torch.no_grad():
        expected = pipeline.transformer(x_t, context, pooled, 1000 * time).sample
    torch.testing.assert_close(teacher(x_t, time, labels, drop).velocity, expected, rtol=1e-4, atol=1e-5)


def test_a_network_alone_reads_with_encoders_named_apart(saved, student, tmp_path):
    folder = saved["sd3"][0]
    shutil.copytree(folder / "transformer", tmp_path / "alone")
    for number, part in enumerate(("text_encoder", "text_encoder_2", "text_encoder_3")):
        shutil.copytree(folder / part, tmp_path / f"encoder{number}")
        shutil.copytree(
            folder / part.replace("text_encoder", "tokenizer"), tmp_path / f"encoder{number}", dirs_exist_ok=True
        )
    apart = {"name": str(tmp_path / "alone"), "autoencoder": str(folder)}
    x_t, time, labels, drop = samples()
    whole = described(saved, student, "sd3").load(CPU)(x_t, time, labels, drop).velocity
    for text in (str(folder), tuple(str(tmp_path / f"encoder{number}") for number in range(3))):
        found = described(saved, student, "sd3", **apart, encoders=text).load(CPU)(x_t, time, labels, drop).velocity
        assert found.equal(whole)
    with pytest.raises(
        UserError, match=r"has no text_encoder/ to read its prompts; give .* objective\.teacher\.encoders"
    ):
        described(saved, student, "sd3", **apart)
    with pytest.raises(UserError, match="does not say which autoencoder's latents it denoises"):
        described(saved, student, "sd3", name=apart["name"], encoders=str(folder))
    lacking = broken(saved, tmp_path)
    shutil.rmtree(lacking / "text_encoder_3")
    with pytest.raises(UserError, match=r"text_encoder_3 has no config\.json"):  # and not zeros in its place
        described(saved, student, "sd3", **apart, encoders=str(lacking))
    with pytest.raises(UserError, match="names 1 text encoders, and such a teacher has 3"):
        described(saved, student, "sd3", **apart, encoders=(str(folder),))


def test_prompts_are_the_students_words_in_the_template_that_is_asked_for(saved, student):
    as_it_is = replace(student, text=ClassTableText())
    assert described(saved, as_it_is, "sd3").template == "a photo of a {}"
    assert described(saved, replace(student, text=MiniLmText(template="{}")), "sd3").template == "{}"
    description = described(saved, student, "sd3", template="the {}")
    assert description.prompts.identity["prompts"] == ["the cat", "the two green dogs", "the sea"]
    assert described(saved, replace(student, class_names=None), "sd3").prompts is None


def test_a_description_reads_no_prompt_and_says_what_reading_them_takes(saved, student, tmp_path, monkeypatch):
    """A place that does not exist is refused, and a dry run ends, before T5 has read a million captions."""
    told = replace(student, cache=tmp_path)
    description = described(saved, told, "sd3", precision="bfloat16")
    monkeypatch.setattr("harness.data.prompts.embed", lambda *_: pytest.fail("an encoder ran"))
    assert description.identity
    assert description.taps
    asked = description.unread
    monkeypatch.undo()
    pipeline = saved["sd3"][1]
    tokens = {pipeline.text_encoder: 77, pipeline.text_encoder_2: 77, pipeline.text_encoder_3: 256}
    matrices = {
        encoder: sum(module.weight.numel() for module in encoder.modules() if isinstance(module, torch.nn.Linear))
        for encoder in tokens
    }
    assert asked.macs == 4 * sum(matrices[encoder] * length for encoder, length in tokens.items())
    description.read_prompts()
    assert (asked.prompts, asked.size) == (3, description.prompts.embeddings[0].nbytes * 4)
    assert description.unread is described(saved, told, "sd3").unread is None
    assert description.prompts_bytes("float32") == description.prompts.embeddings.nbytes // 2
    assert described(saved, replace(told, class_names=None), "sd3").unread is None
    xl = described(saved, told, "sdxl")
    assert xl.prompts_bytes("float32") == xl.prompts.embeddings.nbytes
    monkeypatch.setattr("harness.training.teachers.diffusers_teacher.MOST_OF_PROMPTS", 1)
    assert description.prompts_bytes("float32") == 0


def broken(saved, tmp_path: Path, kind: str = "sd3") -> Path:
    return Path(shutil.copytree(saved[kind][0], tmp_path / "broken"))


def test_what_cannot_teach_is_one_sentence_each(saved, student, tmp_path):
    folder = broken(saved, tmp_path)
    at = {"name": str(folder)}
    with pytest.raises(UserError, match="is of another autoencoder's latents than the student: its weights is"):
        described(saved, replace(student, autoencoder={**student.autoencoder, "weights": "0" * 16}), "sd3")
    with pytest.raises(UserError, match="sees an autoencoder's latents, and the student pixels"):
        described(saved, replace(student, autoencoder=None), "sd3")
    with pytest.raises(UserError, match="takes 4 channels, and the student has 3"):
        described(saved, replace(student, shape=(3, 8, 8)), "sd3")
    with pytest.raises(UserError, match="whose side is a multiple of 2 up to 32, and the student's is 33"):
        described(saved, replace(student, shape=(4, 33, 33)), "sd3")
    with pytest.raises(UserError, match=r"has neither unet/config\.json nor a config\.json"):
        described(saved, student, "sdxl", name=str(saved["sd3"][0]))
    with pytest.raises(UserError, match=r"holds UNet2DConditionModel, and .* SD3Transformer2DModel"):
        described(saved, student, "sd3", name=str(saved["sdxl"][0] / "unet"))
    with pytest.raises(UserError, match=r"objective\.teacher\.name=.*nowhere is no folder"):
        described(saved, student, "sd3", name=str(tmp_path / "nowhere"))
    with pytest.raises(UserError, match=r"objective\.teacher\.t5_tokens is a number of tokens from 2 to 512, not 1"):
        described(saved, student, "sd3", t5_tokens=1)
    with pytest.raises(UserError, match=r"objective\.teacher\.template needs one \{\}"):
        described(saved, student, "sdxl", template="a cat")
    shutil.rmtree(folder / "text_encoder_3")
    save_t5(folder / "text_encoder_3", folder / "tokenizer_3", width=24)
    with pytest.raises(UserError, match="takes tokens of T5 that are 48 wide, and its text encoders' are 24"):
        described(saved, student, "sd3", **at)
    shutil.rmtree(folder / "text_encoder_2")
    save_clip(folder / "text_encoder_2", folder / "tokenizer_2", width=20, projection=15)
    with pytest.raises(
        UserError, match=r"takes projected vectors that are 28 wide, and its text encoders' are 12 \+ 15"
    ):
        described(saved, student, "sd3", **at)
    (folder / "transformer" / "diffusion_pytorch_model.safetensors").unlink()
    with pytest.raises(UserError, match=r"lacks weights: diffusion_pytorch_model\.safetensors of .*; fetch it again"):
        described(saved, student, "sd3", **at)


def test_weights_of_another_configuration_are_refused_before_they_are_read(saved, student, tmp_path):
    folder = broken(saved, tmp_path)
    config = folder / "transformer" / "config.json"
    config.write_text(config.read_text().replace('"num_layers": 2', '"num_layers": 3'))
    with pytest.raises(UserError, match=r"not those of its config\.json: \d+ are missing.*'transformer_blocks"):
        described(saved, student, "sd3", name=str(folder))


ANOTHER_PATH = "trained on another path than Stable Diffusion XL: the "


@pytest.mark.parametrize(
    ("path", "changes", "sentence"),
    [
        ("scheduler/scheduler_config.json", {"beta_schedule": "linear"}, ANOTHER_PATH + "beta_schedule of its"),
        ("scheduler/scheduler_config.json", {"beta_end": None}, ANOTHER_PATH + "beta_end of its scheduler is None"),
        ("scheduler/scheduler_config.json", {"use_flow_sigmas": True}, ANOTHER_PATH + "use_flow_sigmas of its"),
        ("scheduler/scheduler_config.json", {"_class_name": "EDMEulerScheduler"}, "is sampled by EDMEulerScheduler"),
        ("scheduler/scheduler_config.json", {"prediction_type": "sample"}, "predicts sample by its scheduler"),
        ("scheduler/scheduler_config.json", {"prediction_type": None}, "does not say what it predicts: no scheduler"),
        ("unet/config.json", {"time_cond_proj_dim": 256}, "its time_cond_proj_dim is 256"),
    ],
)
def test_an_sdxl_of_another_path_is_refused(saved, student, tmp_path, path, changes, sentence):
    """None: it is not said."""
    folder = broken(saved, tmp_path, "sdxl")
    changed = {**json.loads((folder / path).read_text()), **changes}
    (folder / path).write_text(json.dumps({name: value for name, value in changed.items() if value is not None}))
    with pytest.raises(UserError, match=re.escape(sentence)):
        described(saved, student, "sdxl", name=str(folder))


def test_a_unet_alone_is_told_what_it_predicts(saved, student, tmp_path):
    folder = saved["sdxl"][0]
    shutil.copytree(folder / "unet", tmp_path / "alone")
    apart = {"name": str(tmp_path / "alone"), "autoencoder": str(folder), "encoders": str(folder)}
    with pytest.raises(UserError, match=r"does not say what it predicts: .* give objective\.teacher\.prediction"):
        described(saved, student, "sdxl", **apart)
    found = described(saved, student, "sdxl", **apart, prediction="epsilon")
    assert found.identity == described(saved, student, "sdxl").identity
    pipeline = broken(saved, tmp_path, "sdxl")
    index = pipeline / "model_index.json"
    index.write_text(
        index.read_text().replace('"force_zeros_for_empty_prompt": true', '"force_zeros_for_empty_prompt": false')
    )
    told = described(saved, student, "sdxl", **{**apart, "encoders": str(pipeline)}, prediction="epsilon")
    assert told.identity["empty"] == "text"


def test_of_a_pipeline_in_the_hubs_cache_all_is_asked_for_that_says_how_it_was_trained(saved, tmp_path, monkeypatch):
    """Its weights alone may lie there, of another program."""
    shutil.copytree(saved["sdxl"][0] / "unet", tmp_path / "unet")

    def download(name, *, local_files_only=False, **_):
        if not local_files_only:
            shutil.copytree(saved["sdxl"][0], tmp_path, dirs_exist_ok=True)
        return str(tmp_path)

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    files = network_files("some/pipeline", "unet", "UNet2DConditionModel")
    assert files.json("scheduler/scheduler_config.json") is not None
    assert files.json("model_index.json") is not None
