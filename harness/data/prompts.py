"""Class prompts and captions as token embeddings: computed once by frozen text encoders (`text_embedding`), then read
from a cache; or, of a table of classes, none but each class's place in it.

A cache's file is mapped into memory. A table of up to MOST_IN_MEMORY bytes is copied to the device that asks; a larger
one, of millions of captions, stays on the disk, is filled there too, and gives the rows of a batch.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors import safe_open
from safetensors.torch import load_file, save
from torch import Tensor

from harness.data.config import ClassTableText, HuggingFaceText, SeveralText, TextConfig
from harness.data.text_embedding import (
    READING,
    Otherwise,
    ReadText,
    Source,
    check_read,
    embed,
    encoders_identity,
    prompt_of,
    read_otherwise,
    sources_of,
)
from harness.records.errors import UserError
from harness.records.plain import fingerprint
from harness.records.store import reading_cache, write_atomic
from harness.records.terminal import escaped

# Shapes: B batch, K classes, T tokens, D the width of a token's embedding, P of a pooled vector

MOST_IN_MEMORY = 1 << 30  # bytes of embeddings


@dataclass(frozen=True, kw_only=True, slots=True)
class PromptTable:
    """The embedded prompt of every class, and of the empty text for classifier-free guidance."""

    embeddings: Tensor  # (K, T, D) float32
    mask: Tensor  # (K, T) bool, True on tokens, False on padding
    empty: Tensor  # (1, T, D)
    empty_mask: Tensor  # (1, T)
    mask_padding: bool
    identity: dict[str, Any]  # the encoder, the prompts and how they are padded: goes into a protocol
    pooled: Tensor | None = None  # (K, P) float32, where an encoder is asked for it
    empty_pooled: Tensor | None = None  # (1, P)
    alike: tuple[tuple[str, str], ...] = ()  # of captions: those that are read as an earlier one, with that one
    unread: tuple[str, ...] = ()  # those in which the encoders read nothing

    @property
    def remarks(self) -> tuple[str, ...]:
        """Which captions are read otherwise than one may think."""
        said = []
        if self.alike:
            one, other = map(escaped, self.alike[0])
            said.append(f"captions that the text encoder reads as others: {len(self.alike):,}, '{one}' as '{other}'")
        if self.unread:
            first = escaped(self.unread[0])
            said.append(f"captions in which the text encoder reads no word: {len(self.unread):,}, such as '{first}'")
        return tuple(said)

    @property
    def needs_mask(self) -> bool:
        """Whether there is padding that the network must not see."""
        return self.mask_padding and not bool(self.mask.all() and self.empty_mask.all())

    @property
    def length(self) -> int:
        return self.embeddings.shape[1]

    @property
    def width(self) -> int:
        return self.embeddings.shape[2]

    def __len__(self) -> int:
        return self.embeddings.shape[0]

    def to(
        self, device: torch.device | str, *, dtype: torch.dtype | None = None, most: int | None = None
    ) -> "PromptTable":
        """On that device, in that type, or as it is; but for embeddings that take more than `most` bytes in it, which
        stay on the disk: their rows are copied there batch by batch. None: MOST_IN_MEMORY."""
        kind = dtype or self.embeddings.dtype
        stay = self.embeddings.numel() * kind.itemsize > (MOST_IN_MEMORY if most is None else most)
        moved: dict[str, Any] = {
            name: tensor.to(device, kind if tensor.is_floating_point() else tensor.dtype)
            for name, tensor in self.tensors.items()
            if not (stay and name == "embeddings")
        }
        return replace(self, **moved)

    @property
    def tensors(self) -> dict[str, Tensor]:
        """By their names in files."""
        named = ((name, getattr(self, name)) for name in (*_TENSORS, *_POOLED))
        return {name: tensor for name, tensor in named if tensor is not None}

    def rows(self, numbers: Sequence[int]) -> "PromptTable":
        """Some of its prompts, in that order; the identity stays the whole table's."""
        chosen: dict[str, Any] = {name: each[list(numbers)] for name, each in self.tensors.items() if name in _OF_ROWS}
        return replace(self, **chosen)

    def context(self, labels: Tensor, drop: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """The prompts (B, T, D) of labels (B,), the empty one where drop (B,) is True, and their mask (B, T).

        The mask is None where padding is not masked. Labels are on the table's device or on the CPU; where its
        embeddings stay on the disk a GPU is waited for unless they are on the CPU.
        """
        on, stored_on = self.empty.device, self.embeddings.device
        there = _sent(labels, on)
        rows = self.embeddings[there if stored_on == on else labels.to(stored_on)]
        context, mask = _sent(rows, on).to(self.empty), self.mask[there]
        if drop is not None:
            drop = _sent(drop, on)
            context = torch.where(drop[:, None, None], self.empty, context)
            mask = torch.where(drop[:, None], self.empty_mask, mask)
        return context, mask if self.mask_padding else None

    def pooled_context(self, labels: Tensor, drop: Tensor) -> Tensor:
        """(B, P): as `context`, of the pooled vectors."""
        assert self.pooled is not None
        assert self.empty_pooled is not None
        return torch.where(drop[:, None], self.empty_pooled, self.pooled[labels])


def _sent(tensor: Tensor, device: torch.device) -> Tensor:
    """There; to CUDA without waiting for it."""
    if device.type == "cuda" and tensor.device.type == "cpu":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


_TENSORS = ("embeddings", "mask", "empty", "empty_mask")
_POOLED = ("pooled", "empty_pooled")
READ = "read_otherwise"
"""Beside a cache's tensors: `Otherwise`."""
_OF_ROWS = ("embeddings", "mask", "pooled")


def class_prompts(
    config: TextConfig,
    class_names: Sequence[str],
    cache: Path,
    *,
    captions: bool = False,
) -> PromptTable:
    """Embed `template` filled with each class name, or with each of `captions`, and the empty text; `cache` is a
    folder. Of a table of classes, their places in it.

    Raises UserError for an encoder that is missing or altered, for two classes that it cannot tell apart, for a prompt
    longer than `length`, and for captions that no encoder is to read.
    """
    if isinstance(config, ClassTableText):
        if captions:
            raise UserError(
                "text=class_table learns a row for each class, and these are captions, of which held-out ones are "
                "never trained; give a text encoder, text=minilm"
            )
        return class_table(class_names)
    sources = sources_of(config)
    what, own, path = _asked(sources, config, class_names, cache)
    prompts = what["prompts"]
    if not path.exists():
        readers = [each.reader() for each in sources]
        if not captions:
            check_read(sources, readers, config, class_names)
        about = {"prompts": own, READ: json.dumps(read_otherwise(sources, readers, config, class_names))}
        embed(path, about, sources, readers, prompts)
    with reading_cache(path):
        tensors, (alike, unread) = _cached(path, own, len(prompts))
    if (alike or unread) and not captions:  # what was embedded as captions may be no classes
        check_read(sources, [each.reader() for each in sources], config, class_names)
    identity = {**what, "template": config.template, "mask_padding": config.mask_padding}
    masked = config.mask_padding
    return PromptTable(**tensors, mask_padding=masked, identity=identity, alike=alike, unread=unread)


def is_embedded(config: ReadText, class_names: Sequence[str], cache: Path) -> bool:
    """Whether `class_prompts` would find them in the cache."""
    return _asked(sources_of(config), config, class_names, cache)[2].exists()


def _asked(
    sources: Sequence[Source], config: ReadText, class_names: Sequence[str], cache: Path
) -> tuple[dict[str, Any], str, Path]:
    """What is to be embedded; its fingerprint; and its file in the cache."""
    prompts = [prompt_of(config, name) for name in class_names]
    what = {**encoders_identity(sources, config), "prompts": prompts}
    own = fingerprint(what, schema="prompts-3")
    return what, own, cache / "prompts" / f"{own}.safetensors"


def text_identity(config: ReadText) -> dict[str, Any]:
    """Of how prompts are made, whatever the names in them."""
    how = {"template": config.template, "mask_padding": config.mask_padding}
    return {**encoders_identity(sources_of(config), config), **how}


def as_trained(config: ReadText, identity: Mapping[str, Any]) -> ReadText:
    """The configuration with all but the encoders' names as prompts with this identity were read."""
    how = {"template": identity["template"], "mask_padding": identity["mask_padding"]}
    if isinstance(config, SeveralText):
        return replace(config, **how)
    if isinstance(config, HuggingFaceText):
        how |= {name: identity.get(name, usual) for name, usual in READING.items()}
    return replace(config, **how, length=identity["length"])


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
    return PromptTable(
        **dict(zip(_TENSORS, parts, strict=True)), mask_padding=False, identity=what, alike=(), unread=()
    )


def is_class_table(identity: Mapping[str, Any]) -> bool:
    """Whether prompts with this identity are a table of classes."""
    return bool(identity["encoder"] == CLASS_TABLE)


def sees_padding(identity: Mapping[str, Any]) -> bool:
    """Whether an encoder of prompts with this identity does: then how far they are padded changes every token."""
    return any(bool(each.get("sees_padding")) for each in (identity, *identity.get("encoders", ())))


def prompts_like(
    identity: Mapping[str, Any], config: TextConfig, class_names: Sequence[str], cache: Path, *, what: str, setting: str
) -> PromptTable:
    """These names as prompts with that `identity` are made, by the encoder `config`; of a table of classes, its rows.

    UserError where that is another encoder than theirs, or the table has no such class. `what` was trained with those
    prompts, and `setting` is how one gives another encoder.
    """
    if is_class_table(identity):
        return _rows_of_table(identity, class_names, what)
    if isinstance(config, ClassTableText):
        raise UserError(
            f"{what} was trained with a text encoder, not with text=class_table; give that encoder, {setting}=..."
        )
    prompts = class_prompts(as_trained(config, identity), class_names, cache, captions=True)  # whatever they are
    if prompts.identity["encoder"] != identity["encoder"]:
        form = _form(identity, setting)
        raise UserError(f"{what} was trained with another text encoder than text={config.kind}; give that one, {form}")
    return prompts


def _form(identity: Mapping[str, Any], setting: str) -> str:
    """How one gives the encoders of prompts with that identity, as far as that tells."""
    if "encoders" in identity:
        settings = [{name: value for name, value in one.items() if name != "encoder"} for one in identity["encoders"]]
        named = [{"name": "NAME", **each} for each in settings]
        listed = yaml.safe_dump(named, default_flow_style=True, sort_keys=False, width=math.inf).strip()
        given = f"text=several 'text.encoders={listed}'"
    else:
        listed, given = "", "text=huggingface text.name=NAME"
    form = f"{{kind: several, encoders: {listed}}}" if listed else "{kind: huggingface, name: NAME}"
    return given if setting == "text" else f"{setting}={form}"


def names_in(identity: Mapping[str, Any]) -> tuple[str, ...]:
    """The class names, as they stand in prompts with that identity, by their numbers."""
    before, _, after = str(identity["template"]).partition("{}")
    return tuple(prompt[len(before) : len(prompt) - len(after)] for prompt in identity["prompts"])


def _rows_of_table(identity: Mapping[str, Any], class_names: Sequence[str], what: str) -> PromptTable:
    known = names_in(identity)
    table = class_table(known)
    rows = {name: row for row, name in enumerate(known)}
    if lacking := [name for name in class_names if name not in rows]:
        more = f", and {len(lacking) - 1} more" if len(lacking) > 1 else ""
        raise UserError(
            f"{what} was trained with a table of classes that has no '{lacking[0]}'{more}; name one that knows the "
            "classes, or that reads text"
        )
    chosen = torch.tensor([rows[name] for name in class_names])
    return replace(table, embeddings=table.embeddings[chosen], mask=table.mask[chosen])


def joined(first: PromptTable, more: PromptTable) -> PromptTable:
    """Those of `more` behind those of `first`, whose empty text counts."""
    one, other = first.tensors, more.tensors
    both: dict[str, Any] = {name: torch.cat([one[name], other[name]]) for name in _OF_ROWS if name in one}
    return replace(first, **both)


def write_prompts(path: Path, prompts: PromptTable) -> None:
    """As safetensors: embeddings (K, T, D), mask (K, T), and those of the empty text."""
    write_atomic(path, save({name: prompts.tensors[name].cpu().contiguous() for name in _TENSORS}))


def read_prompts(path: Path, identity: Mapping[str, Any]) -> PromptTable:
    """What `write_prompts` wrote of prompts with this identity."""
    masked = bool(identity["mask_padding"])
    return PromptTable(**load_file(path), mask_padding=masked, identity=dict(identity), alike=(), unread=())


def _cached(path: Path, own: str, count: int) -> tuple[dict[str, Tensor], Otherwise]:
    """The tensors of a file in the cache, and what is read otherwise; ValueError where they are not those of these
    prompts, or are no numbers. What stays on the disk is not read through."""
    with safe_open(path, "pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        named = tensors.keys() in ({*_TENSORS}, {*_TENSORS, *_POOLED})
        about = file.metadata() or {}
        if about.get("prompts") != own or not named:
            raise ValueError("it is of other prompts")
    checked = [tensor for tensor in tensors.values() if tensor.nbytes <= MOST_IN_MEMORY]
    if len(tensors["embeddings"]) != count or not all(torch.isfinite(each).all() for each in checked):
        raise ValueError(f"it has not {count} prompts of finite numbers")
    alike, unread = json.loads(about.get(READ, "[[], []]"))
    return tensors, (tuple((one, other) for one, other in alike), tuple(unread))
