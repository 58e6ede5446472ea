"""Texts as token embeddings, by one frozen encoder or several side by side or one behind the other, into a file.

Two classes that the encoders read alike are refused: somebody told them apart, and no network could. Two captions that
they read alike are two pictures of one text, as a caption may have several: they stay, and it is said how many.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import Tensor

from harness.data.config import EncoderConfig, HuggingFaceText, MiniLmText, SeveralText
from harness.data.tensor_file import Shapes, filling
from harness.models.text_encoder import Encoded, TextEncoder, TextEncoderFiles, huggingface_files, minilm_files
from harness.records.errors import UserError
from harness.records.plain import fingerprint

ReadText: TypeAlias = MiniLmText | HuggingFaceText | SeveralText
"""Configurations of text that is read, and not of a table."""
Otherwise: TypeAlias = tuple[tuple[tuple[str, str], ...], tuple[str, ...]]
"""Captions that are read as an earlier one, with that one; and those in which nothing is read."""
READING = {"hidden": "last", "sees_padding": False, "cut": False}
"""What of an encoder's settings changes its embeddings, beside the length, and what is usual."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """One encoder, and how it is used."""

    files: TextEncoderFiles
    length: int | None
    join: str = "tokens"
    hidden: str = "last"
    sees_padding: bool = False
    cut: bool = False
    pooled: bool = False

    @property
    def unusual(self) -> dict[str, Any]:
        """What of READING is not as usual: prompts of before there was another keep their identity."""
        return {name: getattr(self, name) for name, usual in READING.items() if getattr(self, name) != usual}

    @property
    def identity(self) -> dict[str, Any]:
        return {"encoder": self.files.digest, **self.unusual}

    def reader(self) -> TextEncoder:
        return TextEncoder(self.files, **self.unusual, pooled=self.pooled)


def sources_of(config: ReadText) -> list[Source]:
    if isinstance(config, MiniLmText):
        return [Source(files=minilm_files(), length=config.length)]
    if isinstance(config, HuggingFaceText):
        return [_source(config)]
    return [replace(_source(each), join=each.join, pooled=each.pooled) for each in config.encoders]


def _source(config: HuggingFaceText | EncoderConfig) -> Source:
    files = huggingface_files(config.name, config.subfolder)
    how = {name: getattr(config, name) for name in READING}
    how["sees_padding"] |= files.always_sees_padding
    return Source(files=files, length=config.length, **how)


def encoders_identity(sources: Sequence[Source], config: ReadText) -> dict[str, Any]:
    """`encoder`, a digest; and what else there is to say."""
    if not isinstance(config, SeveralText):
        return {**sources[0].identity, "length": config.length}
    each = [
        {**one.identity, "length": one.length, "join": one.join, **({"pooled": True} if one.pooled else {})}
        for one in sources
    ]
    return {"encoder": fingerprint(each, schema="encoders-1"), "encoders": each, "length": None}


def prompt_of(config: ReadText, class_name: str) -> str:
    return config.template.replace("{}", class_name)


def check_read(
    sources: Sequence[Source], readers: Sequence[TextEncoder], config: ReadText, class_names: Sequence[str]
) -> None:
    """Refuse class names of which the encoders read nothing, and such that they read alike."""
    texts = [*(prompt_of(config, name) for name in class_names), "", prompt_of(config, "")]
    *tokens, nameless = _tokens(sources, readers, texts)
    _check_distinct(class_names, tokens, nameless, _names(readers))
    if unread := next((name for name in class_names if not any(each.knows(name) for each in readers)), None):
        raise UserError(f"the text encoder {_names(readers)} reads nothing in the class name '{unread}'; {_RENAME}")


def read_otherwise(
    sources: Sequence[Source], readers: Sequence[TextEncoder], config: ReadText, captions: Sequence[str]
) -> Otherwise:
    first: dict[tuple[int, ...], str] = {}
    read = zip(captions, _tokens(sources, readers, [prompt_of(config, each) for each in captions]), strict=True)
    alike = tuple((caption, first[one]) for caption, one in read if first.setdefault(one, caption) != caption)
    return alike, tuple(caption for caption in captions if not any(each.knows(caption) for each in readers))


def _tokens(sources: Sequence[Source], readers: Sequence[TextEncoder], texts: Sequence[str]) -> list[tuple[int, ...]]:
    """All that the encoders see of each text, one encoder's tokens behind the other's."""
    by_reader = [
        reader.tokens(texts, (source.length or reader.max_length) if source.cut else None)
        for source, reader in zip(sources, readers, strict=True)
    ]
    return [sum(each, ()) for each in zip(*by_reader, strict=True)]


def _names(readers: Sequence[TextEncoder]) -> str:
    return " and ".join(reader.files.name for reader in readers)


@dataclass(frozen=True, slots=True)
class _Place:
    """Of one encoder's embeddings in a row of the table."""

    tokens: slice
    width: slice
    pooled: slice


def embed(
    path: Path,
    about: Mapping[str, str],
    sources: Sequence[Source],
    readers: list[TextEncoder],
    prompts: Sequence[str],
) -> None:
    """Fill the cache's file by one encoder after another: each leaves memory before the next is loaded."""
    texts = [*prompts, ""]
    lengths = [_padded_length(texts, reader, one.length) for reader, one in zip(readers, sources, strict=True)]
    places = _places(sources, readers, lengths)
    with filling(path, _shapes(len(prompts), places), about) as tensors:
        for place, length in zip(places, lengths, strict=True):
            start = 0
            for encoded in readers.pop(0).encode_in_chunks(texts, length):
                _put(tensors, encoded, place, start)
                start += len(encoded.mask)


def _places(sources: Sequence[Source], readers: Sequence[TextEncoder], lengths: Sequence[int]) -> list[_Place]:
    """Side by side, or one behind the other, as `join` has it."""
    places: list[_Place] = []
    first = end = width = pooled = 0
    for source, reader, length in zip(sources, readers, lengths, strict=True):
        if source.join == "tokens":
            first, width = end, 0
        place = _Place(
            tokens=slice(first, first + length),
            width=slice(width, width + reader.width),
            pooled=slice(pooled, pooled + reader.pooled_width),
        )
        end, width, pooled = max(end, place.tokens.stop), place.width.stop, place.pooled.stop
        places.append(place)
    return places


def _shapes(count: int, places: Sequence[_Place]) -> Shapes:
    """Of the cache's tensors for so many prompts."""
    length, width = max(place.tokens.stop for place in places), max(place.width.stop for place in places)
    pooled = places[-1].pooled.stop
    rows = {"": count, "empty_": 1}
    shapes: dict[str, tuple[torch.dtype, tuple[int, ...]]] = {
        "embeddings": (torch.float32, (count, length, width)),
        "empty": (torch.float32, (1, length, width)),
    }
    shapes |= {f"{of}mask": (torch.bool, (number, length)) for of, number in rows.items()}
    return shapes | (
        {f"{of}pooled": (torch.float32, (number, pooled)) for of, number in rows.items()} if pooled else {}
    )


def _put(tensors: Mapping[str, Tensor], encoded: Encoded, place: _Place, start: int) -> None:
    """The rows of a chunk of texts, the first of which is number `start`; the empty text is the last of all."""
    count = min(len(encoded.mask), len(tensors["mask"]) - start)
    parts = (("embeddings", "", slice(count), start), ("empty", "empty_", slice(count, None), 0))
    for name, of, chosen, first in parts:
        rows = slice(first, first + len(encoded.mask[chosen]))
        tensors[name][rows, place.tokens, place.width] = encoded.hidden[chosen]
        tensors[f"{of}mask"][rows, place.tokens] |= encoded.mask[chosen]
        if encoded.pooled is not None:
            tensors[f"{of}pooled"][rows, place.pooled] = encoded.pooled[chosen]


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


def _padded_length(texts: Sequence[str], reader: TextEncoder, length: int | None) -> int:
    needed, most = [len(each) for each in reader.tokens(texts)], reader.max_length
    longest = max(range(len(texts)), key=needed.__getitem__)
    padded = (min(needed[longest], most) if reader.cut else needed[longest]) if length is None else length
    if needed[longest] > padded and not reader.cut:
        raise UserError(
            f"the prompt '{texts[longest]}' needs {needed[longest]} tokens but text.length is {padded}; raise it, or "
            "shorten the prompt"
        )
    if padded > most:
        raise UserError(f"text.length {padded} is more than the encoder reads, {most} tokens; lower it")
    return padded
