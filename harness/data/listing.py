"""The one reader of folders: which files are images, what else lies there, and which class each image is of.

    ROOT/cat/1.png                    class folders; images lie in them at any depth
    ROOT/train/cat/1.png, ROOT/val/   a split that somebody made: train/, and val/ or test/, each of class folders

Folders that are links are followed, but not into themselves. What is not an image is counted, never passed over.
"""

import os
import stat
import unicodedata
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from harness.data.decode import extensions, why_not_read
from harness.records.errors import UserError
from harness.records.terminal import escaped

TRAIN_NAMES = ("train", "training")
HELDOUT_NAMES = ("val", "valid", "validation", "test", "testing")  # the first that is there is held out
HIDDEN = "hidden"
BESIDE = "they lie beside the class folders, in none of them"
LITTER = ("__MACOSX", "@eaDir", "Thumbs.db", "desktop.ini")  # of systems, like what begins with a dot


@dataclass(frozen=True, slots=True)
class Skipped:
    """Files that are left out for one reason."""

    what: str  # "30 .heic files"
    reason: str
    example: str

    def __str__(self) -> str:
        return f"{self.what}, e.g. {escaped(self.example)}: {self.reason}"


@dataclass(frozen=True, slots=True)
class Listing:
    """The files below a folder, by names relative to it with forward slashes."""

    images: list[str]  # sorted
    folders: list[str]  # directly in it, sorted
    skipped: list[Skipped]


@dataclass(frozen=True, slots=True)
class Layout:
    """Whose images are of which class, and who held which out."""

    root: Path
    classes: list[str]
    """The class folders' names, sorted."""
    parts: tuple[str, ...]
    """The folders that the class folders lie in: ("train", "val"), the second of which is held out, or ("",)."""
    images: list[str]
    """Relative to the root, part by part and sorted: "cat/1.png" or "train/cat/1.png"."""
    skipped: list[Skipped]

    @property
    def is_split(self) -> bool:
        return len(self.parts) == 2

    def class_of(self, image: str) -> str:
        return image.split("/")[1 if self.is_split else 0]

    def is_heldout(self, image: str) -> bool:
        return self.is_split and image.startswith(f"{self.parts[1]}/")


def list_images(root: Path) -> Listing:
    """All that lies below `root`; UserError if that is no folder that can be read."""
    return list_files(root, extensions(), why_not_read)


def list_files(root: Path, wanted: Collection[str], why_not: Callable[[str], str]) -> Listing:
    """`list_images`, of files with the wanted extensions, in lower case, as its images; `why_not` says of another
    extension why its files are left out."""
    try:
        with os.scandir(root) as entries:
            folders = sorted(entry.name for entry in entries if not _is_hidden(entry.name) and _is_folder(entry))
    except OSError as error:
        raise UserError(f"{root} is not a folder that can be read: {error.strerror or error}") from error
    images: list[str] = []
    others: dict[tuple[str, str], list[str]] = {}  # (extension, reason) -> names
    for name, reason in _walk(root, "", (), lambda extension: "" if extension in wanted else why_not(extension)):
        if not reason:
            images.append(name)
        else:
            others.setdefault((_kind(name, reason), reason), []).append(name)
    skipped = [Skipped(_counted(len(names), kind), reason, min(names)) for (kind, reason), names in others.items()]
    return Listing(sorted(images), folders, sorted(skipped, key=lambda each: (each.reason, each.what)))


def layout_of(root: Path, named: Callable[[Sequence[str]], Collection[str]] = lambda _: ()) -> Layout:
    """The classes in `root`; a layout that would have to be guessed is a UserError that says where to look.

    `named` says which of the folders a names file calls classes.
    """
    listing = _listed(root)
    train, heldout = (_first_of(names, listing.folders) for names in (TRAIN_NAMES, HELDOUT_NAMES))
    if set(listing.folders) <= set(named(listing.folders)):
        return _of_classes(root, listing, deep=True)
    if train is not None and heldout is not None:
        return _of_split(root, listing, train, heldout)
    split = train or heldout
    only_splits = {folder.lower() for folder in listing.folders} <= {*TRAIN_NAMES, *HELDOUT_NAMES}
    if split is not None and (only_splits or _without_direct(listing.images, [split])):
        raise UserError(
            f"{root} holds splits ({split}), not classes: put train/ beside val/ or test/, or give one of them, "
            f"data.path={root / split}, and the held-out part is cut from it"
        )
    return _of_classes(root, listing)


def prompt_name(folder: str) -> str:
    """A class folder's name as a prompt says it: `hot_dog` is "hot dog"."""
    return " ".join(unicodedata.normalize("NFC", folder).replace("_", " ").split())


def _listed(root: Path) -> Listing:
    try:
        listing = list_images(root)
    except UserError as error:
        raise UserError(f"data.path must be a folder of class folders; {error}") from error
    if not listing.folders:
        raise UserError(f"{root} has no class folders; put each class's images into a folder named after the class")
    return listing


def _of_classes(root: Path, listing: Listing, *, deep: bool = False) -> Layout:
    inside = [name for name in listing.images if "/" in name]
    if inside and not deep and _without_direct(inside, listing.folders):
        raise _one_level_deeper(root, listing.folders, inside)
    beside = left_out(listing.images, set(inside), BESIDE)
    return Layout(root, listing.folders, ("",), inside, [*listing.skipped, *beside])


def _of_split(root: Path, listing: Listing, train: str, heldout: str) -> Layout:
    images: list[str] = []
    classes: list[list[str]] = []
    for part in (train, heldout):
        of_part = [name for name in listing.images if name.startswith(f"{part}/")]
        in_folders = [name for name in of_part if name.count("/") > 1]
        folders = sorted({name.split("/")[1] for name in in_folders})
        if not folders or all(name.count("/") > 2 for name in in_folders):
            raise UserError(
                f"{root}/{part} has no class folders of images, but {train}/ beside {heldout}/ is a split; put each "
                "class's images into a folder of its own in both, or give the path of another folder"
            )
        images += in_folders
        classes.append(folders)
    if new := sorted(set(classes[1]) - set(classes[0])):
        raise UserError(
            f"{root}/{heldout} has a class '{escaped(new[0])}' that {root}/{train} lacks; add it or move it away"
        )
    reason = f"only {train}/ is trained on and {heldout}/ held out, by their class folders"
    return Layout(
        root, classes[0], (train, heldout), images, [*listing.skipped, *left_out(listing.images, set(images), reason)]
    )


def left_out(files: Sequence[str], used: Collection[str], reason: str, kind: str = "image") -> list[Skipped]:
    """The files of a kind that are not used, for a reason; none if all are."""
    names = [name for name in files if name not in used]
    return [Skipped(_counted(len(names), kind), reason, names[0])] if names else []


def _without_direct(images: Sequence[str], folders: Collection[str]) -> bool:
    """Whether the folders hold images, but none of them directly."""
    inside = [name for name in images if name.split("/")[0] in folders]
    return bool(inside) and all(name.count("/") > 1 for name in inside)


def _one_level_deeper(root: Path, folders: Sequence[str], images: Sequence[str]) -> UserError:
    common = PurePosixPath(os.path.commonpath([str(PurePosixPath(name).parent) for name in images]))
    if any(str(PurePosixPath(name).parent) == str(common) for name in images):
        common = common.parent  # one class alone
    below = sorted({name.split("/")[len(common.parts)] for name in images})
    if common.parts:
        advice = f"give data.path={root / common}, whose folders are {_first_three(below)}"
    else:
        advice = f"give one of them, e.g. data.path={root / below[0]}, or put all class folders side by side"
    return UserError(
        f"all images in {root} lie one level deeper than class folders: not in {_first_three(folders)}, but in folders "
        f"there; {advice}; if {_first_three(folders)} is meant as a class, say so in a names file, data.names=FILE"
    )


def _first_three(folders: Sequence[str]) -> str:
    return ", ".join(f"'{escaped(name)}'" for name in folders[:3]) + (", ..." if len(folders) > 3 else "")


def _first_of(names: Sequence[str], folders: Sequence[str]) -> str | None:
    return next((folder for name in names for folder in folders if folder.lower() == name), None)


def _walk(
    root: Path, below: str, above: tuple[tuple[int, int], ...], why_not: Callable[[str], str]
) -> Iterator[tuple[str, str]]:
    """Every file under root/below, by its name relative to root, and why it is none that is wanted: "" if it is one.

    `above` are the folders on the way, so that a link into one of them ends there; `why_not` takes an extension.
    """
    try:
        here = (root / below).stat()
        if (here.st_dev, here.st_ino) in above:
            yield below, "a link to a folder that it lies in"
            return
        with os.scandir(root / below) as scanned:
            entries = list(scanned)
    except OSError as error:
        yield below, f"a folder that cannot be read ({error.strerror or error})"
        return
    for entry in entries:
        name = f"{below}/{entry.name}" if below else entry.name
        if not _is_hidden(entry.name) and _is_folder(entry):
            yield from _walk(root, name, (*above, (here.st_dev, here.st_ino)), why_not)
        else:
            yield name, _why_skipped(entry, why_not)


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name in LITTER


def _is_folder(entry: "os.DirEntry[str]") -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link into itself
        return False


def _why_skipped(entry: "os.DirEntry[str]", why_not: Callable[[str], str]) -> str:
    if _is_hidden(entry.name):
        return HIDDEN
    if any(0xDC80 <= ord(c) <= 0xDCFF for c in entry.name):  # how Python holds bytes that are not UTF-8
        return "its name is not UTF-8"
    reason = why_not(PurePosixPath(entry.name).suffix.lower())
    try:
        if not stat.S_ISREG(entry.stat().st_mode):
            return "not a regular file"
    except OSError:
        return "a link that leads nowhere" if reason else ""  # why an image cannot be read is said of it by name
    return reason


def _kind(name: str, reason: str) -> str:
    """What files of one reason are counted as: by their extension where it is the reason."""
    if "folder" in reason:
        return "folder"
    extension = PurePosixPath(name).suffix.lower()
    return "entry" if reason == HIDDEN else f"{extension} file" if extension else "file without extension"


def _counted(count: int, kind: str) -> str:
    plural = {"entry": "entries", "file without extension": "files without extension"}.get(kind, f"{kind}s")
    return f"{count:,} {kind if count == 1 else plural}"
