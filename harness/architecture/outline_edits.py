"""Where two networks differ, place by place: both outlines as one, each place with what became of it."""

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from itertools import zip_longest
from typing import Literal, TypeVar

from harness.architecture.outline import Level, Node, NodeKind, Outline, Part, Row, Settings

Mark = Literal["same", "added", "removed", "changed"]
Key = tuple[str, NodeKind, str]
"""Place and kind of a node, and of its part the kind: a block of another kind is another block."""
FOLLOWS = ("channels", "heads", "key-value heads", "hidden width")
"""Settings that follow from the width of a level, which is marked there, and from other settings."""
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True, slots=True)
class Edit:
    """What became of a place, or of a part of it."""

    mark: Mark = "same"
    changes: tuple[str, ...] = ()
    """`convolution: regular, 3 x 3 -> separable, 3 x 3`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Edited:
    """An outline in which what was removed still stands where it stood."""

    outline: Outline
    edits: Mapping[Key, Edit]
    """What became of a node, or of a part of it; the same, where it is not there."""
    levels: Mapping[int, str]
    """By number of the level: how its width changed."""
    ends_changed: bool = False
    """Whether what goes in or comes out has other channels."""

    def of(self, node: Node, part: Part | None = None) -> Edit:
        return self.edits.get((node.place, node.kind, part.kind if part else ""), SAME)

    def marks(self) -> set[Mark]:
        """Those that a drawing shows; "same" is none."""
        marks: set[Mark] = {edit.mark for edit in self.edits.values() if edit.mark != "same"}
        return marks | {"changed"} if self.levels or self.ends_changed else marks


SAME = Edit()


def unedited(outline: Outline) -> Edited:
    return Edited(outline=outline, edits={}, levels={})


def edited(before: Outline, after: Outline) -> Edited:
    """`after`, with what it does not have any more of `before`."""
    levels = tuple(_level(one, other) for one, other in zip_longest(before.levels, after.levels))
    merged = Outline(
        levels=levels,
        middle=_rows(before.middle, after.middle),
        skips=after.skips,
        input=_end(before.input, after.input),
        output=_end(before.output, after.output),
    )
    old, new = _by_kind(before), _by_kind(after)
    edits = {key: edit for each in _by_kind(merged) for key, edit in _edits(each, old.get(each), new.get(each))}
    widths = {
        index: f"{one.channels} to {other.channels} channels"
        for index, (one, other) in enumerate(zip(before.levels, after.levels, strict=False))
        if one.channels != other.channels
    }
    ends = (before.input, before.output) != (after.input, after.output)
    return Edited(outline=merged, edits=edits, levels=widths, ends_changed=ends)


def _end(before: str, after: str) -> str:
    return after if before == after else f"{before} -> {after}"


def _level(before: Level | None, after: Level | None) -> Level:
    level = after or before
    assert level is not None  # zip_longest has one of them
    one, other = before or level, after or level
    if after is None or before is None:
        return level
    return Level(
        factor=other.factor, channels=other.channels, down=_rows(one.down, other.down), up=_rows(one.up, other.up)
    )


def _rows(before: Sequence[Row], after: Sequence[Row]) -> tuple[Row, ...]:
    pairs = _united(before, after, lambda row: row[0].place)
    return tuple(tuple(_nodes(one, other)) for one, other in pairs)


def _nodes(before: Row | None, after: Row | None) -> Iterator[Node]:
    for one, other in _united(before or (), after or (), lambda node: (node.place, node.kind)):
        node = other or one
        assert node is not None
        gone = [part for part in one.parts if part.kind not in _kinds(other)] if one and other else []
        yield node if not gone else _with_parts(node, gone)


def _with_parts(node: Node, gone: Sequence[Part]) -> Node:
    """With parts that it has no more, in the order in which layers have them."""
    order = ("self_attention", "cross_attention", "feed_forward")
    parts = sorted((*node.parts, *gone), key=lambda part: order.index(part.kind))
    return Node(
        place=node.place, kind=node.kind, title=node.title, settings=node.settings, parts=tuple(parts),
        layers=node.layers,
    )  # fmt: skip


def _united(
    before: Sequence[T], after: Sequence[T], key: Callable[[T], Hashable]
) -> Iterator[tuple[T | None, T | None]]:
    """Pairs of what both have, and what one has alone, in the order of both."""
    keys = [key(item) for item in before], [key(item) for item in after]
    for what, i, k, j, m in SequenceMatcher(a=keys[0], b=keys[1], autojunk=False).get_opcodes():
        if what == "equal":
            yield from zip(before[i:k], after[j:m], strict=True)
        else:
            yield from ((item, None) for item in before[i:k])
            yield from ((None, item) for item in after[j:m])


def _by_kind(outline: Outline) -> dict[tuple[str, NodeKind], Node]:
    return {(node.place, node.kind): node for row in outline.rows() for node in row}


def _edits(name: tuple[str, NodeKind], before: Node | None, after: Node | None) -> Iterator[tuple[Key, Edit]]:
    node = after or before
    assert node is not None
    if before is None or after is None:
        mark: Mark = "added" if before is None else "removed"
        yield (*name, ""), Edit(mark=mark)
        yield from (((*name, part.kind), Edit(mark=mark)) for part in node.parts)
        return
    yield (*name, ""), _changed(_changes(before.settings, after.settings))
    old, new = ({part.kind: part for part in each.parts} for each in (before, after))
    for kind in dict.fromkeys((*old, *new)):
        if kind not in old or kind not in new:
            yield (*name, kind), Edit(mark="added" if kind in new else "removed")
        else:
            yield (*name, kind), _changed(_changes(old[kind].settings, new[kind].settings))


def _changed(changes: Sequence[str]) -> Edit:
    return Edit(mark="changed", changes=tuple(changes)) if changes else SAME


def _changes(before: Settings, after: Settings) -> list[str]:
    names = dict.fromkeys((*before, *after))
    return [
        f"{name}: {before.get(name, 'none')} -> {after.get(name, 'none')}"
        for name in names
        if name not in FOLLOWS and before.get(name) != after.get(name)
    ]


def _kinds(node: Node | None) -> set[str]:
    return {part.kind for part in node.parts} if node else set()
