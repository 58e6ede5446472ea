"""Edits by path, and what differs afterwards."""

import re

import pytest

from harness.architecture.catalogue import architecture, named_edits
from harness.architecture.difference import ABSENT, Change, difference
from harness.architecture.edits import parse_edits, with_edits
from harness.architecture.knobs import GELU, GroupedQuery, Rope2dConfig
from harness.records.errors import UserError

LAPTOP = architecture("laptop/thin_sdxl")


def test_an_edit_changes_its_knob_and_nothing_else():
    edited = with_edits(LAPTOP, {"stages.1.block.self_attention": False})
    assert difference(LAPTOP, edited) == (Change("stages.1.block.self_attention", True, False),)
    assert str(difference(LAPTOP, edited)[0]) == "stages.1.block.self_attention: True -> False"


def test_no_edit_is_no_difference():
    assert with_edits(LAPTOP, {}) == LAPTOP
    assert difference(LAPTOP, LAPTOP) == ()


def test_a_star_means_every_entry_that_has_the_rest_of_the_path():
    edited = with_edits(LAPTOP, {"stages.*.block.depth": 3, "stages.*.channels": 64})
    assert [change.path for change in difference(LAPTOP, edited)] == [
        "stages.0.channels",
        "stages.1.channels",
        "stages.1.block.depth",
        "stages.2.channels",
        "stages.2.block.depth",
    ]


def test_a_whole_knob_is_replaced_and_its_new_settings_are_shown():
    edited = with_edits(LAPTOP, {"convolution": {"kind": "separable", "expansion": 2}})
    changes = {change.path: (change.before, change.after) for change in difference(LAPTOP, edited)}
    assert changes == {
        "convolution.kind": ("regular", "separable"),
        "convolution.expansion": (ABSENT, 2.0),
        "convolution.relative_to": (ABSENT, "output"),
        "convolution.resampling": (ABSENT, "up"),
    }


def test_edits_that_are_valid_only_together_are_checked_together():
    with pytest.raises(UserError):
        with_edits(LAPTOP, {"head_dim": 10})
    assert with_edits(LAPTOP, {"head_dim": 10, "stages.*.channels": 40}).head_dim == 10


def test_an_edit_may_set_inside_what_one_before_it_names_in_short():
    """As `harness measure NAME feed_forward=gelu feed_forward.ratio=3` does; with and without a default."""
    assert with_edits(LAPTOP, {"feed_forward": "gelu", "feed_forward.ratio": 3}).feed_forward == GELU(ratio=3)
    assert with_edits(LAPTOP, {"position": "rope_2d", "position.base": 100}).position == Rope2dConfig(base=100)
    grouped = with_edits(LAPTOP, {"head_dim": 4, "self_attention": "gqa", "self_attention.groups": 2})
    assert grouped.self_attention == GroupedQuery(groups=2)
    with pytest.raises(UserError, match=r"missing setting 'self_attention\.groups'"):
        with_edits(LAPTOP, {"self_attention": "gqa", "feed_forward": "gelu", "feed_forward.ratio": 3})
    with pytest.raises(UserError, match=r"'feed_forward\.rato'; choose one of: feed_forward\.ratio,"):
        with_edits(LAPTOP, {"feed_forward": "gelu", "feed_forward.rato": 3})


@pytest.mark.parametrize(
    ("edits", "lost"),
    [
        ({"feed_forward.ratio": 3, "feed_forward": "gelu"}, "feed_forward.ratio"),
        ({"stages.0.channels": 16, "head_dim": 8, "stages.*.channels": 32}, "stages.0.channels"),
        ({"stages.1.block.depth": 2, "stages.1": {}}, "stages.1.block.depth"),
        ({"stages.*.channels": 16, "stages.0.channels": 32}, None),
        ({"feed_forward": "gelu", "feed_forward.ratio": 3}, None),
        ({"feed_forward_ratio": 3, "feed_forward": "gelu"}, None),
    ],
)
def test_an_edit_that_a_later_one_undoes_is_a_mistake(edits, lost):
    if lost is None:
        assert parse_edits(edits, "edits") == edits
        return
    with pytest.raises(UserError, match=f"'edits' sets {re.escape(lost)}, and after it .*, which undoes that"):
        parse_edits(edits, "edits")


@pytest.mark.parametrize(
    ("edits", "message"),
    [
        ({"stages.0.chanels": 8}, "unknown path of a knob 'stages.0.chanels'; choose one of: stages.0.channels,"),
        ({"stages.7.channels": 8}, "stages.0.channels"),
        ({"feed_forward.expansion": 8}, "feed_forward.ratio"),
        ({"qk_norm.kind": "rms"}, "qk_norm"),
        ({"self_attention": "mqua"}, "unknown value for 'self_attention.kind': 'mqua'; choose one of: mqa"),
        ({"self_attention": {"groups": 2}}, "'self_attention' must be a mapping with a 'kind' out of gqa, mhsa, mqa"),
        ({"self_attention": "gqa"}, "missing setting 'self_attention.groups'"),
        ({"head_dim": "wide"}, "'head_dim' must be a whole number, not 'wide'"),
        ({"convolution.resampling": "up"}, "convolution"),
    ],
)
def test_a_wrong_edit_is_one_sentence(edits, message):
    with pytest.raises(UserError) as caught:
        with_edits(LAPTOP, edits)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_architectures_edits_may_be_anothers_with_some_of_it_otherwise():
    for name in ("sepconv", "expanded_sepconv"):
        (convolution,) = named_edits(name, "edits").values()
        assert named_edits(f"laptop/{name}", "edits") == {"convolution": {**convolution, "kernel_size": 3}}
