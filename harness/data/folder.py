"""A folder of images as a data set: class names, the split, pixels in memory or left in their files."""

import hashlib
import io
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from harness.data.config import ImageFolderConfig
from harness.data.crop import TRANSFORMS
from harness.data.images import ArrayImages, FileImages, ImageData, Images
from harness.data.index import Entry, by_threads, index_images
from harness.data.listing import Layout, layout_of
from harness.data.names import class_names, named_folders
from harness.records.errors import UserError
from harness.records.plain import fingerprint
from harness.records.store import reading_cache, write_atomic
from harness.records.terminal import escaped

HELDOUT = 0.2  # the fraction, where neither the setting nor the folder says
MIN_PER_CLASS = 4
IN_MEMORY_BYTES = 2**29  # decoded pixels up to here are kept as arrays, more stay in their files
NEARLY_BLACK = 2**12  # a file of 16 bits whose values all lie below has 16 levels of brightness left


@dataclass(frozen=True, kw_only=True, slots=True)
class _Folder:
    """A folder whose files have been read."""

    config: ImageFolderConfig
    layout: Layout
    entries: Sequence[Entry]
    readable: Sequence[Entry]
    """The images, in the order of their content: whatever chooses some of them by place, such as a score's reference,
    chooses the same pictures under any names. Where one picture lies in a class twice, the two are alike."""

    @property
    def heldout(self) -> NDArray[np.bool_]:
        """Which of the readable images are held out."""
        fraction = self.config.heldout or HELDOUT
        return np.array([
            self.layout.is_heldout(entry.name) if self.layout.is_split else is_heldout(entry.digest, fraction)
            for entry in self.readable
        ], bool)  # fmt: skip


def load_folder(config: ImageFolderConfig, cache: Path | None) -> ImageData:
    """The data set in `config.path`; what is left out of it is said in `.unreadable`, `.left_out` and `.remarks`."""
    root = config.path
    if root is None:
        raise UserError("image_folder needs a folder of class folders; give data.path=FOLDER")
    file = config.names
    layout = layout_of(root) if file is None else layout_of(root, lambda folders: named_folders(file, folders))
    names = class_names(layout.classes, file)
    if layout.is_split and config.heldout is not None:
        raise UserError(
            f"{root} holds its own held-out part, {layout.parts[1]}/: leave data.heldout={config.heldout} out, "
            f"or give data.path={root / layout.parts[0]} to have it cut from {layout.parts[0]}/"
        )
    entries = index_images(root, layout.images, config.bits, cache)
    readable = [entry for entry in entries if not entry.problem]
    readable.sort(key=lambda entry: (entry.digest, layout.class_of(entry.name), layout.is_heldout(entry.name)))
    folder = _Folder(config=config, layout=layout, entries=entries, readable=readable)
    _check_counts(folder)
    peaks = [entry.peak for entry in folder.readable]
    check_bits(root, peaks, config.bits, can_be_given=config.crop == "centre")
    return _image_data(root, folder, names, cache)


def _image_data(root: Path, folder: _Folder, names: tuple[str, ...], cache: Path | None) -> ImageData:
    config, layout, readable = folder.config, folder.layout, folder.readable
    class_index = {name: index for index, name in enumerate(layout.classes)}
    labels = np.array([class_index[layout.class_of(entry.name)] for entry in readable], np.int64)
    channels = _channels(config, readable)
    images = FileImages(
        root, [entry.name for entry in readable], labels, config.size, channels, config.bits, config.crop
    )
    identity = _fingerprint(folder, names, channels)
    train, heldout = _split(images, folder.heldout, identity, cache)
    return ImageData(
        kind=config.kind,
        channels=channels,
        size=config.size,
        class_names=names,
        crop=config.crop,
        class_folders=tuple(layout.classes),
        train=train,
        heldout=heldout,
        fingerprint=identity,
        unreadable=tuple(f"{escaped(entry.name)}: {entry.problem}" for entry in folder.entries if entry.problem),
        left_out=tuple(layout.skipped),
        remarks=tuple(_remarks(folder)),
    )


def is_heldout(digest: str, fraction: float) -> bool:
    """A property of the file's bytes alone: no other file can change it, and a copy under another name is in the same
    part."""
    return int(digest[:8], 16) < fraction * 2**32


def caption_is_heldout(caption: str, fraction: float) -> bool:
    """A property of the caption alone: all its pictures, of whatever source and size, are in the same part."""
    return is_heldout(hashlib.sha256(caption.encode()).hexdigest(), fraction)


def _check_counts(folder: _Folder) -> None:
    layout, readable, heldout = folder.layout, folder.readable, folder.heldout
    root = layout.root
    counts = Counter(layout.class_of(entry.name) for entry in readable)
    trained = {layout.class_of(entry.name) for entry, out in zip(readable, heldout, strict=True) if not out}
    for name in layout.classes:
        if counts[name] < MIN_PER_CLASS:
            raise UserError(
                f"class folder '{escaped(name)}' in {root} has {counts[name]} readable "
                f"{'image' if counts[name] == 1 else 'images'}{_why_few(folder, name)}, "
                f"but a class needs at least {MIN_PER_CLASS}; add images or move the folder away"
            )
        if name not in trained:
            remedy = "add images" if layout.is_split else f"add images or lower data.heldout, now {_fraction(folder)}"
            where = f"all {counts[name]} images of class folder '{escaped(name)}' in {root}"
            raise UserError(f"{where} fall into the held-out part; {remedy}")
    if heldout.sum() < 2:
        remedy = "add images" if layout.is_split else f"add images or raise data.heldout, now {_fraction(folder)}"
        raise UserError(
            f"{root} leaves {heldout.sum()} of {len(heldout)} images for the held-out part, which needs at least 2; "
            f"{remedy}"
        )


def _fraction(folder: _Folder) -> float:
    return folder.config.heldout or HELDOUT


def _why_few(folder: _Folder, name: str) -> str:
    """What else lies in the class folder, in brackets."""
    layout = folder.layout
    problems = [entry for entry in folder.entries if entry.problem and layout.class_of(entry.name) == name]
    reasons = (
        [f"{len(problems)} cannot be read, e.g. {escaped(problems[0].name)}: {problems[0].problem}"] if problems else []
    )
    prefixes = tuple(f"{part}/{name}/".lstrip("/") for part in layout.parts)
    reasons += [str(each) for each in layout.skipped if each.example.startswith(prefixes)]
    return f" ({'; '.join(reasons)})" if reasons else ""


def check_bits(root: Path, peaks: Sequence[int], bits: int | None, *, can_be_given: bool) -> None:
    """Refuse files of 16 bits a value that do not use them: by their upper 8 bits they would be nearly black.

    `peaks` are the largest value of each file, 0 for one of 8 bits; `can_be_given` says whether data.bits can be.
    """
    deep = [peak for peak in peaks if peak]
    if not deep or bits is not None or max(deep) >= 2**15:
        return
    used = max(8, max(deep).bit_length())
    setting = f"give data.bits={used}, or data.bits=16 if they are meant to be so dark; " if can_be_given else ""
    raise UserError(
        f"the {len(deep)} images of 16 bits a value in {root} hold none above {max(deep)}, so they use {used} bits and "
        f"would be read as nearly black: {setting}{'colour images are to be converted' if setting else 'convert them'} "
        "to 8 bits"
    )


def _remarks(folder: _Folder) -> list[str]:
    """What is read otherwise than a user may think."""
    readable, layout, bits = folder.readable, folder.layout, folder.config.bits or 16
    several = [entry for entry in readable if entry.frames > 1]
    dark = [entry for entry in readable if 0 < entry.peak < NEARLY_BLACK and bits == 16]
    trained = {entry.digest for entry in readable if layout.is_split and not layout.is_heldout(entry.name)}
    classes: dict[str, set[str]] = {}
    for entry in readable:
        classes.setdefault(entry.digest, set()).add(layout.class_of(entry.name))
    twice = [entry for entry in readable if len(classes[entry.digest]) > 1]
    leaked = [entry for entry in readable if layout.is_heldout(entry.name) and entry.digest in trained]
    return [
        *_counted(several, "have several frames, of which the first is taken"),
        *_counted(dark, "have 16 bits but small values, and are nearly black"),
        *_counted(leaked, "lie in both parts: what is trained on is held out too"),
        *_counted(twice, "lie in several classes, of which no network can tell which is meant"),
        *(_folders_in_classes(layout) if folder.config.names is None else ()),
        *_never_held_out(folder),
    ]


def _folders_in_classes(layout: Layout) -> list[str]:
    """A class that holds nothing but folders, where others hold images: its folders may have been meant as classes."""
    depth = 2 if layout.is_split else 1
    direct = {layout.class_of(name) for name in layout.images if name.count("/") == depth}
    inside = {layout.class_of(name): name for name in reversed(layout.images) if layout.class_of(name) not in direct}
    return [
        f"all images of class '{escaped(each)}' lie in folders, which are no classes, e.g. {escaped(inside[each])}"
        for each in sorted(inside)
        if direct
    ]


def _never_held_out(folder: _Folder) -> list[str]:
    """Of a split that somebody made: the classes that only one part has."""
    layout = folder.layout
    held = {layout.class_of(entry.name) for entry, out in zip(folder.readable, folder.heldout, strict=True) if out}
    lacking = [escaped(name) for name in layout.classes if layout.is_split and name not in held]
    return [f"classes without a held-out image: {len(lacking):,}, e.g. {lacking[0]}"] if lacking else []


def _counted(entries: Sequence[Entry], what: str) -> list[str]:
    first = min((entry.name for entry in entries), default="")
    return [f"images that {what}: {len(entries):,}, e.g. {escaped(first)}"] if entries else []


def _channels(config: ImageFolderConfig, readable: Sequence[Entry]) -> int:
    if config.color == "auto" and config.crop == "centre":
        return 1 if all(entry.grayscale for entry in readable) else 3
    return 1 if config.color == "grayscale" else 3


def _fingerprint(folder: _Folder, names: Sequence[str], channels: int) -> str:
    config, readable = folder.config, folder.readable
    heldout = list(folder.layout.parts) if folder.layout.is_split else _fraction(folder)
    transform = [TRANSFORMS[config.crop], channels, config.size, heldout]
    if config.bits is not None and any(entry.peak for entry in readable):
        transform.append(config.bits)
    layout = folder.layout
    content = [[entry.digest, layout.class_of(entry.name), layout.is_heldout(entry.name)] for entry in readable]
    return fingerprint([config.kind, list(names), transform, content], schema="data-3")


def _split(images: FileImages, heldout: NDArray[np.bool_], identity: str, cache: Path | None) -> tuple[Images, Images]:
    train, heldout_numbers = np.flatnonzero(~heldout), np.flatnonzero(heldout)
    if len(images) * images.channels * images.size**2 > IN_MEMORY_BYTES:
        return images.subset(train), images.subset(heldout_numbers)
    pixels, labels = _pixels(images, identity, cache), images.labels
    return ArrayImages(pixels[train], labels[train]), ArrayImages(pixels[heldout_numbers], labels[heldout_numbers])


def _pixels(images: FileImages, identity: str, cache: Path | None) -> NDArray[np.uint8]:
    """(N, C, H, W), decoded once and cached under the content's fingerprint."""
    path = cache / "pixels" / f"{identity}.npy" if cache is not None else None
    if path is not None and path.exists():
        with reading_cache(path):
            stored: NDArray[np.uint8] = np.load(path)
            return stored
    with by_threads(images.array, range(len(images)), f"resizing the images in {images.root}") as arrays:
        pixels = np.stack(list(arrays))
    if path is not None:
        buffer = io.BytesIO()
        np.save(buffer, pixels)
        write_atomic(path, buffer.getvalue())
    return pixels
