"""Which architectures are possible. Each rule is one sentence and a check that names what breaks it."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness.records.errors import UserError
from harness.records.plain import Plain, to_plain

if TYPE_CHECKING:
    from harness.architecture.unet import UNetConfig


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


def _not_positive(config: Any) -> Iterator[str]:
    for path, value in leaves(to_plain(config)):
        if isinstance(value, int | float) and not isinstance(value, bool) and not 0 < value < float("inf"):
            yield f"{path} is {value}"


def _too_few_stages(config: "UNetConfig") -> Iterator[str]:
    if len(config.stages) < 2:
        yield f"stages has {len(config.stages)}"


def _no_transformer(config: "UNetConfig") -> Iterator[str]:
    if not any(config.transformers()):
        yield "every block is residual; give one the kind residual_transformer or transformer"


def _no_residual_block(config: "UNetConfig") -> Iterator[str]:
    if not any(residual_widths(config)):
        yield "every block is a transformer; give one the kind residual or residual_transformer"


def _even_kernel(config: Any) -> Iterator[str]:
    if config.convolution.kernel_size % 2 == 0:
        yield f"convolution.kernel_size is {config.convolution.kernel_size}"


def _odd_time_features(config: "UNetConfig") -> Iterator[str]:
    if config.time_features % 2:
        yield f"time_features is {config.time_features}"


def _heads_do_not_fit(config: "UNetConfig") -> Iterator[str]:
    for path, channels, _ in config.transformers():
        if channels % config.head_width:
            yield f"{path} has {channels} channels, head_width is {config.head_width}"


def _groups_do_not_fit(config: "UNetConfig") -> Iterator[str]:
    for path, channels, found in config.transformers():
        heads = channels // config.head_width
        for knob in ("self_attention", "cross_attention"):
            used = knob == "cross_attention" or found.self_attention
            groups = getattr(config, knob).groups_of(heads)
            if used and heads % groups:
                yield f"{path} has {heads} heads, {knob}.groups is {groups}"


def _one_group(config: "UNetConfig") -> Iterator[str]:
    for knob in ("self_attention", "cross_attention"):
        if getattr(getattr(config, knob), "groups", 2) == 1:
            yield f"{knob}.groups is 1"


def _rope_does_not_fit(config: "UNetConfig") -> Iterator[str]:
    if config.position is not None and config.head_width % 4:
        yield f"head_width is {config.head_width}"


def _feed_forward_not_whole(config: "UNetConfig") -> Iterator[str]:
    for path, channels, _ in config.transformers():
        hidden = channels * config.feed_forward.ratio
        if hidden != int(hidden):
            yield f"{path} has {channels} channels, feed_forward.ratio is {config.feed_forward.ratio}"


def _hidden_not_whole(config: "UNetConfig") -> Iterator[str]:
    for path, c_in, c_out in residual_widths(config):
        hidden = config.convolution.hidden_width(c_in, c_out)
        if hidden != int(hidden):
            yield f"{path} from {c_in} to {c_out} channels would be {hidden:g} wide inside"


def _norm_groups_do_not_fit(config: "UNetConfig") -> Iterator[str]:
    groups = getattr(config.norm, "groups", 1)
    for path, width in normed_widths(config):
        if width % groups:
            yield f"{path} has a feature map of {width} channels, norm.groups is {groups}"


def block_widths(config: "UNetConfig") -> "Iterator[tuple[str, bool, int, int]]":
    """Place, whether residual, input channels (with the skip's) and output channels of every block."""
    widths = [stage.channels for stage in config.stages]
    before = [widths[0], *widths[:-1]]
    for index, stage in enumerate(config.stages):
        for j in range(stage.down_blocks):
            yield (
                f"down.{index}.block.{j}",
                stage.block.residual,
                before[index] if j == 0 else widths[index],
                widths[index],
            )
    if config.middle is not None:
        yield "middle.block.0", config.middle.residual, widths[-1], widths[-1]
    after = [*widths[1:], widths[-1]]
    for index, stage in reversed(list(enumerate(config.stages))):
        skips = skip_widths(config, index)
        for j in range(stage.up_blocks):
            flowing = after[index] if j == 0 else widths[index]
            skip = skips[j] if j < len(skips) else 0
            yield f"up.{index}.block.{j}", stage.block.residual, flowing + skip, widths[index]


def skip_widths(config: "UNetConfig", index: int) -> list[int]:
    """Channels of the skips of stage `index`, newest first: its blocks' outputs, then its input."""
    stage = config.stages[index]
    return [stage.channels] * stage.down_blocks + [config.stages[max(index - 1, 0)].channels]


def residual_widths(config: "UNetConfig") -> Iterator[tuple[str, int, int]]:
    return ((path, c_in, c_out) for path, residual, c_in, c_out in block_widths(config) if residual)


def normed_widths(config: "UNetConfig") -> Iterator[tuple[str, int]]:
    """Every feature map that `norm` sees: block inputs, residual blocks' insides, stages' outputs."""
    for path, residual, c_in, c_out in block_widths(config):
        yield path, c_in
        yield path, c_out
        if residual:
            yield path, int(config.convolution.hidden_width(c_in, c_out))


SIZES = Rule("a size or a count is more than 0", _not_positive)
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
    Rule("2-D RoPE turns pairs of channels by row and by column, so 4 divides the head width", _rope_does_not_fit),
    Rule("a feed-forward's hidden width is whole", _feed_forward_not_whole),
    Rule("the width inside a residual block is whole", _hidden_not_whole),
    Rule("a group norm's groups divide every feature map's channels", _norm_groups_do_not_fit),
)
