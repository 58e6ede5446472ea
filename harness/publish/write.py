"""`harness publish`: writes a folder that others load, whole or not at all."""

import hashlib
import shutil
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.metadata import distribution, version
from pathlib import Path
from typing import Any

from harness.coreml.config import Mlprogram
from harness.coreml.parity import ParityResult
from harness.data.config import EncoderConfig, HuggingFaceText, SeveralText, TextConfig
from harness.data.prompts import write_prompts
from harness.device.picture import PROMPTS
from harness.models.autoencoder_config import (
    AutoencoderConfig,
    KlAutoencoder,
    PixelsAutoencoder,
    TinyAutoencoder,
    TrainedAutoencoder,
)
from harness.models.weights import Weights, read_weights
from harness.publish.card import model_card, same_but_for_the_seed
from harness.publish.folder import (
    AUTOENCODER,
    CONFIG,
    FORMAT,
    MODEL,
    README,
    Choices,
    Manifest,
    check_files,
    files_of,
    read_manifest,
    write_manifest,
)
from harness.publish.model import load_folder
from harness.records.errors import UserError
from harness.records.plain import canonical_json, to_plain
from harness.records.provenance import code_state
from harness.records.record import TrialRecord
from harness.records.store import check_writable, copy_atomic, file_sha256, unwritable, write_atomic
from harness.trials.sample_files import write_samples
from harness.trials.sampling_run import class_names, sampling_run
from harness.trials.settings import Settings
from harness.trials.spec import store_of
from harness.trials.trained import TrainedNetwork

SAMPLES, LICENSE = "samples.png", "LICENSE"
GRID_COLUMNS, GRID_ROWS = 10, 6
APACHE = "apache-2.0"


@dataclass(frozen=True, kw_only=True, slots=True)
class License:
    name: str
    text: str


def own_license() -> License:
    """Of this package: Apache 2.0. In a checkout its metadata may lie beside it without the text."""
    text, beside = distribution("unet-harness").read_text("licenses/LICENSE"), Path(__file__).parents[2] / LICENSE
    if text is None and beside.is_file():
        text = beside.read_text()
    if text is None:
        raise UserError("the installed package lacks its licence's text; install it again, or give --license FILE")
    return License(name=APACHE, text=text)


def license_in(path: Path) -> License:
    """Of a file that the user gives; its name is the licence's."""
    try:
        return License(name=path.stem.lower(), text=path.read_text())
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read the licence {path} ({error}); give a text file with --license") from error


@dataclass(frozen=True, kw_only=True, slots=True)
class Publication:
    """What is to be published, and how."""

    trained: TrainedNetwork
    record: TrialRecord
    settings: Settings
    coreml: Mlprogram | None
    embed: bool
    license: License

    @property
    def choices(self) -> Choices:
        sampling, coreml = to_plain(self.settings.sampling), to_plain(self.coreml)
        assert isinstance(sampling, dict)
        assert coreml is None or isinstance(coreml, dict)
        digest = hashlib.sha256(self.license.text.encode()).hexdigest()
        return Choices(sampling=sampling, coreml=coreml, embed=self.embed, license=digest)


def check_publication(publication: Publication, target: Path) -> bool:
    """Whether there is something to do. UserError where the folder is another's, or cannot be written, and where the
    autoencoder cannot be embedded."""
    autoencoder = publication.settings.autoencoder
    if not isinstance(autoencoder, PixelsAutoencoder) and autoencoder.tiles is not None:
        raise UserError(
            "autoencoder.tiles is how pictures are decoded here, and what is published decodes whole ones; leave it "
            "out, and give it to whoever loads the folder: load(FOLDER, tiles=...)"
        )
    if publication.embed and isinstance(autoencoder, PixelsAutoencoder):
        raise UserError("--embed copies the autoencoder, and this network sees pixels; leave it out")
    if publication.embed and isinstance(autoencoder, TinyAutoencoder) and autoencoder.name is None:
        raise UserError(
            f"--embed copies no pickles, and {autoencoder.decoder} is one; publish without it, or give the autoencoder "
            "as a folder of diffusers' AutoencoderTiny, autoencoder.name=FOLDER"
        )
    if publication.embed and isinstance(autoencoder, TrainedAutoencoder):
        raise UserError(
            "--embed copies an autoencoder of diffusers', and this one was trained here; publish without it, and give "
            "its file, autoencoder.record=FILE, to whoever loads the folder"
        )
    if target.is_file():
        raise UserError(f"--to {target} is a file, and a folder is to be written; give another name")
    if not target.is_dir() or not any(target.iterdir()):
        check_writable(target)
        return True
    if not (target / CONFIG).is_file():
        raise UserError(f"--to {target} is not empty, and no model was published there; give a new folder")
    manifest = read_manifest(target)
    weights = file_sha256(publication.trained.weights)
    if manifest.trial != publication.record.key or manifest.files.get(MODEL) != weights:
        raise UserError(f"--to {target} holds the model of trial {manifest.trial}; give a new folder")
    if canonical_json(manifest.choices) != canonical_json(publication.choices):
        raise UserError(
            f"--to {target} holds this trial, published with other settings; give a new folder, or remove that one"
        )
    check_files(target, manifest, manifest.files)
    return False


def publish(publication: Publication, target: Path) -> None:
    """Write the folder beside its place, load it once, and rename it into place. Errors: as `sampling_run`,
    `write_phone_parts` and `load_folder`."""
    trained, settings, record = publication.trained, publication.settings, publication.record
    weights = read_weights(trained.weights)
    with _appearing(target) as folder:
        _write_network(folder, publication, weights)
        if publication.embed:
            _embed(folder, settings.autoencoder)
        parity = _write_phone(folder, publication)
        write_atomic(folder / LICENSE, publication.license.text.encode())
        others = same_but_for_the_seed(record, store_of(settings.out))
        card = model_card(record, weights, publication.choices, publication.license.name, parity, others)
        write_atomic(folder / README, card.encode())
        _share_mode(folder)
        write_manifest(folder, _manifest(folder, publication, weights))
        load_folder(folder, autoencoder=None if publication.embed else settings.autoencoder)


def _write_network(folder: Path, publication: Publication, weights: Weights) -> None:
    """The weights, the prompts, and a grid of samples, which shows that they go together."""
    assert weights.training is not None
    names = class_names(weights.training)[:GRID_COLUMNS]
    run = sampling_run(publication.trained, publication.settings, GRID_ROWS * len(names), names)
    copy_atomic(publication.trained.weights, folder / MODEL)
    write_prompts(folder / PROMPTS, run.prompts)
    write_samples(run, folder / SAMPLES)


def _embed(folder: Path, autoencoder: AutoencoderConfig) -> None:
    from harness.models.autoencoder import files_in

    for path in files_in(autoencoder):
        copy_atomic(path, folder / AUTOENCODER / path.name)


def _write_phone(folder: Path, publication: Publication) -> Mapping[str, ParityResult]:
    if publication.coreml is None:
        return {}
    from harness.publish.phone import write_phone_parts

    settings = publication.settings
    on_cpu = replace(settings, recipe=replace(settings.recipe, device="cpu"))
    run = sampling_run(publication.trained, on_cpu, 1, ["0"])
    return write_phone_parts(folder, run, publication.coreml)


def _share_mode(folder: Path) -> None:
    """Give every file the permissions of the card: coremltools lets its owner alone read a package."""
    mode = (folder / README).stat().st_mode
    for path in folder.rglob("*"):
        if path.is_file():
            path.chmod(mode)


def _manifest(folder: Path, publication: Publication, weights: Weights) -> Manifest:
    training, settings, architecture = weights.training, publication.settings, to_plain(weights.architecture)
    assert training is not None
    assert isinstance(architecture, dict)
    return Manifest(
        format=FORMAT,
        harness={"version": version("unet-harness"), **code_state(Path(__file__).parents[1])},
        trial=publication.record.key,
        name=publication.record.name,
        architecture=architecture,
        architecture_fingerprint=weights.architecture.fingerprint,
        latent=training.latent,
        text=training.text,
        text_encoder=_elsewhere(settings.text),
        autoencoder=training.autoencoder,
        autoencoder_config=_named_elsewhere(settings.autoencoder),
        choices=publication.choices,
        files=files_of(folder),
    )


def _elsewhere(text: TextConfig) -> TextConfig | None:
    """The settings by which others have the encoder too: not a folder of this machine."""
    encoders = text.encoders if isinstance(text, SeveralText) else (text,)
    names = [each.name for each in encoders if isinstance(each, HuggingFaceText | EncoderConfig)]
    return None if any(map(_is_folder, names)) else text


def _named_elsewhere(autoencoder: AutoencoderConfig) -> AutoencoderConfig:
    if isinstance(autoencoder, PixelsAutoencoder):
        return autoencoder
    if isinstance(autoencoder, TrainedAutoencoder):
        return TrainedAutoencoder()
    is_here = autoencoder.name is None or _is_folder(autoencoder.name)
    if isinstance(autoencoder, KlAutoencoder):
        return replace(autoencoder, name=None, subfolder=None) if is_here else autoencoder
    return TinyAutoencoder(name=None if is_here else autoencoder.name)


def _is_folder(name: str) -> bool:
    return Path(name).expanduser().is_dir()


@contextmanager
def _appearing(target: Path) -> Iterator[Path]:
    """A folder to fill, which gets its name when the block ends well."""
    temporary = target.parent / f".{target.name}.{uuid.uuid4().hex[:8]}"
    try:
        temporary.mkdir(parents=True)
        yield temporary
        temporary.rename(target)
    except OSError as error:
        if error.filename is None or str(error.filename).startswith(str(temporary)):
            raise unwritable(target, error) from error
        raise UserError(
            f"cannot read {error.filename}: {error.strerror or error}; mend that, then publish again"
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def summary(folder: Path) -> list[tuple[Any, ...]]:
    """(path, bytes) of what lies in the folder, a Core ML package as one."""
    sizes: dict[str, int] = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        parts = path.relative_to(folder).parts
        ends = next((at for at, part in enumerate(parts, 1) if part.endswith(".mlpackage")), len(parts))
        name = "/".join(parts[:ends])
        sizes[name] = sizes.get(name, 0) + path.stat().st_size
    return list(sizes.items())
