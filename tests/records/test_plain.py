"""Plain values: strict in, canonical out, and sentences that name the path of what is wrong."""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.records.errors import UserError, unknown_name
from harness.records.plain import (
    IDENTITY_UNLESS_DEFAULT,
    NOT_IDENTITY,
    canonical_json,
    fingerprint,
    from_plain,
    identity,
    to_plain,
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Round:
    radius: float
    kind: Literal["round"] = "round"


@dataclass(frozen=True, kw_only=True, slots=True)
class Square:
    side: int
    kind: Literal["square"] = "square"


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    shape: Round | Square
    sizes: tuple[int, ...] = (1, 2)
    pair: tuple[int, str] = (1, "a")
    mode: Literal["fast", "slow", 1] = "fast"
    rate: float = 0.1
    on: bool = True
    limit: int | None = None
    folder: Path = field(default=Path("here"), metadata=NOT_IDENTITY)
    workers: int = field(default=1, metadata=NOT_IDENTITY)
    newer: str | None = field(default=None, metadata=IDENTITY_UNLESS_DEFAULT)
    named: Mapping[str, Round] = field(default_factory=dict)


PLAIN: dict[str, Any] = {
    "shape": {"kind": "square", "side": 3},
    "sizes": [4, 5, 6],
    "pair": [7, "b"],
    "mode": "slow",
    "rate": 2,
    "limit": 9,
    "folder": "/x",
    "named": {"a": {"radius": 1.5}},
}


def test_there_and_back() -> None:
    settings = from_plain(Settings, PLAIN)
    assert settings.shape == Square(side=3)
    assert settings.named == {"a": Round(radius=1.5)}
    assert (settings.sizes, settings.rate, settings.folder) == ((4, 5, 6), 2.0, Path("/x"))
    assert from_plain(Settings, json.loads(json.dumps(to_plain(settings)))) == settings


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (
            {"shape": {"kind": "sqare", "side": 3}},
            "unknown value for 's.shape.kind': 'sqare'; choose one of: square, round",
        ),
        ({"shape": {"kind": "square", "sidde": 3}}, "unknown setting 's.shape.sidde'; choose one of: s.shape.side, "),
        ({"shape": {"kind": "square"}}, "missing setting 's.shape.side', which has no default; give it a value"),
        ({"shape": "square"}, "'s.shape' must be a mapping of settings, not 'square'"),
        ({"shape": None}, "'s.shape' must be a value, not null"),
        ({"sizes": [1, "2"]}, "'s.sizes.1' must be a whole number, not '2'"),
        ({"sizes": 4}, "'s.sizes' must be a list, not 4; write [4]"),
        ({"pair": [1]}, "'s.pair' must be a list of 2 values, not [1]"),
        ({"mode": "fsat"}, "unknown value for 's.mode': 'fsat'; choose one of: fast, "),
        ({"mode": True}, "unknown value for 's.mode': 'True'"),
        ({"rate": "high"}, "'s.rate' must be a number, not 'high'"),
        ({"rate": True}, "'s.rate' must be a number, not true"),
        ({"limit": 1.5}, "'s.limit' must be a whole number, not 1.5"),
        ({"on": 1}, "'s.on' must be true or false, not 1"),
        ({"named": {"a": {"radius": "x"}}}, "'s.named.a.radius' must be a number, not 'x'"),
        ({"named": [1]}, "'s.named' must be a mapping, not [1]"),
    ],
)
def test_what_is_wrong_is_named_by_its_path_in_one_sentence(change: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UserError) as error:
        from_plain(Settings, {**PLAIN, **change}, where="s")
    assert str(error.value).startswith(sentence)
    assert "\n" not in str(error.value)


def test_a_union_is_read_on_its_own() -> None:
    union: Any = Round | Square
    assert from_plain(union, {"kind": "round", "radius": 1}) == Round(radius=1.0)
    with pytest.raises(UserError, match=r"unknown value for 'shape\.kind': 'rond'; choose one of: round, square"):
        from_plain(union, {"kind": "rond"}, where="shape")


def test_a_wrong_name_lists_the_nearest_first() -> None:
    assert str(unknown_name("rung", "mqq", ["base", "zoo", "mqa", "mq"])) == (
        "unknown rung 'mqq'; choose one of: mq, mqa, base, zoo"
    )
    many = str(unknown_name("rung", "r3", [f"r{number}" for number in range(50)]))
    assert many.startswith("unknown rung 'r3'; choose one of: r3")
    assert many.count(", ") == 20, "a sentence, not a page"
    assert many.endswith(", and 30 more")
    assert str(unknown_name("rung", "x", [])) == "unknown rung 'x'; choose one of: (none exist)"


def test_settings_that_cannot_change_a_result_are_out_of_identities_at_any_depth() -> None:
    one = from_plain(Settings, PLAIN)
    other = dataclasses.replace(one, workers=16, folder=Path("/elsewhere"))
    for wrap in (lambda x: x, lambda x: [x], lambda x: {"data": x}, lambda x: {"a": [{"b": x}]}):
        assert identity(wrap(one)) == identity(wrap(other))
        assert to_plain(wrap(one)) != to_plain(wrap(other))
    assert identity(one) != identity(dataclasses.replace(one, rate=3.0))


def test_a_setting_that_came_later_is_no_identity_at_its_default() -> None:
    one = from_plain(Settings, PLAIN)
    plain = identity(one)
    assert isinstance(plain, dict)
    assert "newer" not in plain
    assert identity(dataclasses.replace(one, newer="x")) == {**plain, "newer": "x"}


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)


@given(json_values)
def test_one_meaning_has_one_text(value: Any) -> None:
    text = canonical_json(value)
    assert canonical_json(json.loads(text)) == text
    assert canonical_json(shuffled(value)) == text


def shuffled(value: Any) -> Any:
    """The same meaning, keys in another order, tuples for lists."""
    if isinstance(value, dict):
        return {key: shuffled(value[key]) for key in reversed(value)}
    return tuple(shuffled(item) for item in value) if isinstance(value, list) else value


def test_fingerprints_stay_what_they_were() -> None:
    """A store outlives versions: the sha256 of `schema`, newline, canonical JSON, by hand."""
    import hashlib

    value = {"b": [1.0, True, None, "é"], "a": {"y": 0.1, "x": -0.0}}
    assert canonical_json(value) == '{"a":{"x":0,"y":0.1},"b":[1,true,null,"é"]}'
    by_hand = hashlib.sha256(("s-1\n" + '{"a":{"x":0,"y":0.1},"b":[1,true,null,"é"]}').encode()).hexdigest()[:16]
    assert fingerprint(value, schema="s-1") == by_hand
    assert fingerprint(value, schema="s-1") == "27ff5fb3b5d30416"
    assert fingerprint(value, schema="s-2") != by_hand


def test_true_and_one_are_two_values() -> None:
    assert fingerprint([True], schema="s") != fingerprint([1], schema="s")
    assert fingerprint([1.0], schema="s") == fingerprint([1], schema="s")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_no_identity_contains_what_json_cannot(value: float) -> None:
    with pytest.raises(ValueError, match="JSON"):
        fingerprint([value], schema="s")


def test_what_has_no_plain_form_is_refused() -> None:
    with pytest.raises(TypeError, match="set has no plain form"):
        to_plain({"a": {1, 2}})
