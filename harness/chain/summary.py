"""What a chain's page is of: read from the store, from the files that its commands wrote, and from its log."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from harness.chain.definition import TRAINED
from harness.chain.runner import read_log
from harness.chain.stages import Chain
from harness.chain.step import Looked
from harness.diffusion.config import SamplingConfig
from harness.records.chain_summary import ChainSummary, Cost, StageNetwork, StagePicture, StageRun
from harness.records.errors import UserError
from harness.records.judging import Judging
from harness.records.manifest import Promotion, study_folder
from harness.records.plain import identity
from harness.records.quantity import value_of
from harness.records.record import Protocol, TrialRecord
from harness.records.sweep_summary import SweepSummary
from harness.search.status import sweep_summary
from harness.search.study import SWEEP_FILE
from harness.trials.estimates import flops_of
from harness.trials.initial import INITIAL
from harness.trials.task_config import task_of

TITLES = {
    "search": "Promoted candidate, as searched",
    "teacher": "Teacher",
    "train": "Trained",
    "distil": "Distilled",
    "few_steps": "In few steps",
}
VARIED = ("objective", "teacher", INITIAL, "recipe", "sampling")
"""Sections of the protocol in which stages differ: it is what they do."""


def summary_of(chain: Chain, command: str) -> ChainSummary:
    """Of a chain whose stages may be still to come: what there is of it."""
    looked = {stage: chain.looked.get(stage) or chain.look(stage) for stage in chain.study.stages}
    if "train" not in looked:
        raise UserError(f"the page of a chain is of what it trains, and {chain.name} has no stage train; add it")
    search, trained = _search(chain), looked["train"]
    protocol = _protocol(chain, trained)
    own = None if "few_steps" not in looked else looked["few_steps"].settings
    return ChainSummary(
        name=chain.name,
        command=command,
        summary=chain.study.summary,
        networks=tuple(_networks(chain, search)),
        runs=_runs(chain, looked),
        seeds=tuple(trained.keys) or (0,),
        protocol=protocol.sections,
        protocol_fingerprint=protocol.fingerprint,
        judging=_judging(trained),
        varied=VARIED,
        few_steps={} if own is None else identity(own.sampling),  # type: ignore[arg-type]
        decoder=_decoder(chain),
        search=search,
        search_cost=None if search is None else cost_of(_candidates(chain, search)),
        pictures=tuple(_pictures(chain)),
        exports=_said(chain, "export", looked),
        totals=_said(chain, "total", looked),
        report=chain.study.report,
    )


def _search(chain: Chain) -> SweepSummary | None:
    """None before it began."""
    if "search" not in chain.study.stages:
        return None
    folder = study_folder(chain.out, chain.search_name)
    return sweep_summary(folder, chain.search_name) if (folder / SWEEP_FILE).exists() else None


def _decoder(chain: Chain) -> dict[str, float]:
    if (record := chain.record("decoder")) is None:
        return {}
    scores = task_of(record.protocol).judging.scores
    return {name: value for name in scores if (value := value_of(record.quantities.get(name))) is not None}


def _protocol(chain: Chain, trained: Looked) -> Protocol:
    """Of `train`: its record's."""
    records = [record for key in trained.keys.values() if (record := chain.store.trial(key)) is not None]
    return Protocol(sections=records[0].protocol if records else {})


def _judging(trained: Looked) -> Judging:
    settings = trained.settings
    assert settings is not None  # of a training
    return settings.task.judged(settings)


def _networks(chain: Chain, search: SweepSummary | None) -> Iterable[StageNetwork]:
    promoted = None if chain.promoted is None else chain.promoted.origin
    if promoted is not None and promoted.trial:
        record = chain.store.trial(promoted.trial)
        yield StageNetwork(
            name="search",
            title=TITLES["search"],
            trials={promoted.seed or 0: promoted.trial},
            before=None,
            cost=cost_of([] if record is None else [record]),
            chosen_among=_best_of(chain, promoted.promotion),
            **_sampled(record),
        )
    for stage in chain.study.trained:
        keys = chain.looked[stage].keys
        if keys:
            records = [record for key in keys.values() if (record := chain.store.trial(key)) is not None]
            yield StageNetwork(
                name=stage,
                title=TITLES[stage],
                trials=keys,
                before=_before(chain, stage, promoted is not None and search is not None),
                cost=cost_of(records),
                **_sampled(records[0] if records else None),
            )


def _best_of(chain: Chain, promotion: Promotion) -> int:
    """How many candidates it is the best of, by one training each and the score that ranks; 0 where a rule chose
    otherwise."""
    judging, score = _judging(chain.looked["train"]), chain.study.stage("promote").score
    is_so = promotion.rule == "best" and promotion.basis == "search" and score in (None, judging.first)
    return promotion.among if is_so else 0


def _before(chain: Chain, stage: str, is_promoted: bool) -> str | None:
    if stage == "train":
        return "search" if is_promoted else None
    return chain.before(stage) or None if stage != "teacher" else None


def _sampled(record: TrialRecord | None) -> dict[str, Any]:
    """How a trial samples."""
    if record is None or "sampling" not in record.protocol:
        return {}
    plain = record.protocol["sampling"]
    known = SamplingConfig(**{name: _tuple(value) for name, value in plain.items()})
    return {"passes": known.evaluations, "sampling": sampled_text(known.solver, known.steps, known.guidance_scale)}


def _tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def sampled_text(solver: str, steps: int, guidance: float) -> str:
    """`10 steps of euler, guidance 1.25`."""
    guided = "no guidance" if guidance == 1 else f"guidance {guidance:g}"
    return f"{steps} step{'s' if steps != 1 else ''} of {solver}, {guided}"


def _candidates(chain: Chain, search: SweepSummary) -> list[TrialRecord]:
    """Each candidate at the highest budget that it reached, which holds what it took from step 0; and the finalists."""
    keys = [each.key for each in search.candidates if each.key]
    if search.conclusions is not None:
        keys += [key for finalist in search.conclusions.finalists for key in finalist.trials.values()]
    return [record for key in keys if (record := chain.store.trial(key)) is not None]


def cost_of(records: Sequence[TrialRecord]) -> Cost:
    steps = {int(each.protocol["recipe"]["steps"]) for each in records if "recipe" in each.protocol}
    flops = [flops_of(each) for each in records]
    known = [each for each in flops if each is not None]
    return Cost(
        trainings=len(records),
        steps=steps.pop() if len(steps) == 1 else 0,
        train_seconds=sum(value_of(each.quantities.get("train_seconds")) or 0.0 for each in records),
        cpu_seconds=sum(float(each.provenance.get("cpu_seconds") or 0.0) for each in records),
        gpu_seconds=sum(float(each.provenance.get("gpu_seconds") or 0.0) for each in records),
        flops=sum(known) if len(known) == len(flops) else None,
    )


def _runs(chain: Chain, looked: dict[str, Looked]) -> tuple[StageRun, ...]:
    log = read_log(chain.folder)
    runs = []
    for stage, each in looked.items():
        ended = [ran for ran in log if ran.stage == stage]
        runs.append(
            StageRun(
                name=stage,
                commands=tuple(step.command for step in each.steps),
                done=all(step.done or (step.output is not None and step.output.is_file()) for step in each.steps),
                tries=len(ended),
                failures=sum(ran.status != 0 for ran in ended),
                seconds=sum(ran.seconds for ran in ended),
            )
        )
    return tuple(runs)


def _pictures(chain: Chain) -> Iterable[StagePicture]:
    """Of each trained stage, and of the one before the last at its few steps: those of the networks that there are."""
    for stage in chain.study.stages:
        if stage not in TRAINED:
            continue
        for step in chain.looked[stage].steps:
            if step.words[0] == "sample" and (path := Path(step.words[step.words.index("--to") + 1])).is_file():
                whose = next(name for name, key in chain.keys.items() if key == step.words[1])
                yield StagePicture(title=_picture_title(chain, whose, stage), name=whose, content=path.read_bytes())


def _picture_title(chain: Chain, whose: str, stage: str) -> str:
    """Whose samples, and how many passes each took."""
    settings = chain.looked[stage].settings
    assert settings is not None
    how = settings.sampling
    return f"{TITLES[whose]}: {sampled_text(how.solver, how.steps, how.guidance_scale)}"


def _said(chain: Chain, stage: str, looked: dict[str, Looked]) -> tuple[dict[str, Any], ...]:
    """What the stage's commands printed in JSON."""
    steps = looked[stage].steps if stage in chain.study.stages else ()
    there = [step.output for step in steps if step.output is not None and step.output.is_file()]
    return tuple(json.loads(path.read_text()) for path in there)
