"""A diffusers pipeline's folder is sampled by its own call and scored; what it cannot be asked is one sentence."""

import json
import re
from dataclasses import replace
from typing import Any

import diffusers
import numpy as np
import pytest
import torch

from harness.cli import main
from harness.data.config import DigitsConfig
from harness.data.dataset import load_dataset
from harness.diffusion.config import SamplingConfig
from harness.records.errors import UserError
from harness.records.store import Store
from harness.trials.scores.pipeline import Pipeline
from harness.trials.scores.request import ScoreRequest, is_pipeline, sampling_grid
from harness.trials.scores.workers import scores
from harness.trials.settings import settings_of

CPU = torch.device("cpu")
CONFIG = SamplingConfig(steps=2, micro_batch=4, seed=3)


def dit_pipeline(classes):
    """Small and random: 8 x 8 pictures of 3 channels."""
    torch.manual_seed(0)
    transformer = diffusers.DiTTransformer2DModel(
        num_attention_heads=2, attention_head_dim=8, in_channels=4, out_channels=8, num_layers=1, sample_size=4,
        num_embeds_ada_norm=classes,
    )  # fmt: skip
    with torch.no_grad():
        for parameter in transformer.parameters():
            parameter.normal_(std=0.3)
    vae = diffusers.AutoencoderKL(
        block_out_channels=(8, 8), norm_num_groups=4, latent_channels=4, layers_per_block=1,
        down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
    )  # fmt: skip
    return diffusers.DiTPipeline(transformer=transformer.eval(), vae=vae.eval(), scheduler=diffusers.DDIMScheduler())


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """One of ten classes, one of a thousand, one of none: a DDPM of greyscale 8 x 8 pictures."""
    root = tmp_path_factory.mktemp("pipelines")
    dit_pipeline(10).save_pretrained(root / "ten")
    dit_pipeline(1000).save_pretrained(root / "thousand")
    torch.manual_seed(0)
    unet = diffusers.UNet2DModel(
        sample_size=8, in_channels=1, out_channels=1, layers_per_block=1, block_out_channels=(8, 8), norm_num_groups=4,
        down_block_types=("DownBlock2D",) * 2, up_block_types=("UpBlock2D",) * 2,
    )  # fmt: skip
    diffusers.DDPMPipeline(unet=unet, scheduler=diffusers.DDPMScheduler()).save_pretrained(root / "none")
    return root


def pictures(folder, count=6, data=None, **settings):
    source = Pipeline(folder, CPU).source(replace(CONFIG, **settings), count, data)
    return source, source.read(range(count))


def test_samples_are_the_pipelines_own(folders):
    """Asked by hand, for the same classes from the same noise, it makes the same pictures."""
    made, images = pictures(folders / "thousand", guidance_scale=2.0, labels="balanced")
    assert is_pipeline(folders / "thousand")
    assert (images.dtype, images.shape) == (torch.uint8, (6, 3, 8, 8))
    pipeline = diffusers.DiTPipeline.from_pretrained(folders / "thousand")
    pipeline.set_progress_bar_config(disable=True)

    def generator(index):
        (state,) = np.random.SeedSequence([3, index]).generate_state(1, np.uint64)
        return torch.Generator().manual_seed(int(state) >> 1)

    by_hand = pipeline(
        class_labels=made.labels[:4].tolist(), guidance_scale=2.0, num_inference_steps=2, output_type="np",
        generator=[generator(index) for index in range(4)],
    ).images  # fmt: skip
    rounded = np.rint(255 * by_hand).astype(np.uint8).transpose(0, 3, 1, 2)
    assert np.abs(rounded.astype(int) - images[:4].numpy()).max() <= 1
    assert images.float().std() > 5


def test_a_sample_is_a_function_of_the_seed_and_its_number(folders):
    images = pictures(folders / "ten", count=6, labels="balanced")[1]
    assert torch.equal(pictures(folders / "ten", count=3, labels="balanced")[1], images[:3])
    assert not torch.equal(pictures(folders / "ten", count=6, labels="balanced", seed=4)[1], images)
    assert len({image.numpy().tobytes() for image in images}) == 6
    source = pictures(folders / "ten", count=6, labels="balanced")[0]
    assert torch.equal(source.read(range(4, 6)), images[4:]), "whoever is asked for the second micro-batch alone"


def test_a_pipeline_without_classes_is_sampled_too(folders):
    made, images = pictures(folders / "none", data=load_dataset(DigitsConfig()))
    assert (made.labels, images.shape) == (None, (6, 1, 8, 8))
    own = "sampled by the pipeline's own call, DDPMScheduler of DDPMPipeline; sampling.solver is not asked for"
    assert made.remarks == (own,)


def test_what_sampled_it_is_its_scheduler_and_none_of_our_solvers(folders):
    made = pictures(folders / "none", solver="heun")[0]
    sampling = made.identity["sampling"]
    assert sampling["solver"] == made.conditions["solver"] == "DDPMScheduler of DDPMPipeline"
    assert sampling["times"] == "its scheduler's"
    assert "evaluations" not in made.conditions
    assert made.identity == pictures(folders / "none", solver="euler")[0].identity, "it is asked for neither"


@pytest.mark.parametrize("route", [[], ["--steps", "1", "2"]])
def test_a_solver_is_refused(folders, tmp_path, capsys, route):
    words = ["evaluate", str(folders / "none"), *route, "data=digits", f"out={tmp_path}", "sampling.solver=euler"]
    assert main(words) == 2
    assert "its own scheduler; leave out sampling.solver=euler" in capsys.readouterr().err


def index_of(folder, **content):
    folder.mkdir()
    (folder / "model_index.json").write_text(json.dumps(content))
    return folder


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("StableDiffusion3Pipeline", "StableDiffusion3Pipeline needs prompt, which no data set here has"),
        ("LDMTextToImagePipeline", "needs prompt"),
        ("LDMSuperResolutionPipeline", "needs image"),
        ("NoSuchPipeline", "which is no pipeline of diffusers"),
        ("UNet2DModel", "which is no pipeline of diffusers"),
        (["module", "Pipeline"], "which is no pipeline of diffusers"),
        ("DiTPipeline", "does not load as a diffusers pipeline"),
    ],
)
def test_what_needs_more_than_a_class_is_refused(name, sentence, tmp_path):
    with pytest.raises(UserError, match=sentence) as refused:
        pictures(index_of(tmp_path / "pipeline", _class_name=name))
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("which", "settings", "with_data", "sentence"),
    [
        ("ten", {"guidance_scale": 2.0}, False, r"takes row 1,000 of its table for no class, and .* knows 10 classes"),
        ("ten", {}, False, "sampling.labels=proportional asks for the class frequencies of data"),
        ("ten", {}, True, "makes pictures of 8 x 8 with 3 channels, and the data's are 8 x 8 with 1"),
        ("thousand", {}, True, "knows 1,000 classes, and the data has 10"),
        ("none", {"guidance_scale": 2.0}, True, "knows no guidance; give sampling.guidance_scale=1"),
        ("none", {"times": "shifted", "shift": 3.0}, True, "no such sampling.times"),
        ("ten", {"guidance_scale": 2.0, "guidance_interval": (0.0, 0.5)}, True, "no such sampling.guidance_interval"),
        ("ten", {"guidance_scale": 2.0, "legacy_guided_channels": 3}, True, "no such sampling.legacy_guided_channels"),
    ],
)
def test_what_it_cannot_be_asked_is_one_sentence(which, settings, with_data, sentence, folders):
    with pytest.raises(UserError, match=sentence):
        pictures(folders / which, data=load_dataset(DigitsConfig()) if with_data else None, **settings)


def test_scores_are_stored_one_by_one_whoever_makes_them(folders, tmp_path, monkeypatch):
    words = ["quality.extractor.resolution=32", "quality.metrics=[fd,class_agreement]", "quality.reference_samples=40"]
    settings = settings_of([*words, "quality.samples=70", f"out={tmp_path}", "recipe.device=cpu", "launcher=debug"])
    base = replace(CONFIG, guidance_scale=1.0)

    def scored(grid, workers=None, settings=settings):
        return scores(ScoreRequest(what=folders / "none", settings=settings, grid=grid), workers)

    grid = sampling_grid(base, None, [1, 2])
    one, two = scored(grid, 2)
    assert one.quantities["fd"].value != two.quantities["fd"].value
    assert one.quantities["class_agreement"].reason == "the pipeline knows no classes"
    Store(tmp_path / "store").delete(next(
        each for each in Store(tmp_path / "store").measurements() if each.settings["sampling"]["steps"] == 1
    ))  # fmt: skip
    assert scored(grid)[0].quantities == one.quantities, "in this process as by two workers, of parts of 64 and 6"
    monkeypatch.setattr("harness.trials.scores.score.load_reference", lambda *_, **__: pytest.fail("scored again"))
    assert scored(grid[1:])[0].quantities == two.quantities
    other = replace(settings, quality=replace(settings.quality, reference_samples=30))
    with pytest.raises(pytest.fail.Exception, match="scored again"):  # against another reference it is another score
        scored(grid[1:], settings=other)
    with pytest.raises(UserError, match="knows no guidance"):  # before anything is scored
        scored(sampling_grid(base, [1, 2], None))


def test_the_command_scores_a_pipeline(folders, tmp_path, capsys):
    fixed = [
        "quality.extractor.resolution=32", "quality.metrics=[fd,kid]", "quality.reference_samples=40",
        "quality.samples=24", "quality.kid_subset_size=8", "quality.kid_subsets=3", "sampling.steps=2",
        "sampling.guidance_scale=1",
        f"out={tmp_path / 'runs'}", "recipe.device=cpu",
    ]  # fmt: skip
    assert main(["evaluate", str(folders / "none"), "--json", "data=digits", *fixed]) == 0
    printed = capsys.readouterr()
    scores: dict[str, Any] = json.loads(printed.out)
    assert "sampled by the pipeline's own call, DDPMScheduler of DDPMPipeline;" in printed.err
    assert scores["fd"]["value"] > 0
    assert scores["fd"]["conditions"]["sampling_seed"] == "0 of DDPMPipeline"
    steps = ["evaluate", str(folders / "none"), "--steps", "1", "2", *(word for word in fixed if "steps" not in word)]
    assert main(steps) == 0
    captured = capsys.readouterr()
    printed = captured.out
    assert printed.startswith("none, against digits, KID-EffLite0@32")
    assert "sampled by the pipeline's own call, DDPMScheduler of DDPMPipeline;" in captured.err
    rows = [re.findall(r"[^\s│|]+", line)[:3] for line in printed.splitlines() if line[:1] in "│|"]
    assert rows == [["1", "1", "-"], ["1", "2", "-"]], "NFE is not known"
    stored = list(Store(tmp_path / "runs" / "store").measurements("score"))
    assert sorted(each.settings["sampling"]["steps"] for each in stored) == [1, 2], "2 steps are those of one score"
    assert main([*steps, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert {each["sampling"]["solver"] for each in told} == {"DDPMScheduler of DDPMPipeline"}
    assert len(list((tmp_path / "runs" / "scores").glob("none-*.html"))) == 1
    assert main(["evaluate", str(folders / "ten"), "--json", "data=digits", *fixed]) == 2
    assert "give the data that they are to be compared with" in capsys.readouterr().err
