"""The sentence for limits and rules that too many candidates in a row did not pass."""

from collections.abc import Sequence

from harness.search.candidates import Candidate
from harness.search.gate import UNKNOWN
from harness.trials.limits import LatencyLimit, Limits


def unmet(refused: Sequence[Candidate], reasons: Sequence[str], limits: Limits) -> str:
    """Which limits none of these candidates met, and the smallest value seen; without such a limit, the last reason."""
    asked = [candidate for candidate in refused if candidate.violations]
    sentences = []
    for name, limit in limits.items():
        smallest = min((candidate.violations[name] for candidate in asked), default=0.0)
        if smallest > 0 and smallest != UNKNOWN:
            most = limit.at_most if isinstance(limit, LatencyLimit) else limit
            sentences.append(
                f"none has {name} of at most {most:,.6g}, the smallest seen is {(1 + smallest) * most:,.6g}"
            )
    if not sentences or any(isinstance(limit, LatencyLimit) for limit in limits.values()):
        sentences.append(f"the last because {reasons[-1]}")  # it says whether a latency was measured or predicted
    what = "; ".join(sentences)
    return f"{len(reasons):,} candidates in a row were refused: {what}; loosen the limits or change the space"
