"""What a training said of itself stands at the top of its pages; and that a teacher of many steps plays one of few."""

from dataclasses import replace
from typing import Any

import pytest
from test_chain_page import chain, page_of  # noqa: F401 (a fixture)

from harness.commands.pages import _said
from harness.reporting.remarks import MOST, remarks_in, teacher_played

REMARK = "step 400: over the last 100 steps the discriminator has told at least 99% of the real samples"
OBJECTIVE = {"kind": "step_distillation", "steps": 4, "teacher_steps": 16, "distillation_weight": 1.0}
PLAYED = "no teacher of few steps is used, and one of many plays it: where one of the student's 4 steps leads, 16 of"


def distilled(record: Any) -> Any:
    """The same record, under its key, of such a training."""
    return replace(record, protocol={**record.protocol, "objective": OBJECTIVE}, provenance={"notes": [REMARK]})


def test_an_ablations_page_has_them_at_its_top(synthetic: Any) -> None:
    assert "Told while training" not in synthetic.write()
    synthetic.store.put(distilled(synthetic.record("mqa", 1)))
    page = synthetic.write()
    assert f"MHSA to MQA, seed 1: {REMARK}." in page
    assert page.index("remarks of 1 training") < page.index(REMARK)
    assert f"MHSA to MQA: {PLAYED}".replace("'", "&#39;") in page


def test_a_chains_page_has_them_too(chain: Any) -> None:  # noqa: F811
    summary = chain()
    few = next(each.trials[0] for each in summary.networks if each.name == "few_steps")
    assert "Told while training" not in page_of(chain, summary)
    chain.store.put(distilled(chain.store.trial(few)))
    page = page_of(chain, summary)
    assert f"Few_Steps, seed 0: {REMARK}." in page
    assert f"Few_Steps: {PLAYED}".replace("'", "&#39;") in page


def test_so_does_a_trials(synthetic: Any) -> None:
    said = list(_said(distilled(synthetic.record("mqa", 0))))
    assert said[0] == f"{REMARK}."
    assert said[1].startswith(PLAYED)


def test_a_teacher_of_some_rungs_stands_in_the_protocol_with_whom_it_teaches(synthetic: Any) -> None:
    """The study's protocol is the first rung's, which has none."""
    teacher = {"kind": "trained", "weights": "0123456789abcdef", "guidance_scale": 1.5, "precision": "recipe"}
    for rung in ("mqa", "ffn3"):
        for seed in (0, 1):
            record = synthetic.record(rung, seed)
            synthetic.store.put(replace(record, protocol={**record.protocol, "teacher": teacher}))
    synthetic.definition["sections"] = ["protocol"]
    page = " ".join(synthetic.write().split())
    line = page[page.index('data-protocol="Teacher"') :]
    assert "0123456789abcdef" in line[:600]
    assert "FFN expansion 4 to 3 and MHSA to MQA" in line[:600]
    assert page.count('data-protocol="Teacher"') == 1


@pytest.mark.parametrize(
    "changed", [{"teacher_steps": 1}, {"distillation_weight": 0.0}, {"kind": "distillation", "teacher_steps": 1}]
)
def test_a_teacher_of_few_steps_plays_nobody(synthetic: Any, changed: dict[str, Any]) -> None:
    record = synthetic.record("mqa", 0)
    assert teacher_played(record) == ""
    assert teacher_played(replace(record, protocol={"objective": OBJECTIVE | changed})) == ""


def test_of_many_remarks_the_first_stand_there_and_how_many_more(synthetic: Any) -> None:
    record = replace(synthetic.record("mqa", 0), provenance={"notes": [f"step {step}" for step in range(MOST + 3)]})
    remarks = remarks_in({("mqa", 0): record, ("ffn3", 0): None}, {"mqa": "MQA"})
    assert remarks[0] == "MQA, seed 0: step 0"
    assert remarks[MOST:] == ["and 3 more, in the records"]
