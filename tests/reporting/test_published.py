"""The published numbers: as printed, each with its label, nothing where nothing is known."""

from pathlib import Path

import pytest
import yaml

from harness.records.errors import UserError
from harness.records.plain import from_plain
from harness.reporting.published import LABELS, Published, PublishedCell

FOLDER = Path(__file__).parents[2] / "reports" / "published"


def load(name: str) -> Published:
    return from_plain(Published, yaml.safe_load((FOLDER / f"{name}.yaml").read_text()))


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_published_number_has_a_known_label(path: Path) -> None:
    for row in load(path.stem).rows.values():
        for cell in row.cells.values():
            assert cell.labels
            assert set(cell.labels) <= set(LABELS)


def test_fig3_as_printed() -> None:
    """Rung by rung: FID, parameters, FLOPs, latency; empty where the paper's bars are an image."""
    fig3 = load("fig3")
    printed = {
        "thin_sdxl": ("3.76", "", "", ""),
        "no_high_res_sa": ("3.12 (lower)", "", "−17%", "−24%"),
        "sepconv": ("3.38 (higher)", "−24%", "", "−62%"),
        "expanded_sepconv": ("lower than rung 1's", "−15%", "−27%", "2.4x faster"),
        "ffn3": ("comparable", "−12%", "−12%", ""),
        "mqa": ("about the same", "−16%", "−6%", "−9%"),
        "first_stage_ca": ("better", "smaller", "fewer", "faster"),
        "qknorm_rope": ("better", "~0", "~0", "~0"),
    }
    assert list(fig3.rows) == list(printed)
    for rung, texts in printed.items():
        cells = (fig3.cell(rung, column) for column in ("fid", "params", "flops", "latency"))
        assert tuple(cell.shown if cell else "" for cell in cells) == texts
    assert fig3.rows["expanded_sepconv"].against == "no_high_res_sa"
    assert fig3.cell("expanded_sepconv", "latency").change == pytest.approx(1 / 2.4 - 1, abs=1e-3)  # type: ignore[union-attr]


def test_the_direction_of_a_printed_fid_is_that_of_the_printed_values() -> None:
    fig3 = load("fig3")
    for rung, row in fig3.rows.items():
        ours, theirs = fig3.cell(rung, "fid"), fig3.cell(row.against or "", "fid")
        if ours and theirs and ours.value and theirs.value:
            assert ours.claimed == ("lower" if ours.value < theirs.value else "higher")


def test_tables_as_printed() -> None:
    tab1, tab2, device = load("tab1"), load("tab2"), load("on_device")
    assert {row: tuple(c.value for c in tab1.rows[row].cells.values()) for row in tab1.rows} == {
        "ldm_4": (400, 104, 3.60), "uvit_l": (287, 77, 3.40), "uvit_h": (501, 133, 2.29),
        "dit_xl_2": (675, 119, 2.27), "sit_xl_2": (675, 119, 2.06), "snapgen": (372, 38, 2.06),
    }  # fmt: skip
    assert tab2.cell("decoder/sdxl", "params").shown == "49.49"  # type: ignore[union-attr]
    assert tab2.cell("decoder/sd3", "latency_gpu").shown == "OOM"  # type: ignore[union-attr]
    assert tab2.cell("decoder/tiny", "latency_gpu") is None
    assert [cell.value for cell in device.rows["snapgen_t2i"].cells.values()] == [379, 274, 119, 1.2, 2.3]


def test_what_is_wrong_is_refused() -> None:
    with pytest.raises(UserError, match="needs a source label"):
        PublishedCell(labels=(), value=1.0)
    with pytest.raises(UserError, match="unknown source label 'Q'"):
        PublishedCell(labels=("Q",), value=1.0)
    with pytest.raises(UserError, match="says nothing"):
        PublishedCell(labels=("P",))
    with pytest.raises(UserError, match="is not 'higher'"):
        PublishedCell(labels=("P",), change=-0.2, direction="higher")
