"""Where two plain values differ: `recipe.batch_size`, before and after."""

from dataclasses import dataclass

from harness.records.plain import Plain


@dataclass(frozen=True, slots=True)
class Difference:
    path: str  # "" where the two are no mappings
    before: Plain  # None where it was not there
    after: Plain

    def __str__(self) -> str:
        """`knobs.ffn.choices: [2, 3] -> [2, 4]`."""
        return f"{self.path}: {self.before} -> {self.after}" if self.path else f"{self.before} -> {self.after}"


def differences(before: Plain, after: Plain, path: str = "") -> list[Difference]:
    """The innermost places at which the mappings differ, in the order of `before`."""
    if not (isinstance(before, dict) and isinstance(after, dict)):
        return [] if before == after else [Difference(path, before, after)]
    return [
        difference
        for key in {**before, **after}
        for difference in differences(before.get(key), after.get(key), f"{path}.{key}" if path else key)
    ]
