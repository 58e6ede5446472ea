"""Thousands of sentences in a few: those that differ in their numbers only are one reason."""

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

NUMBER = re.compile(r"(?<![\w.])-?\d+(?:,\d{3})*(?:\.\d+)?(?:e[+-]?\d+)?(?!\w)")


@dataclass(frozen=True, kw_only=True, slots=True)
class Reason:
    text: str  # numbers in which the sentences differ are `...`
    times: int


def grouped(sentences: Iterable[str]) -> tuple[Reason, ...]:
    """The reasons, the most frequent first."""
    groups: dict[str, list[list[str]]] = defaultdict(list)
    for sentence in sentences:
        groups[NUMBER.sub("\0", sentence)].append(NUMBER.findall(sentence))
    reasons = [Reason(text=_filled(form, numbers), times=len(numbers)) for form, numbers in groups.items()]
    return tuple(sorted(reasons, key=lambda reason: -reason.times))


def _filled(form: str, numbers: Sequence[Sequence[str]]) -> str:
    """The sentence with the numbers that all have in common."""
    common = iter(["..." if len(set(column)) > 1 else column[0] for column in zip(*numbers, strict=True)])
    return "".join(next(common) if character == "\0" else character for character in form)
