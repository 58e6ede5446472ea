"""Which architectures are possible. Each rule is one sentence and a check that names what breaks it."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness.architecture.plan import unet_plan
from harness.records.errors import UserError
from harness.records.plain import Plain, to_plain

if TYPE_CHECKING:
    from harness.architecture.knobs import Convolution, MapNorm
    from harness.architecture.unet import UNetConfig


LARGEST = 65_536
"""Larger ones are slips, and a network of them has more weights than PyTorch can count."""


@dataclass(frozen=True, slots=True)
class Rule:
    sentence: str
    broken: Callable[[Any], Iterator[str]]
    """Yields what breaks the rule: the path and the value."""


def check(config: Any, rules: "Iterable[Rule] | None" = None) -> None:
    """Raise UserError at the first rule that `config` breaks: the rule, then the values. By default the UNet's."""
    for rule in RULES if rules is None else rules:
        for values in rule.broken(config):
            raise UserError(f"{rule.sentence}: {values}")


def leaves(plain: Plain, path: str = "") -> Iterator[tuple[str, Plain]]:
    """Every value that is neither a mapping nor a list, with its dotted path."""
    if isinstance(plain, dict | list):
        items = plain.items() if isinstance(plain, dict) else enumerate(plain)
        for key, value in items:
            yield from leaves(value, f"{path}.{key}" if path else str(key))
    else:
        yield path, plain


def _no_size(config: Any) -> Iterator[str]:
    for path, value in leaves(to_plain(config)):
        if isinstance(value, int | float) and not isinstance(value, bool) and not 0 < value <= LARGEST:
            yield f"{path} is {value}"


def _too_few_stages(config: "UNetConfig") -> Iterator[str]:
    if len(config.stages) < 2:
        yield f"stages has {len(config.stages)}"


def _no_transformer(config: "UNetConfig") -> Iterator[str]:
    if not any(config.transformers()):
        yield "every block is residual; give one the kind residual_transformer or transformer"


def _no_residual_block(config: "UNetConfig") -> Iterator[str]:
    if not any(block.kind.residual for block in unet_plan(config).blocks()):
        yield "every block is a transformer; give one the kind residual or residual_transformer"


def _even_kernel(config: Any) -> Iterator[str]:
    if config.convolution.kernel_size % 2 == 0:
        yield f"convolution.kernel_size is {config.convolution.kernel_size}"


def _odd_time_features(config: "UNetConfig") -> Iterator[str]:
    if config.time_features % 2:
        yield f"time_features is {config.time_features}"


def _heads_do_not_fit(config: "UNetConfig") -> Iterator[str]:
    for place in config.transformers():
        if place.channels % config.head_dim:
            yield f"{place.path} has {place.channels} channels, head_dim is {config.head_dim}"


def _groups_do_not_fit(config: "UNetConfig") -> Iterator[str]:
    for place in config.transformers():
        heads = place.channels // config.head_dim
        for knob in ("self_attention", "cross_attention"):
            used = knob == "cross_attention" or place.transformer.self_attention
            groups = getattr(config, knob).groups_of(heads)
            if used and heads % groups:
                yield f"{place.path} has {heads} heads, {knob}.groups is {groups}"


def _one_group(config: "UNetConfig") -> Iterator[str]:
    for knob in ("self_attention", "cross_attention"):
        if getattr(getattr(config, knob), "groups", 2) == 1:
            yield f"{knob}.groups is 1"


def _rope_does_not_fit(config: "UNetConfig") -> Iterator[str]:
    if config.position is not None and config.head_dim % 4:
        yield f"head_dim is {config.head_dim}"


def _span_does_not_fit(config: "UNetConfig") -> Iterator[str]:
    for place in config.transformers():
        if place.transformer.span is not None and (why := place.transformer.span.why_not()):
            yield f"of {place.path}.span, {why}"


def _ratios_do_not_fit(config: "UNetConfig") -> Iterator[str]:
    ratio, places = config.feed_forward.ratio, len(config.stages) + (config.middle is not None)
    if isinstance(ratio, tuple) and len(ratio) != places:
        middle = "and a middle" if config.middle is not None else "and no middle"
        yield f"there are {len(config.stages)} stages {middle}, and feed_forward.ratio has {len(ratio)}"


def _feed_forward_not_whole(config: "UNetConfig") -> Iterator[str]:
    for place in config.transformers():
        ratio = config.feed_forward.ratio_at(place.stage)
        if not float(place.channels * ratio).is_integer():
            yield f"{place.path} has {place.channels} channels, feed_forward.ratio is {ratio}"


def _hidden_not_whole(config: "UNetConfig") -> Iterator[str]:
    blocks = [block for block in unet_plan(config).blocks() if block.kind.residual]
    yield from not_whole_inside(config.convolution, blocks)


def not_whole_inside(convolution: "Convolution", blocks: Iterable[Any]) -> Iterator[str]:
    """Of residual blocks, as a plan has them: those whose width between the two convolutions is a fraction."""
    for block in blocks:
        hidden = convolution.hidden_width(block.c_in, block.c_out)
        if hidden != int(hidden):
            yield f"{block.place} from {block.c_in} to {block.c_out} channels would be {hidden:g} wide inside"


def groups_left_over(norm: "MapNorm", widths: Iterable[tuple[str, int]]) -> Iterator[str]:
    """Of feature maps, by place and channels: those that the norm's groups do not divide."""
    groups = getattr(norm, "groups", 1)
    for place, width in widths:
        if width % groups:
            yield f"{place} has a feature map of {width} channels, norm.groups is {groups}"


def _norm_groups_do_not_fit(config: "UNetConfig") -> Iterator[str]:
    yield from groups_left_over(config.norm, normed_widths(config))


def normed_widths(config: "UNetConfig") -> Iterator[tuple[str, int]]:
    """Every feature map that `norm` sees: block inputs, residual blocks' insides, stages' outputs."""
    for block in unet_plan(config).blocks():
        yield block.place, block.c_in
        yield block.place, block.c_out
        if block.kind.residual:
            yield block.place, int(config.convolution.hidden_width(block.c_in, block.c_out))


SIZES = Rule(f"a size or a count is more than 0 and at most {LARGEST:,}", _no_size)
KERNELS = Rule("a kernel has a middle, so its size is odd", _even_kernel)
RULES = (
    SIZES,
    Rule("a UNet has at least 2 stages", _too_few_stages),
    Rule("the prompt enters through cross-attention, so some place needs a transformer", _no_transformer),
    Rule("the time enters through residual blocks, so some place needs one", _no_residual_block),
    KERNELS,
    Rule("time features are pairs of sine and cosine, so their number is even", _odd_time_features),
    Rule("a transformer's channels divide into heads", _heads_do_not_fit),
    Rule("query heads divide evenly into groups", _groups_do_not_fit),
    Rule("one group is multi-query attention, so write mqa", _one_group),
    Rule("2-D RoPE turns pairs of channels by row and by column, so 4 divides the head dimension", _rope_does_not_fit),
    Rule(
        "a block of sparse self-attention sees a part of the map only, so blocks is above radius + 1",
        _span_does_not_fit,
    ),
    Rule(
        "a list of feed-forward ratios has one for each stage, and one for the middle if there is one",
        _ratios_do_not_fit,
    ),
    Rule("a feed-forward's hidden width is whole", _feed_forward_not_whole),
    Rule("the width inside a residual block is whole", _hidden_not_whole),
    Rule("a group norm's groups divide every feature map's channels", _norm_groups_do_not_fit),
)
