"""Class prompts as token embeddings: computed once by a frozen text encoder, then read from a cache."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save
from torch import Tensor

from harness.data.cache import reading
from harness.data.text import MiniLmText, TextConfig
from harness.models.text_encoder import TextEncoder, TextEncoderFiles, huggingface_files, minilm_files
from harness.records.errors import UserError
from harness.records.plain import fingerprint
from harness.records.store import write_atomic

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
    """Embed `template` filled with each class name, and the empty text; `cache` is a folder.

    Raises UserError for an encoder that is missing or altered, and for a prompt longer than `length`.
    """
    files = minilm_files() if isinstance(config, MiniLmText) else huggingface_files(config.name)
    prompts = [config.template.replace("{}", name) for name in class_names]
    what = {"encoder": files.digest, "prompts": prompts, "length": config.length}
    path = cache / "prompts" / f"{fingerprint(what, schema='prompts-1')}.safetensors"
    if not path.exists():
        write_atomic(path, save(_embed(files, prompts, config.length)))
    with reading(path):
        tensors = load_file(path)
    identity = {**what, "template": config.template, "mask_padding": config.mask_padding}
    return PromptTable(**tensors, mask_padding=config.mask_padding, identity=identity)


def _embed(files: TextEncoderFiles, prompts: Sequence[str], length: int | None) -> dict[str, Tensor]:
    encoder = TextEncoder(files)
    texts = [*prompts, ""]
    length = _padded_length(encoder, texts, length)
    embeddings, mask = encoder.encode(texts, length)  # (K + 1, T, D), (K + 1, T)
    parts = embeddings[:-1], mask[:-1], embeddings[-1:], mask[-1:]
    return {name: part.contiguous().clone() for name, part in zip(_TENSORS, parts, strict=True)}


def _padded_length(encoder: TextEncoder, texts: Sequence[str], length: int | None) -> int:
    needed = encoder.lengths(texts)
    longest = max(range(len(texts)), key=needed.__getitem__)
    padded = needed[longest] if length is None else length
    if needed[longest] > padded:
        raise UserError(
            f"the prompt '{texts[longest]}' needs {needed[longest]} tokens but text.length is {padded}; raise it"
        )
    if padded > encoder.max_length:
        raise UserError(f"text.length {padded} is more than the encoder reads, {encoder.max_length} tokens; lower it")
    return padded
