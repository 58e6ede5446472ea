"""Which images to learn from (`digits`, `image_folder`, `emoji`, ...) and how their classes or captions become text
(`minilm`, `huggingface`, `several`), or none (`class_table`)."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Literal, TypeAlias, get_args

from harness.records.errors import UserError, unknown_name
from harness.records.plain import IDENTITY_UNLESS_DEFAULT, NOT_IDENTITY

Color = Literal["auto", "grayscale", "rgb"]
Crop = Literal["centre", "adm"]
Hidden = Literal["last", "penultimate"]
HeldOutBy = Literal["picture", "caption"]
SMALLEST_EMOJI, LARGEST_EMOJI = 16, 128
TEMPLATE = "a photo of a {}"  # the paper's: "a photo of a <class name>"


@dataclass(frozen=True, kw_only=True, slots=True)
class DigitsConfig:
    """scikit-learn's handwritten digits: 1,797 images of 8x8, inside the wheel."""

    kind: Literal["digits"] = "digits"
    captions: ClassVar[bool] = False

    @property
    def size(self) -> int:
        return 8


@dataclass(frozen=True, kw_only=True, slots=True)
class FashionMnistConfig:
    """Fashion-MNIST: 70,000 grayscale images of clothes, 28x28; the 10,000 test images are held out."""

    kind: Literal["fashion_mnist"] = "fashion_mnist"
    captions: ClassVar[bool] = False
    path: Path | None = field(default=None, metadata=NOT_IDENTITY)
    """The folder of the four `*-ubyte.gz` files, or torchvision's root; null: where Debian's package puts them."""
    download: bool = field(default=False, metadata=NOT_IDENTITY)
    """Let torchvision fetch the files (31 MB) into `path` if they are not there."""
    size: int = 28

    def __post_init__(self) -> None:
        _check_size(self.size)
        if self.download and self.path is None:
            raise UserError("data.download=true needs a folder to download to; give data.path=FOLDER")


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageFolderConfig:
    """Any folder of class folders of images, or of train/ and val/ or test/ that each hold class folders.

    Every image is resized (short side) and centre-cropped to `size`.
    """

    kind: Literal["image_folder"] = "image_folder"
    captions: ClassVar[bool] = False
    path: Path | None = field(default=None, metadata=NOT_IDENTITY)
    size: int = 32
    color: Color = "auto"
    """auto: one channel if every image is stored in grayscale, else three."""
    heldout: float | None = None
    """The fraction of images held out, chosen by a hash of the file's bytes: adding a file moves no other, and copies
    of a file are in one part. null: the folder's own val/ or test/, else 0.2."""
    names: Path | None = field(default=None, metadata=NOT_IDENTITY)
    """A text file of lines `FOLDER NAME`, e.g. `n01440764 tench`; null: the folders' own names."""
    bits: int | None = None
    """How many bits the values in 16-bit files use, e.g. 12 for many scanners; null: all 16, checked."""
    crop: Crop = field(default="centre", metadata=IDENTITY_UNLESS_DEFAULT)
    """How a picture becomes a square, by `harness.data.crop`: `centre`, or `adm` as published FIDs on ImageNet have
    it, which reads files as RGB and does not turn them by EXIF."""

    def __post_init__(self) -> None:
        _check_size(self.size)
        _check_fraction(self.heldout)
        if self.bits is not None and not 8 <= self.bits <= 16:
            raise UserError(f"data.bits is how many bits 16-bit files use, 8 to 16, not {self.bits}")
        if self.crop == "adm" and self.bits is not None:
            raise UserError(f"data.crop=adm reads files as ADM does, by 8 bits; leave data.bits={self.bits} out")
        if self.crop == "adm" and self.color == "grayscale":
            raise UserError("data.crop=adm reads files as RGB; leave data.color=grayscale out")


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageNetConfig:
    """ImageNet's 1,000 classes (ILSVRC 2012) as they lie on disk: tars, Kaggle's layout, or folders by WordNet id."""

    kind: Literal["imagenet"] = "imagenet"
    captions: ClassVar[bool] = False
    path: Path | None = field(default=None, metadata=NOT_IDENTITY)
    size: int = 256
    crop: Crop = "adm"

    def __post_init__(self) -> None:
        _check_size(self.size)


@dataclass(frozen=True, kw_only=True, slots=True)
class MetadataConfig:
    """A folder of pictures with metadata.jsonl: `file_name`, and a class or a caption."""

    kind: Literal["metadata"] = "metadata"
    path: Path | None = field(default=None, metadata=NOT_IDENTITY)
    size: int = 256
    crop: Crop = "adm"
    column: str = "label"
    """The entry that is the condition: a class's name, or a caption."""
    captions: bool = field(default=False, metadata=IDENTITY_UNLESS_DEFAULT)
    """Whether it is a caption, a text of its own: one that only held-out pictures have is no mistake."""
    heldout: float | None = None
    """As `image_folder` has it."""
    heldout_by: HeldOutBy = field(default="picture", metadata=IDENTITY_UNLESS_DEFAULT)
    """What is held out: pictures, or whole captions with all their pictures, by a hash of the caption, so that what is
    asked of samples was never trained."""

    def __post_init__(self) -> None:
        _check_size(self.size)
        _check_fraction(self.heldout)
        _check_heldout_by(self.heldout_by, self.captions)


@dataclass(frozen=True, kw_only=True, slots=True)
class ParquetConfig:
    """Parquet files of a Hugging Face data set: encoded pictures and classes."""

    kind: Literal["parquet"] = "parquet"
    path: Path | None = field(default=None, metadata=NOT_IDENTITY)
    size: int = 256
    crop: Crop = "adm"
    image: str = "image"
    """The column of pictures."""
    label: str = "label"
    """The column of class numbers, whose names the schema has, or of texts."""
    captions: bool = field(default=False, metadata=IDENTITY_UNLESS_DEFAULT)
    """As `metadata` has it."""
    heldout: float | None = None
    """As `image_folder` has it."""
    heldout_by: HeldOutBy = field(default="picture", metadata=IDENTITY_UNLESS_DEFAULT)
    """As `metadata` has it."""

    def __post_init__(self) -> None:
        _check_size(self.size)
        _check_fraction(self.heldout)
        _check_heldout_by(self.heldout_by, self.captions)


@dataclass(frozen=True, kw_only=True, slots=True)
class EmojiConfig:
    """The pictures of a colour emoji font, each captioned by its name: text decides the picture."""

    kind: Literal["emoji"] = "emoji"
    captions: ClassVar[bool] = True
    path: Path | None = field(default=None, metadata=NOT_IDENTITY)
    """The font, FILE.ttf; null: Noto Color Emoji where systems put it."""
    size: int = 16
    background: str = "white"
    """What is behind the pictures, which are transparent there."""
    sequences: bool = False
    """Also what several characters make together: skin tones, flags, families, keycaps."""
    heldout: float = 0.2
    """The fraction of captions held out, chosen by a hash of the caption."""

    def __post_init__(self) -> None:
        if not SMALLEST_EMOJI <= self.size <= LARGEST_EMOJI:
            raise UserError(
                f"data.size is the side of an emoji's picture, {SMALLEST_EMOJI} to {LARGEST_EMOJI} pixels (the font's "
                f"own are 136), not {self.size}"
            )
        _check_fraction(self.heldout)
        _check_colour(self.background)


@dataclass(frozen=True, kw_only=True, slots=True)
class PreparedConfig:
    """What `harness data prepare NAME to=FOLDER` made: latents to train on, pictures to score with."""

    kind: Literal["prepared"] = "prepared"
    path: Path | None = field(default=None, metadata=NOT_IDENTITY)
    """The folder."""

    @property
    def size(self) -> int:
        """Of its pictures, which its manifest says."""
        from harness.data.prepared import folder_of, read_manifest  # loads torch

        return int(read_manifest(folder_of(self)).plan.source["size"])

    @property
    def captions(self) -> bool:
        """Of its source; of a folder that cannot be read, which is refused where it is loaded, False."""
        try:
            plan = json.loads((self.path / "plan.json").read_text()) if self.path else {}
        except (OSError, ValueError):
            return False
        return bool(plan.get("captions", False)) if isinstance(plan, dict) else False


@dataclass(frozen=True, kw_only=True, slots=True)
class CocoConfig:
    """COCO's pictures of one split as they lie on disk, to be scored on: annotations/*_SPLIT.json, and SPLIT/*.jpg."""

    path: Path | None = field(default=None, metadata=NOT_IDENTITY)
    """The folder that both lie in."""
    split: str = "val2017"


DataConfig: TypeAlias = (
    DigitsConfig
    | FashionMnistConfig
    | ImageFolderConfig
    | ImageNetConfig
    | MetadataConfig
    | ParquetConfig
    | EmojiConfig
    | PreparedConfig
)


def _check_fraction(heldout: float | None) -> None:
    if heldout is not None and not 0 < heldout < 1:
        raise UserError(f"data.heldout is a fraction between 0 and 1, not {heldout}")


def _check_heldout_by(heldout_by: HeldOutBy, captions: bool) -> None:
    if heldout_by not in get_args(HeldOutBy):
        raise unknown_name("data.heldout_by", heldout_by, get_args(HeldOutBy))
    if heldout_by == "caption" and not captions:
        raise UserError(
            "data.heldout_by=caption holds out whole captions, and of classes every one is trained; leave it out, or "
            "say that these are captions, data.captions=true"
        )


def _check_colour(background: str) -> None:
    from PIL import ImageColor

    try:
        ImageColor.getrgb(background)
    except ValueError as error:
        raise UserError(f"data.background is a colour such as white or '#f0f0f0', not '{background}'") from error


def _check_size(size: int) -> None:
    if not 8 <= size <= 4096:
        raise UserError(f"data.size is the side of a square image, 8 to 4096 pixels, not {size}")


@dataclass(frozen=True, kw_only=True, slots=True)
class MiniLmText:
    """all-MiniLM-L6-v2 from the installed package: 384 wide, no network."""

    kind: Literal["minilm"] = "minilm"
    template: str = TEMPLATE
    length: int | None = None
    """Tokens that every prompt is padded to; null: as many as the longest needs."""
    mask_padding: bool = True
    """Whether cross-attention is kept from seeing padding."""

    def __post_init__(self) -> None:
        _check_text(self.template, self.length)


@dataclass(frozen=True, kw_only=True, slots=True)
class HuggingFaceText:
    """Any Hugging Face text encoder's hidden states: CLIP-L's text tower (768 wide, 77 tokens), T5, Gemma-2-2B (2304
    wide), ..."""

    kind: Literal["huggingface"] = "huggingface"
    name: str
    """A folder, or a name on the hub; the encoder is identified by its files' content, not by this."""
    subfolder: str | None = None
    """Where in it the encoder lies: `text_encoder` in a diffusers pipeline's, whose tokenizer is in `tokenizer`."""
    template: str = TEMPLATE
    length: int | None = None
    mask_padding: bool = True
    hidden: Hidden = "last"
    """last: the last hidden states; penultimate: those before the last layer, which Stable Diffusion takes of CLIPs."""
    sees_padding: bool = False
    """Whether the encoder's own attention takes padding for tokens, as in Stable Diffusion's pipelines."""
    cut: bool = False
    """Cut prompts that are too long to their first tokens; else they are refused."""

    def __post_init__(self) -> None:
        _check_text(self.template, self.length)


@dataclass(frozen=True, kw_only=True, slots=True)
class EncoderConfig:
    """One of several text encoders: see `HuggingFaceText`."""

    name: str
    subfolder: str | None = None
    length: int
    """Tokens that its prompts are padded to."""
    join: Literal["tokens", "width"] = "tokens"
    """Where its embeddings stand: as more tokens behind those of the encoders before it, or token by token beside those
    of the one before it, as more of their width."""
    hidden: Hidden = "last"
    sees_padding: bool = False
    cut: bool = False
    pooled: bool = False
    """A CLIP's projected vector is kept too: of teachers that take one, for networks here take none."""

    def __post_init__(self) -> None:
        _check_length(self.length, "text.encoders")


@dataclass(frozen=True, kw_only=True, slots=True)
class SeveralText:
    """Several text encoders read each prompt, and their embeddings are joined: along tokens, filled up with zeros to
    the widest, or along width, to the longest. Stable Diffusion 3: CLIP-L, beside it CLIP-G, behind both T5."""

    kind: Literal["several"] = "several"
    encoders: tuple[EncoderConfig, ...]
    template: str = TEMPLATE
    mask_padding: bool = True

    def __post_init__(self) -> None:
        _check_text(self.template, None)
        if len(self.encoders) < 2:
            raise UserError(
                f"text=several joins two encoders or more, and text.encoders has {len(self.encoders)}; give "
                "'text.encoders=[{name: NAME, length: TOKENS}, {name: NAME, length: TOKENS}]', or text=huggingface"
            )
        if self.encoders[0].join == "width":
            raise UserError("text.encoders.0 has none before it that its width could stand beside; leave its join out")


@dataclass(frozen=True, kw_only=True, slots=True)
class ClassTableText:
    """No text: a class is one token, 1 at its place and 0 elsewhere, and no class is 1 at one place more."""

    kind: Literal["class_table"] = "class_table"


TextConfig: TypeAlias = MiniLmText | HuggingFaceText | SeveralText | ClassTableText


def _check_text(template: str, length: int | None) -> None:
    check_template(template, "text.template")
    _check_length(length, "text")


def check_template(template: str, setting: str) -> None:
    if template.count("{}") != 1 or template.replace("{}", "").count("{") or template.replace("{}", "").count("}"):
        raise UserError(f"{setting} needs one {{}} where the class name goes, not '{template}'")


def _check_length(length: int | None, where: str) -> None:
    if length is not None and length < 2:
        raise UserError(f"{where}.length is a number of tokens from 2, not {length}")
