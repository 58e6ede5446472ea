"""No candidate twice: a combination that was met is replaced by the nearest one that was not. Two that train the same
architecture by the same recipe are one."""

import random
from collections.abc import Callable, Iterable
from typing import Any

from harness.records.errors import UserError
from harness.search.candidates import Candidate
from harness.search.space import Parameters, Space


class Unseen:
    def __init__(
        self, space: Space, fingerprint: Callable[[Parameters], str], candidates: Iterable[Candidate], seed: int
    ) -> None:
        """`fingerprint` of what a combination trains; it raises UserError where a rule refuses the combination."""
        self._space, self._fingerprint = space, fingerprint
        self._random = random.Random(seed)
        self._fingerprints: dict[Any, str | None] = {}  # combination -> what was computed; None: a rule refuses it
        self._met: set[Any] = set()  # combinations
        self._architectures: set[str] = set()
        for candidate in candidates:
            self.meet(candidate)

    @property
    def finite(self) -> bool:
        """Whether the space can be exhausted: no knob is a continuum."""
        return all(knob.values() is not None for knob in self._space.knobs.values())

    def meet(self, candidate: Candidate) -> None:
        self._met.add(_key(candidate.parameters))
        if candidate.fingerprint is not None:
            self._architectures.add(candidate.fingerprint)

    def nearest(self, parameters: Parameters) -> Parameters | None:
        """This combination, if neither it nor what it trains was met; else the one the fewest knobs away, of several
        any; None where there is none left. A combination that a rule refuses is no neighbour."""
        if _key(parameters) not in self._met and self._of(parameters) not in self._architectures:
            return parameters
        layer: list[Parameters] = [parameters]
        reached = {_key(parameters)}
        while layer:
            found = [other for at in layer for other in self._space.neighbours(at)]
            layer = []
            for other in found:
                if (key := _key(other)) not in reached:
                    reached.add(key)
                    layer.append(other)
            self._random.shuffle(layer)
            for near in layer:
                if self._is_new(near):
                    return near
        return None

    def _is_new(self, parameters: Parameters) -> bool:
        if _key(parameters) in self._met:
            return False
        fingerprint = self._of(parameters)
        return fingerprint is not None and fingerprint not in self._architectures

    def _of(self, parameters: Parameters) -> str | None:
        key = _key(parameters)
        if key not in self._fingerprints:
            try:
                self._fingerprints[key] = self._fingerprint(parameters)
            except UserError:
                self._fingerprints[key] = None
        return self._fingerprints[key]


def _key(parameters: Parameters) -> frozenset[tuple[str, str]]:
    """A combination whatever the order of its knobs. By `repr`: 1, 1.0 and true are three values."""
    return frozenset((name, repr(value)) for name, value in parameters.items())
