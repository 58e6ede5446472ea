"""The picture of a network: everything of its outline is in it, nothing else is in its legend, text stays text."""

import xml.etree.ElementTree as ElementTree

import pytest

from harness.architecture.catalogue import architecture, catalogue_names
from harness.architecture.edits import with_edits
from harness.architecture.outline_edits import edited, unedited
from harness.architecture.outlines import outline
from harness.cli import main
from harness.reporting.network_drawing import COLOURS, network_svg
from harness.reporting.page import TEMPLATES

SVG = "{http://www.w3.org/2000/svg}"


def parsed(svg):
    return ElementTree.fromstring(svg)


def keys(picture):
    """The texts of the legend."""
    return [group[-1].text for group in picture.iter(f"{SVG}g") if group.get("class") == "n-key"]


@pytest.mark.parametrize("name", catalogue_names())
def test_every_architecture_is_drawn_whole(name):
    drawn = outline(architecture(name))
    picture = parsed(network_svg(unedited(drawn), title=name, side=64))
    places = [group.get("data-place") for group in picture.iter(f"{SVG}g") if group.get("data-place")]
    assert sorted(places) == sorted(drawn.nodes())
    tiles = [group for group in picture.iter(f"{SVG}g") if group.get("data-part")]
    for kind in ("self_attention", "cross_attention", "feed_forward"):
        shown = sum(int(tile.get("data-layers")) for tile in tiles if tile.get("data-part") == kind)
        assert shown == drawn.parts(kind)
        assert (shown > 0) == any(text.startswith(kind.replace("_", "-")) for text in keys(picture))
    assert sum(path.get("data-skip") is not None for path in picture.iter(f"{SVG}path")) == len(drawn.skips)
    assert ("skip connection" in keys(picture)) == bool(drawn.skips)
    assert not {"added", "removed", "changed"} & set(keys(picture))


def test_all_is_inside_the_picture_and_no_box_lies_on_another():
    for name in catalogue_names():
        picture = parsed(network_svg(unedited(outline(architecture(name))), title=name))
        width, height = float(picture.get("width")), float(picture.get("height"))
        boxes = []
        for rect in picture.iter(f"{SVG}rect"):
            x, y, w, h = (float(rect.get(side)) for side in ("x", "y", "width", "height"))
            assert 0 <= x <= x + w <= width
            assert 0 <= y <= y + h <= height
            if rect.get("class") == "n-fill":
                boxes.append((x, y, x + w, y + h))
        for i, (left, top, right, bottom) in enumerate(boxes):
            assert not any(left < r and l < right and top < b and t < bottom for l, t, r, b in boxes[i + 1 :])  # noqa: E741


def test_marks_have_signs_and_the_legend_names_those_that_are_drawn():
    one, other = (outline(architecture(name)) for name in ("mqa", "first_stage_ca"))
    picture = parsed(network_svg(edited(one, other), title="an edit"))
    assert {"added", "removed"} <= set(keys(picture))
    assert "changed" not in keys(picture)
    signs = [text.text for text in picture.iter(f"{SVG}text") if text.get("class") == "n-sign"]
    assert set(signs) == {"+", "\u2212"}


def test_the_picture_is_told_in_words_too():
    base = architecture("laptop/thin_sdxl")
    fewer = edited(outline(base), outline(with_edits(base, {"stages.0.up_blocks": 1})))
    picture = parsed(network_svg(fewer, title="Fewer", side=8))
    assert picture.get("role") == "img"
    named = {element.get("id"): element.text for element in picture}
    title, words = (named[each] for each in picture.get("aria-labelledby").split())
    assert title == "Fewer"
    assert f"8 × 8, {base.stages[0].channels} channels: down: convolution, residual block" in words
    assert "(removed)" in words
    assert "skip connections" in words


def test_pixels_that_are_shuffled_are_said_in_box_words_and_hint():
    base = architecture("laptop/thin_sdxl")
    shuffled = with_edits(base, {"upsample": {"kind": "pixel_shuffle"}, "downsample": {"kind": "pixel_unshuffle"}})
    plain, drawn = (network_svg(unedited(outline(each)), title="", side=8) for each in (base, shuffled))
    assert "pixel" not in plain
    for text in (
        ">pixel shuffle by 2<",
        ">pixel unshuffle by 2<",
        "upsample by 2, pixel shuffle",
        "by: pixel_unshuffle",
    ):
        assert text in drawn, text
    edits = edited(outline(base), outline(shuffled))
    changes = {change for edit in edits.edits.values() for change in edit.changes}
    assert changes == {"by: nearest -> pixel_shuffle", "by: strided -> pixel_unshuffle"}


def test_text_stays_text():
    svg = network_svg(unedited(outline(architecture("laptop/dit"))), title='<script>"&', name='"><script>')
    assert "<script>" not in svg
    assert parsed(svg)[0].text == '<script>"&'


def test_its_own_colours_are_the_pages():
    style = (TEMPLATES / "style.css").read_text()
    light, dark = style.split("@media (prefers-color-scheme: dark)")[:2]
    for name, (of_light, of_dark) in COLOURS.items():
        assert f"--{name}: {of_light}" in light
        assert f"--{name}: {of_dark}" in dark
    alone = network_svg(unedited(outline(architecture("laptop/dit"))), title="DiT", standalone=True)
    assert "var(" not in alone
    assert "$" not in alone


def test_draw_writes_a_file_and_refuses_what_it_cannot_draw(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["draw", "laptop/thin_sdxl", "feed_forward.ratio=3", "--against", "laptop/thin_sdxl"]) == 0
    assert capsys.readouterr().out == "thin_sdxl.svg\n"
    assert "changed" in keys(parsed((tmp_path / "thin_sdxl.svg").read_text()))
    assert main(["draw", "laptop/dit", "--against", "laptop/thin_sdxl"]) == 2
    assert "of different families" in capsys.readouterr().err
    assert main(["draw", "laptop/dit", "--to", "dit.png"]) == 2
    assert "--to is FILE.svg" in capsys.readouterr().err
