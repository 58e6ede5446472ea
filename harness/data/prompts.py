"""Class prompts as token embeddings: computed once by a frozen text encoder, then read from a cache; or, of a table of
classes, none but each class's place in it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save
from torch import Tensor

from harness.data.config import ClassTableText, HuggingFaceText, MiniLmText, TextConfig
from harness.models.text_encoder import TextEncoder, TextEncoderFiles, huggingface_files, minilm_files
from harness.records.errors import UserError
from harness.records.plain import fingerprint
from harness.records.store import reading_cache, write_atomic

# Shapes: B batch, K classes, T tokens, D the encoder's width


@dataclass(frozen=True, kw_only=True, slots=True)
class PromptTable:
    """The embedded prompt of every class, and of the empty text for classifier-free guidance."""

    embeddings: Tensor  # (K, T, D) float32
    mask: Tensor  # (K, T) bool, True on tokens, False on padding
    empty: Tensor  # (1, T, D)
    empty_mask: Tensor  # (1, T)
    mask_padding: bool
    identity: dict[str, Any]  # the encoder, the prompts and how they are padded: goes into a protocol

    @property
    def length(self) -> int:
        return self.embeddings.shape[1]

    @property
    def width(self) -> int:
        return self.embeddings.shape[2]

    def __len__(self) -> int:
        return self.embeddings.shape[0]

    def to(self, device: torch.device | str) -> "PromptTable":
        return replace(self, **{name: getattr(self, name).to(device) for name in _TENSORS})

    def context(self, labels: Tensor, drop: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """The prompts (B, T, D) of labels (B,), the empty one where drop (B,) is True, and their mask (B, T).

        The mask is None where padding is not masked.
        """
        context, mask = self.embeddings[labels], self.mask[labels]
        if drop is not None:
            context = torch.where(drop[:, None, None], self.empty, context)
            mask = torch.where(drop[:, None], self.empty_mask, mask)
        return context, mask if self.mask_padding else None


_TENSORS = ("embeddings", "mask", "empty", "empty_mask")


def class_prompts(config: TextConfig, class_names: Sequence[str], cache: Path) -> PromptTable:
    """Embed `template` filled with each class name, and the empty text; `cache` is a folder. Of a table of classes,
    their places in it.

    Raises UserError for an encoder that is missing or altered, for two classes that it cannot tell apart, and for a
    prompt longer than `length`.
    """
    if isinstance(config, ClassTableText):
        return class_table(class_names)
    files = minilm_files() if isinstance(config, MiniLmText) else huggingface_files(config.name)
    prompts = [_prompt(config, name) for name in class_names]
    what = {"encoder": files.digest, "prompts": prompts, "length": config.length}
    own = fingerprint(what, schema="prompts-3")
    path = cache / "prompts" / f"{own}.safetensors"
    if not path.exists():
        write_atomic(path, save(_embed(files, config, class_names), {"prompts": own}))
    with reading_cache(path):
        tensors = _cached(path, own, len(prompts))
    identity = {**what, "template": config.template, "mask_padding": config.mask_padding}
    return PromptTable(**tensors, mask_padding=config.mask_padding, identity=identity)


CLASS_TABLE = "class_table"
"""In the place of a text encoder's digest, in an identity."""
MOST_CLASSES = 20_000  # a table of so many takes 1.6 GB; beyond it they are captions


def class_table(class_names: Sequence[str]) -> PromptTable:
    """Each class as one token of width K + 1 that is 1 at its place; no class is 1 at the last one."""
    count = len(class_names)
    if count > MOST_CLASSES:
        raise UserError(
            f"text=class_table is for at most {MOST_CLASSES:,} classes, and these are {count:,}; give a text encoder"
        )
    places = torch.eye(count + 1)[:, None]  # (K + 1, 1, K + 1)
    mask = torch.ones(count + 1, 1, dtype=torch.bool)
    parts = places[:-1], mask[:-1], places[-1:], mask[-1:]
    what = {"encoder": CLASS_TABLE, "prompts": list(class_names), "length": 1, "template": "{}", "mask_padding": False}
    return PromptTable(**dict(zip(_TENSORS, parts, strict=True)), mask_padding=False, identity=what)


def is_class_table(identity: Mapping[str, Any]) -> bool:
    """Whether prompts with this identity are a table of classes."""
    return bool(identity["encoder"] == CLASS_TABLE)


def joined(first: PromptTable, more: PromptTable) -> PromptTable:
    """Those of `more` behind those of `first`, whose empty text counts."""
    return replace(
        first, embeddings=torch.cat([first.embeddings, more.embeddings]), mask=torch.cat([first.mask, more.mask])
    )


def write_prompts(path: Path, prompts: PromptTable) -> None:
    """As safetensors: embeddings (K, T, D), mask (K, T), and those of the empty text."""
    write_atomic(path, save({name: getattr(prompts, name).cpu().contiguous() for name in _TENSORS}))


def read_prompts(path: Path, identity: Mapping[str, Any]) -> PromptTable:
    """What `write_prompts` wrote of prompts with this identity."""
    return PromptTable(**load_file(path), mask_padding=bool(identity["mask_padding"]), identity=dict(identity))


def _cached(path: Path, own: str, count: int) -> dict[str, Tensor]:
    """The tensors of a file in the cache; ValueError where they are not those of these prompts, or are no numbers."""
    with safe_open(path, "pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        if (file.metadata() or {}).get("prompts") != own or tensors.keys() != set(_TENSORS):
            raise ValueError("it is of other prompts")
    if len(tensors["embeddings"]) != count or not all(torch.isfinite(each).all() for each in tensors.values()):
        raise ValueError(f"it has not {count} prompts of finite numbers")
    return tensors


def _prompt(config: MiniLmText | HuggingFaceText, class_name: str) -> str:
    return config.template.replace("{}", class_name)


def _embed(
    files: TextEncoderFiles, config: MiniLmText | HuggingFaceText, class_names: Sequence[str]
) -> dict[str, Tensor]:
    encoder = TextEncoder(files)
    texts = [*(_prompt(config, name) for name in class_names), ""]
    tokens = encoder.tokens(texts)
    _check_distinct(class_names, tokens, encoder.tokens([_prompt(config, "")])[0], files.name)
    if unread := next((name for name in class_names if not encoder.knows(name)), None):
        raise UserError(f"the text encoder {files.name} reads nothing in the class name '{unread}'; {_RENAME}")
    length = _padded_length(texts, [len(each) for each in tokens], config.length, encoder.max_length)
    embeddings, mask = encoder.encode(texts, length)  # (K + 1, T, D), (K + 1, T)
    parts = embeddings[:-1], mask[:-1], embeddings[-1:], mask[-1:]
    return {name: part.contiguous().clone() for name, part in zip(_TENSORS, parts, strict=True)}


def _check_distinct(
    class_names: Sequence[str], tokens: Sequence[tuple[int, ...]], nameless: tuple[int, ...], encoder: str
) -> None:
    """Refuse classes that the encoder reads alike: equal tokens are equal embeddings, and no network can tell those
    apart. Many tokenizers drop case and accents, and read every letter that they do not know as one.

    tokens:   of each class's prompt, and of the empty text
    nameless: of the template without a name
    """
    first: dict[tuple[int, ...], str] = {}
    for name, read in zip(class_names, tokens, strict=False):
        if read in (nameless, tokens[-1]):
            raise UserError(f"the text encoder {encoder} reads nothing in the class name '{name}'; {_RENAME}")
        if read in first:
            raise UserError(
                f"the text encoder {encoder} reads the classes '{first[read]}' and '{name}' alike; {_RENAME}"
            )
        first[read] = name


_RENAME = "name the classes differently (data.names=FILE, for folders of images), or put them together"


def _padded_length(texts: Sequence[str], needed: Sequence[int], length: int | None, most: int) -> int:
    longest = max(range(len(texts)), key=needed.__getitem__)
    padded = needed[longest] if length is None else length
    if needed[longest] > padded:
        raise UserError(
            f"the prompt '{texts[longest]}' needs {needed[longest]} tokens but text.length is {padded}; raise it"
        )
    if padded > most:
        raise UserError(f"text.length {padded} is more than the encoder reads, {most} tokens; lower it")
    return padded
