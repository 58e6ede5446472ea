"""What a study's data is, also where it is not here: how many pictures, of which size, what a network sees of one.

A study of prepared data that names no folder (`data: prepared` without data.path) is for another machine. It is about
ImageNet then, and a dry run counts its pictures. A folder that is named is looked at, and has to be there.
"""

from dataclasses import dataclass, fields

from harness.architecture.config import ArchitectureConfig
from harness.architecture.edits import with_edits
from harness.data.config import PreparedConfig
from harness.data.prepare import PICTURES_KEPT
from harness.data.prepared import read_manifest
from harness.data.sources.imagenet import TRAINING_PICTURES, VALIDATION_PICTURES
from harness.records.errors import UserError
from harness.trials.protocols import latents_of
from harness.trials.settings import Settings


@dataclass(frozen=True, kw_only=True, slots=True)
class Pictures:
    """How many a study trains on and holds out, and of which size."""

    train: int
    heldout: int
    size: int
    is_here: bool = True
    """False: the data is not here, and these are ImageNet's."""


IMAGENET = Pictures(train=TRAINING_PICTURES, heldout=VALIDATION_PICTURES, size=256, is_here=False)


def pictures_of(settings: Settings) -> Pictures:
    """Of the study's prepared data; ImageNet's where it names none; of other data, which is not reckoned, the size.
    UserError for a folder that is damaged."""
    if not isinstance(settings.data, PreparedConfig):
        return Pictures(train=0, heldout=0, size=settings.data.size)
    if settings.data.path is None:
        return IMAGENET
    plan = read_manifest(settings.data.path).plan
    return Pictures(train=plan.parts["train"].rows, heldout=plan.parts["heldout"].rows, size=int(plan.source["size"]))


def latent_of(settings: Settings, pictures: Pictures) -> tuple[int, int]:
    """(channels, height and width) of what a network is trained on."""
    latents = latents_of(settings.autoencoder)
    if latents["kind"] == "pixels":
        return 3, pictures.size
    return int(latents["channels"]), pictures.size // int(latents["downsampling"])


def check_here(config: PreparedConfig) -> None:
    """UserError where the folder that a dry run is to count is none of prepared data, or half done."""
    if config.path is not None:
        try:
            read_manifest(config.path)
        except UserError as error:
            raise UserError(f"{error}; or leave out data.path, and a dry run counts ImageNet's pictures") from error


def fitted_to_latents(architecture: ArchitectureConfig, channels: int) -> ArchitectureConfig:
    """What would be trained, but for prompts: without the data, these have the length and width that it is made for."""
    return with_edits(architecture, {"latent_channels": channels})


def data_bytes(settings: Settings, pictures: Pictures) -> int | None:
    """Of the folder of prepared data: as it is, or as `how_to_prepare` would fill it."""
    if not isinstance(settings.data, PreparedConfig):
        return None
    if settings.data.path is not None and pictures.is_here:
        return sum(path.stat().st_size for path in settings.data.path.glob("*.npy"))
    (channels, side), picture = latent_of(settings, pictures), 3 * pictures.size**2
    if settings.autoencoder.kind == "pixels":
        row = picture
    else:
        values = 2 if latents_of(settings.autoencoder)["encoding"] == "sampled" else 1  # mean, and deviation
        row = 2 * values * channels * side**2  # float16
    kept = pictures.train if _scores_against_all(settings) else min(PICTURES_KEPT, pictures.train)
    return (pictures.train + pictures.heldout) * row + (pictures.heldout + kept) * picture


def how_to_prepare(settings: Settings) -> str:
    """A sentence for a study that names no data."""
    encoder = settings.autoencoder
    pictures = " pictures=null" if _scores_against_all(settings) else ""
    chosen = {each.name: getattr(encoder, each.name) for each in fields(encoder) if each.name != "kind"}
    defaults = {each.name: each.default for each in fields(encoder)}
    named = "".join(f" autoencoder.{key}={value}" for key, value in chosen.items() if value != defaults[key])
    return (
        "data.path=null holds no prepared data, so this counts ImageNet's "
        f"{TRAINING_PICTURES:,} training and {VALIDATION_PICTURES:,} held-out pictures; make it with `harness data "
        f"prepare imagenet data.path=IMAGENET data.crop=adm to=FOLDER{pictures} autoencoder={encoder.kind}{named}`"
    )


def _scores_against_all(settings: Settings) -> bool:
    """Whether the reference is the whole training set, which then has to be kept as pictures too."""
    return settings.quality.reference == "train" and settings.quality.reference_samples is None
