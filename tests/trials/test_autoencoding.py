"""An autoencoder of ours: trained by a trial, then what another study's latents are made by."""

import dataclasses
import json
from pathlib import Path

import pytest
import torch
from tiny_decoding import DECODING, SQUARED_ERROR_ALONE, decoding_spec, lay_out, made_by, pictures
from tiny_study import SETTINGS, TINY

from harness.architecture.catalogue import architecture, to_yaml
from harness.architecture.edits import with_edits
from harness.cli import main
from harness.measure.reconstruction_controls import LinearAutoencoder
from harness.models.autoencoder import describe, load_autoencoder
from harness.models.autoencoder_config import TrainedAutoencoder
from harness.models.build import build, example_inputs
from harness.models.weights import read_weights
from harness.records.errors import UserError
from harness.records.plain import to_plain
from harness.records.quantity import Measured
from harness.records.store import Store
from harness.trials.prepared import prepare
from harness.trials.run import run_trial
from harness.trials.settings import settings_of
from harness.trials.single import DEFAULTS, defaults_of

SMALL = {
    "decoder.latent_channels": 6,
    "decoder.stages.*.channels": 8,
    "decoder.stages.*.blocks": 1,
    "decoder.norm.groups": 4,
}
AUTOENCODING = {**DECODING, "task": "autoencode", "recipe.learning_rate": 0.01}


def tiny_autoencoder():
    return with_edits(architecture("autoencoder/laptop"), SMALL)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return lay_out(tmp_path_factory.mktemp("autoencoding"))


@pytest.fixture(scope="module")
def trained(place):
    settings = settings_of([*pictures(place), f"out={place}/runs", "recipe.steps=40"], AUTOENCODING)
    spec = prepare(settings).spec("tiny", tiny_autoencoder(), 0)
    return spec, run_trial(spec, place / "attempt")


def test_the_encoder_mirrors_the_decoder():
    config = architecture("autoencoder/laptop")
    network = build(config)
    (x,) = example_inputs(config, latent=32)
    assert x.shape == (1, 3, 32, 32)
    latents = network.encoder(x).detach()
    assert latents.shape == (1, 8, 8, 8)
    assert float(latents.abs().max()) <= 3
    assert network(x).shape == x.shape
    torch.testing.assert_close(network(x), network.decoder(latents))
    params = {
        half: sum(each.numel() for each in getattr(network, half).parameters()) for half in ("encoder", "decoder")
    }
    assert 0.8 < params["encoder"] / params["decoder"] < 1.25
    assert with_edits(config, {"decoder.width_change": "shortcut"}).fingerprint != config.fingerprint


def test_its_trial_is_scored_as_a_decoders_is(trained):
    spec, record = trained
    assert record.state == "complete"
    assert record.trained_latent == 16
    assert all(isinstance(record.quantities[name], Measured) for name in ("psnr", "ssim", "colour_error"))
    assert record.quantities["psnr"].value > 15
    assert "reconstructions.png" in record.artifacts
    assert record.protocol["task"]["kind"] == "autoencode"
    assert "autoencoder" not in record.protocol
    task = prepare(spec.settings).task
    assert task.control_identity("linear", spec.architecture) == {"block": 4, "kept": 6}
    assert isinstance(task.control("linear", spec.architecture)["psnr"], Measured)


def test_what_it_made_of_pictures_others_are_trained_on(trained, place, workplace, capsys):
    """By the trial's key: prepared, denoised, decoded by it; and another one of the same shapes is refused."""
    _, record = trained
    out, own = f"out={place}/runs", ["autoencoder=trained", f"autoencoder.record={record.key}"]
    words = ["data", "prepare", *(each.removeprefix("data=") for each in pictures(place))]
    assert main([*words, *own, f"to={place}/prepared", out, "scale_pictures=16"]) == 0
    data = ["data=prepared", f"data.path={place}/prepared", out]
    denoising = {name: value for name, value in SETTINGS.items() if name != "data"}
    settings = settings_of([*data, *own], denoising)
    small = prepare(settings).spec("tiny", with_edits(architecture("laptop/thin_sdxl"), TINY), 0)
    assert (small.architecture.latent_channels, small.latent) == (6, 4)
    denoised = run_trial(small, place / "denoised")
    assert denoised.state == "complete"
    section = denoised.protocol["autoencoder"]
    assert (section["kind"], section["channels"], section["downsampling"]) == ("trained", 6, 4)
    assert record.key not in str(denoised.protocol)
    decoding = [*data, *own, "recipe.steps=2"]
    decoded = prepare(settings_of(decoding, DECODING)).spec("own", tiny_autoencoder().decoder, 0)
    of_decoder = run_trial(decoded, place / "decoded")
    assert of_decoder.state == "complete"
    by_both = settings_of([*data, "autoencoder=trained", f"autoencoder.record={of_decoder.key}"], denoising).autoencoder
    assert describe(by_both).identity() == describe(decoded.settings.autoencoder).identity()
    assert by_both.encoded_by.record == record.key
    with pytest.raises(UserError, match="autoencoder=pixels did not make these latents"):
        prepare(settings_of(data, denoising))
    with pytest.raises(UserError, match=r"is of a UNetConfig, and of no autoencoder; name a training of task=autoen"):
        describe(TrainedAutoencoder(record=denoised.key, file=small.store.artifact(denoised.key, "ema.safetensors")))


def test_it_decodes_what_it_encodes(trained):
    spec, record = trained
    file = Store(spec.settings.out / "store").artifact(record.key, "ema.safetensors")
    config = TrainedAutoencoder(file=file)
    autoencoder = load_autoencoder(config, torch.device("cpu"), scale=(2.0,) * 6)
    images = torch.stack([prepare(spec.settings).task.images.heldout[number][0] for number in range(4)])
    encoded = autoencoder.encode(images)
    assert encoded.std is None
    error = (autoencoder.decode(encoded.mean).float() - images.float()).square().mean()
    assert float(error) < 2000  # of a PSNR of 15
    with pytest.raises(UserError, match="encodes pictures of 3 channels, and these have 1"):
        autoencoder.encode(images[:, :1])


@pytest.fixture(scope="module")
def decoder(place):
    """A trial's, trained against the encoder of files, on prepared data."""
    words = ["data", "prepare", *(each.removeprefix("data=") for each in pictures(place))]
    out = f"out={place}/runs"
    assert main([*words, *made_by(place), f"to={place}/of_files", out, "scale_pictures=16"]) == 0
    data = ["data=prepared", f"data.path={place}/of_files"]
    spec = decoding_spec(place, *data, out, *SQUARED_ERROR_ALONE, "recipe.steps=40", "recipe.learning_rate=0.01")
    return spec, run_trial(spec, place / "of_files_decoder")


def test_a_decoder_alone_is_the_autoencoder_with_the_encoder_that_it_was_trained_against(decoder, place):
    """By its trial's key: its record says where that autoencoder's files are. Encoded as by that, decoded by it; data
    prepared by either is the other's, and its scores are a decoder's own."""
    spec, record = decoder
    out, own = f"out={place}/runs", ["autoencoder=trained", f"autoencoder.record={record.key}"]
    data = ["data=prepared", f"data.path={place}/of_files", out]
    settings = settings_of([*data, *own], DECODING)
    theirs, ours = describe(spec.settings.autoencoder), describe(settings.autoencoder)
    assert ours == dataclasses.replace(theirs, decoder=ours.decoder)
    assert ours.identity() == theirs.identity()
    assert len(ours.decoder) == 16
    task = prepare(settings).task
    made = task.control("own_decoder", spec.architecture)
    assert made["psnr"].value == pytest.approx(record.quantities["psnr"].value, abs=1e-6)
    before = prepare(spec.settings).task
    assert made["psnr"].value > before.control("own_decoder", spec.architecture)["psnr"].value + 3
    assert task.control_identity("own_decoder", spec.architecture) == {"decoder": ours.decoder}
    assert task.control_identity("linear", spec.architecture) == before.control_identity("linear", spec.architecture)
    images = torch.stack([task.images.heldout[number][0] for number in range(3)])
    scales = [tuple(task.pairs.made_by["scale"]), (2.0,) * 4]
    loaded = [load_autoencoder(settings.autoencoder, torch.device("cpu"), scale=scale) for scale in scales]
    decoded = [each.pictures(each.encode(images).mean) for each in loaded]  # whatever the scale that is stored
    torch.testing.assert_close(*decoded, rtol=1e-4, atol=1e-4)
    network = read_weights(settings.autoencoder.file).network()
    with torch.no_grad():
        torch.testing.assert_close(decoded[0], network(loaded[0].encode(images).mean), rtol=1e-4, atol=1e-4)


def test_it_is_scored_again_by_its_key_on_its_own_pictures_or_others(decoder, trained, place, refusal, capsys):
    _, record = decoder
    words = [f"out={place}/runs", "task.pictures=12", "task.extractor.resolution=32", "task.perceptual=null"]
    stored = ["data=prepared", f"data.path={place}/of_files"]
    assert main(["evaluate", record.key, *stored, words[0], "--json"]) == 0  # its own pictures, extractor and measure
    scores = json.loads(capsys.readouterr().out)
    for name in ("psnr", "ssim", "colour_error", "reconstruction_fd"):
        assert scores[name]["value"] == pytest.approx(record.quantities[name].value, rel=1e-5)
    assert main(["evaluate", trained[1].key, *pictures(place), *words]) == 0
    assert "PSNR, a mean over 12 pictures" in " ".join(capsys.readouterr().out.split())
    assert "--steps is of pictures that are sampled, and Trial" in refusal(
        "evaluate", record.key, *stored, *words, "--steps", "3"
    )
    assert "is itself what decodes, and is scored as task=decode has it; leave autoencoder out" in refusal(
        "evaluate", record.key, *stored, *words, *made_by(place)
    )
    assert "task.tiled.side is measured when a decoder has been trained, and not of one afterwards" in refusal(
        "evaluate", record.key, *stored, *words, "task.tiled.side=64"
    )


def test_pictures_are_sampled_through_it(decoder, place):
    """A denoiser's trial with it is another than with the autoencoder's own decoder, and its weights go with both."""
    _, record = decoder
    data = ["data=prepared", f"data.path={place}/of_files", f"out={place}/runs"]
    denoising = {name: value for name, value in SETTINGS.items() if name != "data"}
    unet = with_edits(architecture("laptop/thin_sdxl"), TINY)
    unet = with_edits(unet, {"stages": to_plain(unet.stages)[1:]})  # latents of 2 x 2
    specs = [
        prepare(settings_of([*data, *autoencoder], denoising)).spec("tiny", unet, 0)
        for autoencoder in (made_by(place), ["autoencoder=trained", f"autoencoder.record={record.key}"])
    ]
    sections = [spec.protocol.sections["autoencoder"] for spec in specs]
    assert sections[1] == {**sections[0], "decoder": describe(specs[1].settings.autoencoder).decoder}
    assert specs[0].key != specs[1].key
    told = [prepare(spec.settings).task.told("0" * 16) for spec in specs]
    assert told[0] == told[1]
    assert run_trial(specs[1], place / "through_a_decoder").state == "complete"


def test_a_decoder_of_other_latents_or_without_its_encoder_is_a_sentence(trained, decoder, place, tmp_path):
    spec, record = decoder
    out, own = f"out={place}/runs", ["autoencoder=trained", f"autoencoder.record={record.key}"]
    other = lay_out(tmp_path)
    encoder = torch.load(other / "encoder.pth", weights_only=True)
    torch.save({name: tensor * 1.01 for name, tensor in encoder.items()}, other / "encoder.pth")
    words = ["data", "prepare", *(each.removeprefix("data=") for each in pictures(place))]
    assert main([*words, *made_by(other), f"to={tmp_path}/prepared", out, "scale_pictures=16"]) == 0
    with pytest.raises(
        UserError, match=r"this decoder was trained for another autoencoder's latents than these: its w"
    ):
        prepare(settings_of(["data=prepared", f"data.path={tmp_path}/prepared", *own, out], DECODING))
    files = f"autoencoder.encoded_by={{kind: tiny, encoder: {other}/encoder.pth, decoder: {other}/decoder.pth}}"
    with pytest.raises(UserError, match=r"encoded_by is not the autoencoder that the decoder .* was trained against"):
        describe(settings_of([*own, files, out], DECODING).autoencoder)
    copied = tmp_path / "decoder.safetensors"  # a file that no store here knows
    copied.write_bytes(spec.store.artifact(record.key, "ema.safetensors").read_bytes())
    alone = ["autoencoder=trained", f"autoencoder.record={copied}", f"out={tmp_path}/runs"]
    with pytest.raises(UserError, match=r"nothing says where the files of the autoencoder are .*, kind tiny; give aut"):
        describe(settings_of(alone, DECODING).autoencoder)
    here = files.replace(str(other), str(place))
    assert describe(settings_of([*alone, here], DECODING).autoencoder).decoder
    whole = ["autoencoder=trained", f"autoencoder.record={trained[1].key}", here, out]
    with pytest.raises(UserError, match=r"encoded_by is of a decoder alone, and .* has an encoder; leave it out"):
        describe(settings_of(whole, DECODING).autoencoder)


def test_a_linear_autoencoder_of_as_many_numbers_as_pixels_makes_every_picture_again():
    shown = torch.rand(8, 3, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1
    torch.testing.assert_close(LinearAutoencoder(shown.chunk(2), 4, 48)(shown).float(), shown)
    few, more = (LinearAutoencoder(shown.chunk(2), 4, kept)(shown) for kept in (4, 16))
    errors = [float((made - shown).square().mean()) for made in (few, more)]
    assert errors[0] > errors[1] > 0
    centred = shown.unfold(2, 4, 4).unfold(3, 4, 4).permute(0, 2, 3, 1, 4, 5).reshape(-1, 48).double()
    values = torch.linalg.svdvals(centred - centred.mean(0))
    assert errors[0] == pytest.approx(float(values[4:].square().sum() / shown.numel()), rel=1e-5)


def test_a_training_by_name_is_of_the_task_that_takes_the_network(place, workplace, refusal, capsys):
    """Named by nobody, where one task alone does; what is named stays."""
    Path("own.yaml").write_text(to_yaml(tiny_autoencoder()))
    chosen = {name: value for name, value in AUTOENCODING.items() if name != "task"}
    words = [f"{name}={'null' if value is None else value}" for name, value in chosen.items()]
    assert main(["train", "own.yaml", *pictures(place), *words, "--dry-run"]) == 0
    assert "M parameters" in capsys.readouterr().out
    assert "task=denoise trains no OwnAutoencoderConfig, and task=autoencode does" in refusal(
        "train", "own.yaml", "task=denoise"
    )
    assert defaults_of(architecture("decoder/tiny")) == {**DEFAULTS, "task": "decode"}
    assert defaults_of(architecture("laptop/thin_sdxl")) == DEFAULTS


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (
            ["objective.patch=6"],
            "objective.patch=6 does not fit the autoencoder: height and width must be multiples of 4",
        ),
        (["data.size=18"], "data.size=18 does not fit the architecture"),
        (["autoencoder=tiny"], "autoencoder says something of a task's autoencoder, and task=autoencode has none"),
    ],
)
def test_what_cannot_be_is_a_sentence(place, overrides, sentence):
    settings = [*pictures(place), f"out={place}/runs", *overrides]
    with pytest.raises(UserError, match=sentence):
        prepare(settings_of(settings, AUTOENCODING)).spec("tiny", tiny_autoencoder(), 0)


def test_one_that_is_not_there_is_a_sentence(place):
    with pytest.raises(UserError, match=r"autoencoder\.record: '0123456789abcdef' is neither the key of a trial"):
        settings_of([f"out={place}/runs", "autoencoder=trained", "autoencoder.record=0123456789abcdef"], SETTINGS)
    with pytest.raises(UserError, match=r"needs one that was trained here; give autoencoder\.record=KEY"):
        describe(TrainedAutoencoder())
