"""Published ratios: two latencies of one source on one chip, or one generation of the engine, that isolate an effect.

They say more about an effect than absolute times, in which sources differ by a fifth. `published_ratios.csv` names the
two networks as published.csv does; `b_layout` is `query-tiled` where b never writes attention's scores to memory;
`fitted` is yes where the fit sees the ratio, without which matmuls and scores cannot be told apart; `out` says why a
row is not counted: networks that are there are predicted all the same.
"""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from harness.predictor.fit import Fitted, Pair, Point, fit
from harness.predictor.published import FOLDER, published_rows, read_counts
from harness.predictor.roofline import INDEX

TABLE = FOLDER / "published_ratios.csv"
TILED = "query-tiled"


@dataclass(frozen=True, kw_only=True, slots=True)
class Ratio:
    what: str
    printed: str  # "2.4 to 2.6" where it is a range
    out: str  # why it is not counted; empty where it is
    fitted: bool
    pair: Pair | None  # None where a network is not rebuilt

    def of(self, fitted: Fitted) -> float:
        assert self.pair is not None
        a, b = (fitted.predict(one.operators, one.chip, one.weight_bits) for one in (self.pair.a, self.pair.b))
        return a / b


def published_ratios() -> list[Ratio]:
    networks = {row.network: row for row in published_rows()}
    counts = read_counts()

    def point(row: Mapping[str, str], side: str) -> Point:
        known = networks[row[f"{side}_network"]]
        operators = counts[known.network].copy()
        if row.get(f"{side}_layout") == TILED:
            operators[:, INDEX["scores"]] = 0
        return Point(
            model=known.model,
            network=known.network,
            family=known.family,
            series=known.series,
            chip=row[f"{side}_chip"],
            latency_ms=1.0,  # not known, and not used
            weight_bits=float(row[f"{side}_bits"]),
            operators=operators,
        )

    with TABLE.open(newline="") as file:
        return [
            Ratio(
                what=f"{row['what']}, {row['device']}: {row['a']} / {row['b']}",
                printed=row["ratio"],
                out=row["out"],
                fitted=row["fitted"] == "yes",
                pair=Pair(a=point(row, "a"), b=point(row, "b"), ratio=float(row["ratio"]))
                if row["a_network"]
                else None,
            )
            for row in csv.DictReader(file)
        ]


def published_pairs() -> list[Pair]:
    """Those that the fit sees."""
    return [ratio.pair for ratio in published_ratios() if ratio.fitted and ratio.pair is not None]


def predicted_ratios(ratios: Sequence[Ratio], points: Sequence[Point], start: Fitted) -> list[float | None]:
    """Each by a fit without the series of its networks; None where a network is not rebuilt. `start` saves time."""
    pairs = published_pairs()
    unlike: dict[str, Fitted] = {}
    predicted: list[float | None] = []
    for ratio in ratios:
        if ratio.pair is None:
            predicted.append(None)
            continue
        series = ratio.pair.a.series  # b's too: each is of one network, or of kin
        if series not in unlike:
            unlike[series] = fit([point for point in points if point.series != series], pairs, start)
        predicted.append(ratio.of(unlike[series]))
    return predicted
