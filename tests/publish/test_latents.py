"""A network of latents: its autoencoder is named by its hash and given to `load`, or lies in the folder."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL
from PIL import Image
from tiny_study import SMALL, share_cache, tiny_spec

import harness
from harness.architecture.edits import with_edits
from harness.cli import main
from harness.device.picture import read_solver
from harness.models import tiny_autoencoder
from harness.models.autoencoder import describe
from harness.models.autoencoder_config import KlAutoencoder, Tiles, TinyAutoencoder
from harness.models.parameters import filled_copy
from harness.models.weights import Training, write_weights
from harness.records.errors import UserError
from harness.trials.outcomes import record_of
from harness.trials.prepared import prepare
from harness.trials.samples import initialised_network


def write_kl(folder, seed):
    torch.manual_seed(seed)
    AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
        block_out_channels=(8, 8), latent_channels=4, norm_num_groups=4, layers_per_block=1, scaling_factor=0.7,
        shift_factor=0.2, force_upcast=False,
    ).save_pretrained(folder)  # fmt: skip
    return KlAutoencoder(name=str(folder))


@pytest.fixture(scope="module")
def place(tmp_path_factory, cache):
    """A working directory whose store has a trial in the latents of `vae`, as if trained; its key."""
    folder = tmp_path_factory.mktemp("latents")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        share_cache(folder / "runs", cache)
        made_by = describe(write_kl(folder / "vae", 0)).identity()
        write_kl(folder / "other", 1)
        spec = tiny_spec("sampling.steps=2", edits=SMALL)
        spec = replace(spec, architecture=with_edits(spec.architecture, {"latent_channels": 4}))
        network = filled_copy(initialised_network(spec.architecture, 0))
        prompts = prepare(spec.settings).task.prompts
        training = Training(trial=spec.key, latent=4, text=prompts.identity, autoencoder=made_by)
        file = spec.store.artifact(spec.key, "ema.safetensors")
        file.parent.mkdir(parents=True)
        write_weights(file, network.state_dict(), spec.architecture, training)
        spec.store.put(record_of(spec, "complete", {}, artifacts={file.name: file.name}))
    return folder, spec.key


@pytest.fixture
def key(place, monkeypatch):
    monkeypatch.chdir(place[0])
    return place[1]


pytestmark = pytest.mark.timeout(600)  # a conversion to Core ML
VAE = ["autoencoder=kl", "autoencoder.name=vae"]


def test_one_that_is_not_in_the_folder_is_asked_for_by_its_hash(key, tmp_path):
    assert main(["publish", key, "--no-coreml", "--to", str(tmp_path / "m"), *VAE]) == 0
    assert str(tmp_path) not in (tmp_path / "m" / "config.json").read_text()
    weights = describe(KlAutoencoder(name="vae")).weights
    with pytest.raises(UserError, match=f"that is not in it: kind kl, the hash of its weights {weights}; give its"):
        harness.load(tmp_path / "m")
    with pytest.raises(UserError, match="autoencoder=kl did not make these latents: its weights is"):
        harness.load(tmp_path / "m", autoencoder=KlAutoencoder(name="other"))
    pictures = harness.load(tmp_path / "m", autoencoder=KlAutoencoder(name="vae")).sample(["three", "seven"])
    words = ["sample", key, "--classes", "three", "seven", "--count", "2", "--to", str(tmp_path / "a.npz"), *VAE]
    assert main(words) == 0
    with np.load(tmp_path / "a.npz") as sampled:
        assert np.array_equal(np.stack(pictures), sampled["arr_0"])
    assert sampled_from_trial(key, pictures)


def test_large_latents_are_decoded_in_tiles_where_that_is_asked(key, tmp_path, capsys):
    """In Python and on the command line the same; and other pictures than whole ones, with which they do not mix."""
    tiles, vae = {"side": 3, "overlap": 2, "blend": 1}, KlAutoencoder(name="vae")
    whole, tiled, set_so = (
        np.stack(harness.load(key, **how).sample(["three", "seven"]))
        for how in ({"autoencoder": vae}, {"autoencoder": vae, "tiles": tiles},
                    {"autoencoder": replace(vae, tiles=Tiles(**tiles))})
    )  # fmt: skip
    assert not np.array_equal(whole, tiled)
    assert np.array_equal(tiled, set_so)
    words = ["sample", key, "--classes", "three", "seven", "--count", "2", *VAE]
    in_tiles = f"autoencoder.tiles={tiles}".replace("'", "")
    assert main([*words, in_tiles, "--to", str(tmp_path / "a.npz")]) == 0
    with np.load(tmp_path / "a.npz") as sampled:
        assert np.array_equal(sampled["arr_0"], tiled)
    assert main([*words, "--to", str(tmp_path / "pngs")]) == 0
    assert main([*words, in_tiles, "--to", str(tmp_path / "pngs")]) != 0
    assert "tiles" in capsys.readouterr().err
    assert main(["publish", key, "--no-coreml", "--to", str(tmp_path / "m"), *VAE, in_tiles]) != 0
    assert "what is published decodes whole ones; leave it out" in capsys.readouterr().err
    with pytest.raises(UserError, match="0 <= blend <= overlap < side, not 1, 3 and 3"):
        harness.load(key, autoencoder=vae, tiles=tiles | {"overlap": 3})


def sampled_from_trial(key, pictures):
    """The trial itself, loaded by its key, makes the same."""
    model = harness.load(key, autoencoder=KlAutoencoder(name="vae"))
    return np.array_equal(np.stack(model.sample(["three", "seven"])), np.stack(pictures))


@pytest.mark.slow
def test_one_in_the_folder_is_all_that_a_picture_takes(key, phone, tmp_path, monkeypatch, capsys):
    folder = tmp_path / "m"
    assert main(["publish", key, "--embed", "--to", str(folder), *VAE]) == 0
    monkeypatch.chdir(tmp_path)  # away from `vae`
    picture = harness.load(folder).sample(["a photo of a seven"], rounding="truncate")[0]
    assert (picture.mode, picture.size) == ("RGB", (8, 8))
    assert read_solver(folder).decoder is not None
    words = ["latency", "picture", str(folder), "--queue", str(phone.queue), "--prompt", "a photo of a seven"]
    words += ["--pictures", "1"]
    assert main(words) == 0
    phone.world.times = lambda _run: 2.0
    phone(folder)
    capsys.readouterr()
    assert main(words) == 0
    assert (
        "10.00 ms a picture on iPhone, A17 Pro, 18.1 (UNet 8.00 ms; decoder 2.00 ms; 4 pred" in capsys.readouterr().out
    )
    expected = np.asarray(harness.load(folder).sample(["a photo of a seven"])[0]).astype(int)
    assert np.abs(np.asarray(Image.open("picture.png")).astype(int) - expected).max() <= 2
    shutil.rmtree(folder / "autoencoder")
    with pytest.raises(UserError, match="lacks autoencoder/"):
        harness.load(folder)


def test_pickles_are_not_embedded(key, tmp_path, capsys):
    torch.manual_seed(0)
    files = TinyAutoencoder(encoder=tmp_path / "encoder.pth", decoder=tmp_path / "decoder.pth")
    torch.save(tiny_autoencoder.encoder(4, pooled=False).state_dict(), files.encoder)
    torch.save(tiny_autoencoder.decoder(4, pooled=False).state_dict(), files.decoder)
    words = ["autoencoder=tiny", f"autoencoder.encoder={files.encoder}", f"autoencoder.decoder={files.decoder}"]
    assert main(["publish", key, "--embed", "--to", str(tmp_path / "m"), *words]) == 2
    assert "--embed copies no pickles" in capsys.readouterr().err
