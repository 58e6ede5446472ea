"""One command trains and scores the UNet and its peers under one protocol; what does not denoise is refused."""

from pathlib import Path

import pytest
import yaml

from harness.architecture.catalogue import architecture
from harness.records.errors import UserError
from harness.records.manifest import Manifest
from harness.records.plain import from_plain
from harness.records.quantity import Measured
from harness.records.store import Store
from harness.trials.ablation import ablation, run_ablation
from harness.trials.progress import Show

UNET = {"stages.*.channels": 16, "stages.*.down_blocks": 1, "stages.*.up_blocks": 1, "head_dim": 8, "time_width": 16}
PEERS = {
    "dit": ("laptop/dit", {"width": 16, "depth": 1}),
    "uvit": ("laptop/uvit", {"width": 16, "depth": 2}),
    "ldm": ("ldm_4", {"channels": [8, 16], "attention": [False, True], "blocks": 1, "norm_groups": 4}),
}
STUDY = {
    "architecture": {
        "base": "laptop/thin_sdxl",
        "mode": "one_at_a_time",
        "rungs": [
            {"name": "unet", "title": "UNet", "edits": UNET},
            *({"name": name, "title": name, "base": base, "edits": edits} for name, (base, edits) in PEERS.items()),
        ],
    },
    "settings": {
        "data": "digits",
        "recipe.steps": 2,
        "recipe.batch_size": 4,
        "recipe.validation_images": 8,
        "sampling.solver": "euler",
        "sampling.steps": 1,
        "sampling.micro_batch": 16,
        "quality.samples": 16,
        "quality.reference_samples": 32,
        "quality.kid_subset_size": 8,
        "quality.kid_subsets": 2,
        "quality.extractor.resolution": 32,
        "quality.classifier_images": 100,
        "coreml": "none",
        "latency": "none",
        "tracker": "none",
        "launcher": "debug",
        "seeds": [0],
    },
}


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    (tmp_path / "sweeps").mkdir()
    (tmp_path / "sweeps" / "families.yaml").write_text(yaml.safe_dump(STUDY))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_one_ablation_trains_and_scores_the_unet_and_its_peers(workplace):
    job = ablation("families", [], "harness ablate families")
    records = {record.name: record for _, record in run_ablation(job, Show())[0]}
    assert {name: record.state for name, record in records.items()} == dict.fromkeys(["unet", *PEERS], "complete")
    assert all(isinstance(record.quantities["kid"], Measured) for record in records.values())
    assert len({record.protocol_fingerprint for record in records.values()}) == 1
    manifest = from_plain(Manifest, yaml.safe_load((job.folder / "manifest.json").read_text()))
    assert manifest.rungs[1].edits["base"] == "laptop/dit"
    assert manifest.rungs[3].against == "unet"
    store = Store(Path("runs") / "store")
    kinds = {store.trial(record.key).architecture.get("kind", "unet") for record in records.values()}
    assert kinds == {"unet", *PEERS}


def test_a_decoder_is_not_trained_to_denoise_and_the_sentence_says_what_trains_it(workplace):
    study = {**STUDY, "architecture": {**STUDY["architecture"], "base": "decoder/tiny", "rungs": [
        {"name": "tiny", "title": "Tiny"}]}}  # fmt: skip
    Path("sweeps/decoder.yaml").write_text(yaml.safe_dump(study))
    with pytest.raises(
        UserError,
        match=r"^task=denoise trains no DecoderConfig, and task=decode does; give that task, or count this one",
    ):
        ablation("decoder", [], "")
    counting = ablation("decoder", ["count_only=true", "latent=16"], "")
    assert counting.rungs[0][1] == architecture("decoder/tiny")


def test_the_peers_sweep_compares_networks_of_one_size():
    job = ablation("peers", ["count_only=true", "latent=8"], "")
    from harness.trials.costs import counted

    params = {rung.name: counted(config, 8)["params"].value for rung, config in job.rungs}
    assert set(params) == {"thin_sdxl", "dit", "uvit"}
    assert max(params.values()) < 1.5e6
    assert max(params.values()) < 1.1 * min(params.values())


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (["data=fashion_mnist", "data.size=30"], "data.size=30 does not fit the architecture: height and width must be "
                                                 "multiples of 4; give data.size=28"),
        (["latent=9"], "latent=9 does not fit the architecture: height and width must be multiples of 4; give"),
        (["data=fashion_mnist", "data.size=16"], "data.size=16 does not fit the architecture: it takes no other height "
                                                 "and width than its latent_size, 8; give data.size=8"),
        (["count_only=true", "latent=9"], "latent=9 does not fit"),
    ],
)  # fmt: skip
def test_a_size_that_a_network_cannot_take_is_refused_before_any_data_is_read(
    overrides, sentence, monkeypatch, workplace
):
    monkeypatch.setattr("harness.trials.ablation.prepare", lambda *_: pytest.fail("prepared"))
    with pytest.raises(UserError) as refused:
        ablation("families", overrides, "")
    assert str(refused.value).startswith(sentence)
