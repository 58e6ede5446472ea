"""A network as a picture: its levels below each other, the way down on the left and the way up on the right, each block
a box, each kind of part of a transformer a tile; against another network, what was added, removed and changed.

The picture is SVG text without a script. On a page its colours are the page's variables, so that it is light, dark and
printed as the page is; a file of its own (`standalone`) brings them. Every box has a tooltip, `desc` says all in words.
"""

import html
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction

from harness.architecture.outline import Level, Node, NodeKind, Outline, Part, PartKind, Row
from harness.architecture.outline_edits import Edit, Edited, Mark

COLUMN, BETWEEN, PAD = 300, 64, 12
"""px: of the rows of one way, between down and up, around all."""
ROW, STEP, HEADER, APART = 24, 34, 26, 12
"""px: a box, from one row to the next, the line that names a level, between levels."""
BOX, TILE = 126, {"self_attention": 38, "cross_attention": 44, "feed_forward": 38}
TILE_GAP = 6
LETTER = 6.3  # px, of 12 px text, its letters' mean width
TILES: dict[PartKind, tuple[str, str]] = {
    "self_attention": ("self", "self-attention: positions attend to each other"),
    "cross_attention": ("cross", "cross-attention: here the prompt enters"),
    "feed_forward": ("FFN", "feed-forward"),
}
"""What a tile says, and what the legend says of it."""
BOXES: dict[NodeKind, str] = {
    "residual": "residual block of convolutions",
    "convolution": "convolution, norm",
    "downsample": "downsample: half the height and width",
    "upsample": "upsample: twice the height and width",
}
FRAMES: dict[NodeKind, NodeKind] = {"norm": "convolution", "linear": "convolution"}
"""Kinds of box that look like another."""
MARKS: dict[Mark, tuple[str, str]] = {
    "added": ("+", "added"),
    "removed": ("\u2212", "removed"),
    "changed": ("\u2260", "changed"),
}
COLOURS = {
    "paper": ("#fcfcfa", "#14171c"), "ink": ("#1d2330", "#dfe3ea"), "soft": ("#5b6474", "#98a1b1"),
    "line": ("#e3e6eb", "#2d343f"), "tint": ("#f2f4f7", "#1f242c"), "blue": ("#1f6fa8", "#6bb4e6"),
    "orange": ("#b85c00", "#f0a050"), "green": ("#0b7a5b", "#4fc9a0"), "red": ("#b42f2f", "#f08080"),
    "purple": ("#96487c", "#d99ac2"),
}  # fmt: skip
"""Light and dark, as in templates/style.css."""
STYLE = """
.network text { font: 12px ui-sans-serif, system-ui, "Segoe UI", Roboto, Arial, sans-serif; fill: $ink; }
.network .n-small { font-size: 11px; fill: $soft; } .network .n-level { fill: $tint; stroke: $line; }
.network .n-flow { stroke: $soft; fill: none; stroke-width: 1.2; } .network .n-head { fill: $soft; }
.network .n-skip { stroke: $soft; fill: none; stroke-width: 1.4; stroke-dasharray: 5 3; }
.network .n-box { fill: $paper; stroke: $soft; } .network .n-residual .n-box { stroke: $blue; }
.network .n-transformer > .n-box { stroke: none; fill: none; }
.network .n-downsample .n-box, .network .n-upsample .n-box { fill: $line; }
.network .n-fill { fill-opacity: 0.22; }
.network .n-self_attention > .n-fill { fill: $purple; stroke: $purple; }
.network .n-cross_attention > .n-fill { fill: $orange; stroke: $orange; }
.network .n-feed_forward > .n-fill { fill: $soft; stroke: $soft; }
.network .n-frame { fill: none; stroke-width: 2.4; } .network .n-badge { stroke: none; }
.network .n-sign { fill: $paper; font-weight: 700; font-size: 12px; text-anchor: middle; }
.network .m-added > .n-frame { stroke: $green; } .network .m-added > .n-badge { fill: $green; }
.network .m-changed > .n-frame { stroke: $blue; stroke-dasharray: 6 2; }
.network .m-changed > .n-badge { fill: $blue; }
.network .m-removed > .n-frame { stroke: $red; stroke-dasharray: 2 2; } .network .m-removed > .n-badge { fill: $red; }
.network .m-removed .n-box, .network .m-removed > .n-fill { opacity: 0.35; }
.network .m-removed .n-text { opacity: 0.6; text-decoration: line-through; }
"""


def page_style() -> str:
    """The style of all drawings of a page that has the variables of templates/style.css."""
    return _coloured(STYLE, {name: f"var(--{name})" for name in COLOURS})


def network_svg(
    edited: Edited, *, title: str, side: int | None = None, name: str = "network", standalone: bool = False
) -> str:
    """The picture, as one `svg` element.

    edited:     what is drawn: `unedited(outline(config))`, or `edited(outline(before), outline(after))`
    title:      what it is a picture of
    side:       height and width of the network's input; without it, levels are named by their share of it
    name:       tells its ids from those of other drawings of the page
    standalone: with its own colours and background, for a file
    """
    drawing = _Drawing(edited, side)
    width, height, body = drawing.drawn()
    style = f"<style>{_own_style()}</style>" if standalone else ""
    background = f'<rect class="n-paper" width="{width:g}" height="{height:g}"/>' if standalone else ""
    size = f'width="{width:g}" height="{height:g}" viewBox="0 0 {width:g} {height:g}"'
    ids = f"{html.escape(name)}-title", f"{html.escape(name)}-desc"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="network" {size} role="img" '
        f'aria-labelledby="{ids[0]} {ids[1]}">'
        f'<title id="{ids[0]}">{html.escape(title)}</title>'
        f'<desc id="{ids[1]}">{html.escape(in_words(edited, side))}</desc>{style}{background}{body}</svg>'
    )


def in_words(edited: Edited, side: int | None = None) -> str:
    """What the picture shows, level by level, for who does not see it."""
    outline = edited.outline
    sentences = [f"From a {outline.input} to a {outline.output}."]
    for level in outline.levels:
        ways = [("down", level.down), ("up", level.up)] if _has_way_up(outline) else [("in order", level.down)]
        parts = "; ".join(f"{way}: {_rows_in_words(edited, rows)}" for way, rows in ways if rows)
        sentences.append(f"{_size(level, side)}, {level.channels} channels: {parts}.")
    if outline.middle:
        sentences.append(f"Middle: {_rows_in_words(edited, outline.middle)}.")
    if outline.skips:
        sentences.append(f"{len(outline.skips)} skip connection{'s' if len(outline.skips) > 1 else ''}.")
    return " ".join(sentences)


def _rows_in_words(edited: Edited, rows: Sequence[Row]) -> str:
    return ", ".join(" with ".join(_node_in_words(edited, node) for node in row) for row in rows)


def _node_in_words(edited: Edited, node: Node) -> str:
    parts = [_told(TILES[part.kind][1].split(":")[0], edited.of(node, part)) for part in node.parts]
    layers = f"{node.layers} times " if node.layers > 1 else ""
    return _told(f"{node.title}{f' of {layers}' if parts else ''}{' and '.join(parts)}", edited.of(node))


def _told(text: str, edit: Edit) -> str:
    return text if edit.mark == "same" else f"{text} ({edit.mark})"


def _has_way_up(outline: Outline) -> bool:
    return any(level.up for level in outline.levels)


def _size(level: Level, side: int | None) -> str:
    """`64 × 64`, or without the input's side `1/2 of the input's height and width`."""
    if side is not None and (level.factor * side).denominator == 1:
        return f"{level.factor * side} × {level.factor * side}"
    return "as the input" if level.factor == 1 else f"{_share(level.factor)} of the input's height and width"


def _share(factor: Fraction) -> str:
    return f"{factor.numerator} times that" if factor.denominator == 1 else str(factor)


@dataclass(frozen=True, slots=True)
class _Spot:
    """Where a row was drawn."""

    left: float
    right: float
    middle: float  # its height


class _Drawing:
    """The pieces of one picture, from the top to the bottom."""

    def __init__(self, edited: Edited, side: int | None) -> None:
        self.edited, self.side, self.outline = edited, side, edited.outline
        self.both = _has_way_up(self.outline)
        inner = 2 * COLUMN + BETWEEN if self.both else COLUMN + 40
        self.left, self.width = PAD + 14.0, inner + 2 * PAD + 28.0
        self.right = self.left + COLUMN + BETWEEN
        self.named = self.left + BOX + 8  # the names of levels, beside the line that leads down
        self.pieces: list[str] = []
        self.lines: list[str] = []
        self.spots: dict[str, _Spot] = {}  # place -> its row's

    def drawn(self) -> tuple[float, float, str]:
        """Width, height, elements."""
        y = PAD + 14.0
        self._ends(y)
        y += 14
        for index, level in enumerate(self.outline.levels):
            y = self._level(index, level, y) + APART
        y = self._middle(y) if self.outline.middle else y
        if not self.both:
            self.pieces.append(_text(self.left, y + 4, f"\u2193 {self.outline.output}{self._if_changed()}", "n-small"))
            y += 16
        self._flow()
        self._skips()
        y = self._legend(y + 6)
        return self.width, y + PAD, "".join([*self.pieces, *self.lines])

    def _ends(self, y: float) -> None:
        """What goes in, and what comes out beside it where the way up ends."""
        self.pieces.append(_text(self.left, y, f"\u2193 {self.outline.input}{self._if_changed()}", "n-small"))
        if self.both:
            self.pieces.append(_text(self.right, y, f"\u2191 {self.outline.output}{self._if_changed()}", "n-small"))

    def _if_changed(self) -> str:
        return f" {MARKS['changed'][0]}" if self.edited.ends_changed else ""

    def _level(self, index: int, level: Level, y: float) -> float:
        """Its lower edge. The rows of both ways stand at the bottom, so that a skip joins two of one height."""
        rows = max(len(level.down), len(level.up))
        height = HEADER + rows * STEP + 4
        box = f'x="{PAD}" y="{y:g}" width="{self.width - 2 * PAD:g}" height="{height:g}" rx="8"'
        self.pieces.append(f'<rect class="n-level" data-level="{index}" {box}/>')
        channels = self.edited.levels.get(index) or f"{level.channels} channels"
        mark = f" {MARKS['changed'][0]}" if index in self.edited.levels else ""
        self.pieces.append(_text(self.named, y + 18, f"{_size(level, self.side)} \u00b7 {channels}{mark}", "n-name"))
        bottom = y + height - 4
        for number, row in enumerate(reversed(level.down)):
            self._row(row, self.left, bottom - (number + 1) * STEP + (STEP - ROW) / 2)
        for number, row in enumerate(level.up):
            self._row(row, self.right, bottom - (number + 1) * STEP + (STEP - ROW) / 2)
        return y + height

    def _middle(self, y: float) -> float:
        """One row behind the other, from the way down to the way up."""
        height = HEADER + STEP + 4
        box = f'x="{PAD}" y="{y:g}" width="{self.width - 2 * PAD:g}" height="{height:g}" rx="8"'
        self.pieces.append(f'<rect class="n-level" {box}/>')
        self.pieces.append(_text(self.named, y + 18, "middle", "n-name"))
        x = self.left
        for number, row in enumerate(self.outline.middle):
            last = number == len(self.outline.middle) - 1 and number > 0
            spot = self._row(row, max(x, self.right) if last else x, y + HEADER + (STEP - ROW) / 2)
            x = spot.right + 22
        return y + height + APART

    def _row(self, row: Row, x: float, y: float) -> _Spot:
        left = x
        for node in row:
            x = self._node(node, x, y) + 8
        spot = _Spot(left, x - 8, y + ROW / 2)
        self.spots |= {node.place: spot for node in row}
        return spot

    def _node(self, node: Node, x: float, y: float) -> float:
        """Its right edge."""
        edit = self.edited.of(node)
        tiles, tiled = self._tiles(node, x, y)
        wide = tiled or BOX
        kind = FRAMES.get(node.kind, node.kind)
        shape = _shape(kind, x, y, wide)
        label = "" if tiles else _text(x + wide / 2, y + 16, _label(node), "n-text", middle=True)
        whole = not tiles or edit.mark != "changed"  # of a transformer the number of layers bears the mark
        self.pieces.append(
            f'<g class="n-{kind} m-{edit.mark}" data-place="{html.escape(node.place)}" data-kind="{node.kind}" '
            f'data-layers="{node.layers}"><title>{html.escape(_hint(node, edit))}</title>'
            f"{shape}{''.join(tiles)}{label}{_frame(edit, x, y, wide) if whole else ''}</g>"
        )
        return x + wide

    def _tiles(self, node: Node, x: float, y: float) -> tuple[list[str], float]:
        """The parts of a transformer and how often they come; their width. Of another node none."""
        left, tiles, whole = x, [], self.edited.of(node)
        for part in node.parts:
            edit, wide = self.edited.of(node, part), TILE[part.kind]
            label = _text(x + wide / 2, y + 16, TILES[part.kind][0], "n-text", middle=True)
            own = Edit() if whole.mark in ("added", "removed") else edit  # one frame around all
            tiles.append(
                f'<g class="n-tile n-{part.kind} m-{edit.mark}" data-part="{part.kind}" data-layers="{node.layers}">'
                f"<title>{html.escape(_part_hint(node, part, edit))}</title>"
                f'<rect class="n-fill" x="{x:g}" y="{y:g}" width="{wide}" height="{ROW}" rx="4"/>{label}'
                f"{_frame(own, x, y, wide)}</g>"
            )
            x += wide + TILE_GAP
        if tiles and (node.layers > 1 or whole.mark == "changed"):
            times = f"\u00d7{node.layers}"
            tiles.append(_text(x + 2, y + 16, times, "n-text"))
            width = LETTER * len(times) + 6
            tiles.append(_frame(whole, x, y, width) if whole.mark == "changed" else "")
            x += width + TILE_GAP
        return tiles, x - left - TILE_GAP if tiles else 0.0

    def _flow(self) -> None:
        """From each row to the next; the rows of a way stand below each other, the middle's beside."""
        rows = [self.spots[row[0].place] for row in self.outline.rows()]
        middle = {row[0].place for row in self.outline.middle}
        for one, other, row in zip(rows, rows[1:], self.outline.rows()[1:], strict=False):
            self.lines.append(_arrow(one, other, beside=row[0].place in middle))

    def _skips(self) -> None:
        for source, target in self.outline.skips:
            self.lines.append(_skip(source, self.spots[source], target, self.spots[target]))

    def _legend(self, y: float) -> float:
        """What is drawn, and nothing else; its lower edge."""
        x, entries = float(PAD), list(_legend_entries(self.edited))
        for wide, draw, text in entries:
            needed = wide + 8 + LETTER * 0.93 * len(text) + 20
            if x > PAD and x + needed > self.width:
                x, y = float(PAD), y + 22
            self.pieces.append(f'<g class="n-key">{draw(x, y)}{_text(x + wide + 6, y + 13, text, "n-small")}</g>')
            x += needed
        return y + 18 if entries else y


Draw = Callable[[float, float], str]


def _legend_entries(edited: Edited) -> Iterator[tuple[float, Draw, str]]:
    """Width, drawing at (x, y), text of each thing that is drawn."""
    nodes = edited.outline.nodes().values()
    kinds = {FRAMES.get(node.kind, node.kind) for node in nodes if node.kind != "transformer"}
    for kind in BOXES:
        if kind in kinds:
            yield 26, _key_box(kind), BOXES[kind]
    drawn = {part.kind for node in nodes for part in node.parts}
    for part in TILES:
        if part in drawn:
            yield TILE[part], _key_tile(part), TILES[part][1]
    if any(node.layers > 1 for node in nodes):
        yield 18, lambda x, y: _text(x, y + 13, "\u00d72", "n-text"), "so many layers, each with these parts"
    if edited.outline.skips:
        yield 26, lambda x, y: f'<path class="n-skip" d="M{x:g} {y + 9:g}h26"/>', "skip connection"
    for mark in MARKS:
        if mark in edited.marks():
            yield 26, _key_mark(mark), MARKS[mark][1]


def _key_box(kind: NodeKind) -> Draw:
    return lambda x, y: f'<g class="n-{kind}">{_shape(kind, x, y, 26, 18)}</g>'


def _key_tile(part: PartKind) -> Draw:
    wide = TILE[part]
    return lambda x, y: (
        f'<g class="n-tile n-{part}"><rect class="n-fill" x="{x:g}" y="{y:g}" width="{wide}" height="18" rx="4"/>'
        f"{_text(x + wide / 2, y + 13, TILES[part][0], 'n-text', middle=True)}</g>"
    )


def _key_mark(mark: Mark) -> Draw:
    return lambda x, y: f'<g class="m-{mark}">{_frame(Edit(mark=mark), x, y + 1, 22, 16)}</g>'


def _label(node: Node) -> str:
    """What stands in a box."""
    if node.kind == "residual":
        return "separable residual" if "separable" in node.settings.get("convolution", "") else "residual"
    if node.kind in ("downsample", "upsample") and ", " in node.title:
        return f"{node.title.partition(', ')[2]} by 2"  # the shape says which way
    return {"convolution": "convolution", "norm": "norm, SiLU"}.get(node.title, node.title)


def _hint(node: Node, edit: Edit) -> str:
    lines = [f"{node.place}: {node.title}", *(f"{name}: {value}" for name, value in node.settings.items())]
    return "\n".join([*lines, *_changes(edit)])


def _part_hint(node: Node, part: Part, edit: Edit) -> str:
    each = f"{TILES[part.kind][1].split(':')[0]}, in each of {node.layers} layers" if node.layers > 1 else ""
    head = f"{node.place}: {each or TILES[part.kind][1].split(':')[0]}"
    return "\n".join([head, *(f"{name}: {value}" for name, value in part.settings.items()), *_changes(edit)])


def _changes(edit: Edit) -> Sequence[str]:
    return [] if edit.mark == "same" else [edit.mark, *edit.changes]


def _shape(kind: NodeKind, x: float, y: float, wide: float, high: float = ROW) -> str:
    """A box; of a layer that changes the size, one that narrows the way the map goes."""
    slant = 9.0 if wide > 60 else 5.0
    if kind in ("downsample", "upsample"):  # the way up goes up, and widens so
        return _polygon([(x, y), (x + wide, y), (x + wide - slant, y + high), (x + slant, y + high)])
    return f'<rect class="n-box" x="{x:g}" y="{y:g}" width="{wide:g}" height="{high:g}" rx="5"/>'


def _polygon(points: Sequence[tuple[float, float]]) -> str:
    return f'<polygon class="n-box" points="{" ".join(f"{x:g},{y:g}" for x, y in points)}"/>'


def _frame(edit: Edit, x: float, y: float, wide: float, high: float = ROW) -> str:
    """Around what an edit touched, with its sign, so that colour is not all that tells."""
    if edit.mark == "same":
        return ""
    sign = MARKS[edit.mark][0]
    around = f'x="{x - 1.5:g}" y="{y - 1.5:g}" width="{wide + 3:g}" height="{high + 3:g}" rx="6"'
    corner = f'cx="{x + wide:g}" cy="{y:g}" r="6.5"'
    return (
        f'<rect class="n-frame" {around}/><circle class="n-badge" {corner}/>'
        f'<text class="n-sign" x="{x + wide:g}" y="{y + 4:g}">{sign}</text>'
    )


def _arrow(one: _Spot, other: _Spot, *, beside: bool) -> str:
    """Down, up or aside, from one row to the next; `beside`: the next is in the middle."""
    half, x, target = ROW / 2, one.left + BOX / 2, other.left + BOX / 2
    if one.middle == other.middle and beside:
        end = other.left - 2
        return (
            f'<path class="n-flow" d="M{one.right + 2:g} {one.middle:g}H{end - 4:g}"/>{_head(end, one.middle, "right")}'
        )
    if one.middle == other.middle:  # below what joins the two
        start = one.middle + half
        return f'<path class="n-flow" d="M{x:g} {start:g}v8H{target:g}v-4"/>{_head(target, start, "up")}'
    if other.middle > one.middle:
        tip = other.middle - half
        return f'<path class="n-flow" d="M{x:g} {one.middle + half:g}V{tip - 4:g}"/>{_head(target, tip, "down")}'
    tip = other.middle + half
    begin = f"M{x:g} {one.middle - half:g}" if x == target else f"M{one.right + 2:g} {one.middle:g}H{target:g}"
    return f'<path class="n-flow" d="{begin}V{tip + 4:g}"/>{_head(target, tip, "up")}'


def _skip(source: str, one: _Spot, target: str, other: _Spot) -> str:
    x, end = one.right + 3, other.left - 3
    turn = (x + end) / 2
    curve = f"M{x:g} {one.middle:g}C{turn:g} {one.middle:g} {turn:g} {other.middle:g} {end:g} {other.middle:g}"
    words = f"skip from {html.escape(source)} to {html.escape(target)}"
    return f'<path class="n-skip" data-skip="{html.escape(source)}" d="{curve}"><title>{words}</title></path>'


def _head(x: float, y: float, way: str) -> str:
    """An arrow's, whose tip is (x, y)."""
    away = {"down": "-3.5 -5h7", "up": "-3.5 5h7", "right": "-5 -3.5v7"}[way]
    return f'<path class="n-head" d="M{x:g} {y:g}l{away}z"/>'


def _text(x: float, y: float, text: str, kind: str, *, middle: bool = False) -> str:
    anchor = ' text-anchor="middle"' if middle else ""
    return f'<text class="{kind}" x="{x:g}" y="{y:g}"{anchor}>{html.escape(text)}</text>'


def _own_style() -> str:
    light, dark = ({name: pair[index] for name, pair in COLOURS.items()} for index in (0, 1))
    style = STYLE + ".network .n-paper { fill: $paper; }\n"
    return f"{_coloured(style, light)}@media (prefers-color-scheme: dark) {{{_coloured(style, dark)}}}"


def _coloured(style: str, colours: dict[str, str]) -> str:
    for name, colour in colours.items():
        style = style.replace(f"${name}", colour)
    return style
