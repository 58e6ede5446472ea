"""Which images to learn from: `digits`, `fashion_mnist` or `image_folder`."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeAlias

from harness.records.errors import UserError
from harness.records.plain import NOT_IDENTITY

Color = Literal["auto", "grayscale", "rgb"]


@dataclass(frozen=True, kw_only=True, slots=True)
class DigitsConfig:
    """scikit-learn's handwritten digits: 1,797 images of 8x8, inside the wheel."""

    kind: Literal["digits"] = "digits"


@dataclass(frozen=True, kw_only=True, slots=True)
class FashionMnistConfig:
    """Fashion-MNIST: 70,000 grayscale images of clothes, 28x28; the 10,000 test images are held out."""

    kind: Literal["fashion_mnist"] = "fashion_mnist"
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
    """Any folder of class folders of images; each is resized (short side) and centre-cropped to `size`."""

    kind: Literal["image_folder"] = "image_folder"
    path: Path | None = field(default=None, metadata=NOT_IDENTITY)
    size: int = 32
    color: Color = "auto"
    """auto: one channel if every image is stored in grayscale, else three."""
    heldout: float = 0.2
    """The fraction of images held out, chosen by a hash of the file's bytes: adding a file moves no other, and copies
    of a file are in one part."""
    names: Path | None = field(default=None, metadata=NOT_IDENTITY)
    """A text file of lines `FOLDER NAME`, e.g. `n01440764 tench`; null: the folders' own names."""

    def __post_init__(self) -> None:
        _check_size(self.size)
        if not 0 < self.heldout < 1:
            raise UserError(f"data.heldout is a fraction between 0 and 1, not {self.heldout}")


DataConfig: TypeAlias = DigitsConfig | FashionMnistConfig | ImageFolderConfig


def _check_size(size: int) -> None:
    if not 8 <= size <= 4096:
        raise UserError(f"data.size is the side of a square image, 8 to 4096 pixels, not {size}")
