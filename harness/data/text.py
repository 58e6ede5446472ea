"""How classes become text: `minilm` or `huggingface`."""

from dataclasses import dataclass
from typing import Literal, TypeAlias

from harness.records.errors import UserError

TEMPLATE = "a photo of a {}"  # the paper's: "a photo of a <class name>"


@dataclass(frozen=True, kw_only=True, slots=True)
class MiniLmText:
    """all-MiniLM-L6-v2 from the installed package: 384 wide, no network."""

    kind: Literal["minilm"] = "minilm"
    template: str = TEMPLATE
    length: int | None = None
    """Tokens that every prompt is padded to; null: as many as the longest needs."""
    mask_padding: bool = True
    """Whether cross-attention is kept from seeing padding."""

    def __post_init__(self) -> None:
        _check(self.template, self.length)


@dataclass(frozen=True, kw_only=True, slots=True)
class HuggingFaceText:
    """Any Hugging Face text encoder's last hidden states, e.g. CLIP-L's text tower (768 wide, 77 tokens)."""

    kind: Literal["huggingface"] = "huggingface"
    name: str
    """A folder, or a name on the hub; the encoder is identified by its files' content, not by this."""
    template: str = TEMPLATE
    length: int | None = None
    mask_padding: bool = True

    def __post_init__(self) -> None:
        _check(self.template, self.length)


TextConfig: TypeAlias = MiniLmText | HuggingFaceText


def _check(template: str, length: int | None) -> None:
    if template.count("{}") != 1 or template.replace("{}", "").count("{") or template.replace("{}", "").count("}"):
        raise UserError(f"text.template needs one {{}} where the class name goes, not '{template}'")
    if length is not None and length < 2:
        raise UserError(f"text.length is a number of tokens from 2, not {length}")
