"""What a chain would take: each stage's compute by `harness.trials.estimates`, of networks that are trained or, before
their promotion, like the base of the space that is searched. And what is wrong with a stage, before any runs."""

import tempfile
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from harness.architecture.catalogue import architecture
from harness.architecture.config import ArchitectureConfig
from harness.architecture.decoder import DecoderConfig
from harness.chain.definition import TRAINED, ChainStudy
from harness.chain.samples import score_grid
from harness.chain.settings import KEY, check_seeds, searched
from harness.chain.stages import Chain
from harness.coreml.config import Mlprogram
from harness.latency.predicted import PredictedLatency
from harness.launch.config import jobs_at_once
from harness.models.autoencoder_config import PixelsAutoencoder
from harness.records.errors import UserError, unknown_name
from harness.records.eta import duration
from harness.records.manifest import study_folder
from harness.records.plain import canonical_json, from_plain, identity
from harness.records.yaml_text import write_yaml
from harness.search.definition import definition_of
from harness.search.estimate import sweep_trainings
from harness.search.space import read_space
from harness.search.status import read_stored
from harness.training.objective_config import FlowMatchingConfig, teacher_of
from harness.training.speed import FORWARD
from harness.trials.checks import check_study
from harness.trials.estimates import Throughput, Training, scoring_flops, throughput_of, training_of
from harness.trials.outcomes import quantity_names
from harness.trials.prepared import prepare
from harness.trials.promoted import LONGER
from harness.trials.protocols import latents_of
from harness.trials.rehearsal import Rehearsal, rehearse
from harness.trials.settings import Settings, settings_of
from harness.trials.single import DEFAULTS
from harness.trials.study_data import pictures_of
from harness.trials.twins import with_twin


def check_chain(chain: Chain) -> None:
    """UserError for the first stage whose settings, architecture or files are wrong: nothing has run, and a later
    stage's mistake shall not be found after hours. Writes nothing."""
    for stage in chain.study.stages:
        try:
            _check_stage(chain, stage)
        except UserError as error:
            raise UserError(f"{chain.file}, stage {stage}: {error}") from error


def _check_stage(chain: Chain, stage: str) -> None:
    study = chain.study
    if stage == "search":
        _check_search(study)
    elif stage == "promote":
        _check_promotion(chain)
    elif stage in TRAINED:
        settings, before = about(chain, stage), chain.before(stage)
        if settings.count_only:
            raise UserError("count_only trains nothing, and a chain does; leave it out")
        if (teacher := teacher_of(settings.objective)) is not None and stage == "teacher":
            raise UserError(f"a teacher learns from the data, not from {teacher}; leave out its objective")
        if before and settings.initial == KEY:
            check_seeds(settings.seeds, before, about(chain, before).seeds)
        check_study(settings, [chain.architecture_of(stage)])
    elif stage == "decoder":
        _check_decoder(chain)
    elif stage == "export":
        own = study.stage("export")
        flags = {"target": own.target, "layout": own.layout, "bits": own.bits}
        from_plain(Mlprogram, {name: value for name, value in flags.items() if value is not None})
    elif stage == "total":
        for chip in study.stage("total").chips:
            PredictedLatency(chip=chip)
        if any(steps < 1 for steps in study.stage("total").steps):
            raise UserError(f"steps are passes of the network, each at least 1, not {list(study.stage('total').steps)}")


def about(chain: Chain, stage: str) -> Settings:
    """A training's settings, in which keys that are not known yet stand as `KEY`."""
    return settings_of((), {**DEFAULTS, **chain.settings_of(stage), "out": str(chain.out)})


def _check_search(study: ChainStudy) -> None:
    """As `harness sweep` would, which reads a file."""
    content = {name: value for name, value in searched(study).items() if value is not None}
    with tempfile.TemporaryDirectory(prefix="harness-chain-") as place:
        path = Path(place) / "search.yaml"
        path.write_text(write_yaml(content))
        try:
            definition, settings = definition_of(str(path), ())
            space = read_space(definition.space)
            check_study(settings, [architecture(space.base)])
        except UserError as error:
            raise UserError(str(error).replace(f"{path}: ", "").replace(str(path), "the sweep")) from error


def _check_promotion(chain: Chain) -> None:
    """What it asks the search's trials for, they have."""
    own, sweep = chain.study.stage("promote"), chain.sweep
    measured = quantity_names(settings_of((), with_twin(sweep.settings, sweep.twin)))
    for name in filter(None, (own.score, own.cost, *own.at_most)):
        if name not in measured:
            raise unknown_name("quantity", name, measured)


def _check_decoder(chain: Chain) -> None:
    """It takes the latents that the networks make, and makes pictures of their size: what trains it fits its channels
    to the data, and one that is not trained is taken as it is."""
    settings, name = about(chain, "train"), chain.study.stage("decoder").architecture
    if isinstance(settings.autoencoder, PixelsAutoencoder):
        raise UserError(
            f"data={settings.data.kind} with autoencoder=pixels has no latents, and its network makes pictures itself; "
            "leave out decoder"
        )
    if not isinstance(decoder := architecture(name), DecoderConfig):
        raise UserError(f"{name} is no decoder, but a {type(decoder).__name__}; name one, such as decoder/tiny")
    latents, is_trained = latents_of(settings.autoencoder), bool(chain.study.own("decoder"))
    if not is_trained and decoder.latent_channels != latents["channels"]:
        raise UserError(
            f"{name} takes latents of {decoder.latent_channels} channels, and autoencoder={settings.autoencoder.kind} "
            f"makes them of {latents['channels']}; name one that takes these, or train it: decoder: {{settings: ...}}"
        )
    if decoder.upsampling != latents["downsampling"]:
        raise UserError(
            f"{name} makes pictures of {decoder.upsampling} times the latent's side, and those of autoencoder="
            f"{settings.autoencoder.kind} have {latents['downsampling']} times it; name a decoder of "
            f"{int(latents['downsampling']).bit_length()} stages"
        )
    if is_trained:
        check_study(about(chain, "decoder"), [decoder])


@dataclass(frozen=True, kw_only=True, slots=True)
class Work:
    """Of one stage."""

    flops: float
    at_once: int
    """Of its jobs, at most."""
    throughput: Throughput
    alone: float = 0.0
    """Of the FLOP, those of commands that run one after another."""

    @property
    def seconds(self) -> float | None:
        if self.throughput.flops is None:
            return None
        return ((self.flops - self.alone) / self.at_once + self.alone) / self.throughput.flops


class Plan:
    """Of what is left of each stage; `until`: the last."""

    def __init__(self, chain: Chain, until: str | None = None) -> None:
        self.chain, self.study = chain, chain.study
        self.stages = list(self.study.stages)
        self.stages = self.stages[: self.stages.index(until) + 1] if until is not None else self.stages
        self._fits: dict[str, Rehearsal] = {}

    def work(self, stage: str) -> Work | None:
        """What is left of one that was looked at; None for one that is done, or computes little: minutes at most."""
        if self.chain.looked[stage].done:
            return None
        if stage == "search":
            return self._search()
        return self._training(stage) if stage in TRAINED or self._trains_decoder(stage) else None

    def _trains_decoder(self, stage: str) -> bool:
        return stage == "decoder" and bool(self.study.own(stage))

    def left(self, from_stage: str) -> str:
        """What the stages from this one, which was looked at, are expected to take: `about 12 min left`; empty where
        nothing tells."""
        first, *others = self.stages[self.stages.index(from_stage) :]
        for stage in others:
            self.chain.look(stage)
        works = [self.work(each) for each in (first, *others)]
        seconds = [each.seconds for each in works if each is not None]
        known = [each for each in seconds if each is not None]
        if not known or len(known) < len(seconds):
            return ""
        return f"about {duration(sum(known))} left"

    def _search(self) -> Work:
        settings = settings_of((), self._search_settings)
        definition, network = self.chain.sweep, self._fitted("search", settings)
        trainings = sweep_trainings(definition, self._budgets, network, read_space(definition.space))
        return self._work(_without(trainings, self._ended()), settings, network)

    def _ended(self) -> Counter[tuple[int, int]]:
        """How many of the search's trainings there are, by the steps at which each ended and began."""
        stored = read_stored(study_folder(self.chain.out, self.chain.search_name), self.chain.search_name)
        if stored is None:
            return Counter()
        begins = dict(zip(self._budgets, (0, *self._budgets[:-1]), strict=True))
        results = [each.steps for candidate in stored.candidates for each in candidate.levels if each.values]
        ended = Counter((steps, begins[steps]) for steps in results if steps in begins)
        again = [each for scores in stored.rescored.values() for each in scores if not each.running]
        return ended + Counter({(self._budgets[-1], 0): len(again)})

    @cached_property
    def _budgets(self) -> tuple[int, ...]:
        """The search's, in steps: what epochs come to is told by the data."""
        settings, definition = settings_of((), self._search_settings), self.chain.sweep
        pictures = pictures_of(settings).train if definition.epochs else 0
        if definition.epochs and not pictures:
            pictures = prepare(settings).training_pictures
        return definition.budgets_for(pictures, settings.recipe.batch_size) or (settings.recipe.steps,)

    @cached_property
    def _search_settings(self) -> Mapping[str, Any]:
        definition = self.chain.sweep
        return {**with_twin(definition.settings, definition.twin), "out": str(self.chain.out)}

    def _training(self, stage: str) -> Work | None:
        """Of the seeds that are not trained, and of the networks that are not scored."""
        settings = about(self.chain, stage)
        training = replace(self._fitted(stage, settings), steps=self._steps(stage, settings))
        work = self._work([training] * self._seeds_left(stage, settings), settings, training)
        scores = self._scores(stage, settings, training.macs) if stage == "few_steps" else 0.0
        flops = work.flops + scores
        return replace(work, flops=flops, alone=scores) if flops else None

    def _steps(self, stage: str, settings: Settings) -> int:
        """By the promotion, where that is to come and nothing else says it: what epochs come to is not in it yet."""
        is_promoted = stage not in ("teacher", "decoder") and "promote" in self.study.stages
        is_to_come = is_promoted and self.chain.promoted is None and bool(self.chain.sweep.epochs)
        if is_to_come and "recipe.steps" not in self.chain.settings_of(stage):
            return LONGER * self._budgets[-1]
        return settings.recipe.steps

    def _seeds_left(self, stage: str, settings: Settings) -> int:
        looked = self.chain.looked[stage]
        if looked.steps[0].done:  # `harness train`
            return 0
        if not looked.keys:
            return len(settings.seeds)
        records = [self.chain.store.trial(key) for key in looked.keys.values()]
        return sum(record is None or record.state != "complete" for record in records)

    def _work(self, trainings: list[Training], settings: Settings, like: Training) -> Work:
        flops = sum(each.flops(settings.recipe) + scoring_flops(each, settings) for each in trainings)
        at_once = max(1, min(len(trainings), jobs_at_once(settings.launcher)))
        records = list(self.chain.store.trials())  # those that came since, too
        return Work(flops=flops, at_once=at_once, throughput=throughput_of(settings, records, [like]))

    def _fitted(self, stage: str, settings: Settings) -> Training:
        """Of the stage's network, whose weights and teacher may be still to come."""
        config = architecture(read_space(self.chain.sweep.space).base) if stage == "search" else None
        config = config or self.chain.architecture_of(stage)
        fit = self._fit(stage, config, settings)
        training = training_of(fit.networks[config.fingerprint], fit.side, settings, fit.teacher)
        if fit.teacher is not None or teacher_of(settings.objective) is None:
            return training
        macs = self._teacher.macs if "teacher" in self.study.stages else training.macs
        return replace(training, teacher_macs=settings.objective.passes.of_teacher * macs)

    def _fit(self, stage: str, config: ArchitectureConfig, settings: Settings) -> Rehearsal:
        """Of its network and a teacher that it names, fitted to the data; once, since data takes seconds to load. What
        the chain itself is still to train is left out."""
        if stage != "decoder":
            is_here = stage in self.study.stages and self.study.names_teacher(stage)
            objective = settings.objective if is_here else FlowMatchingConfig()
            settings = replace(settings, objective=objective, initial=None)
        sees = identity({name: getattr(settings, name) for name in ("task", "data", "autoencoder", "text")})
        fit_key = f"{config.fingerprint} {canonical_json(sees)} {teacher_of(settings.objective)}"
        if fit_key not in self._fits:
            self._fits[fit_key] = rehearse(settings, {config.fingerprint: config})
        return self._fits[fit_key]

    @cached_property
    def _teacher(self) -> Training:
        return self._fitted("teacher", about(self.chain, "teacher"))

    def _scores(self, stage: str, settings: Settings, macs: int) -> float:
        """Of the networks that are still to be scored, its own and the one before, at all that is asked for."""
        before = about(self.chain, self.chain.before(stage))
        grid = score_grid(self.study.stage(stage).scored_at, settings.sampling, before.sampling)
        passes = sum(point.evaluations for point in grid.points)
        steps = self.chain.looked[stage].steps
        to_score = [step.words[1] for step in steps if step.words[0] == "evaluate" and not step.done]
        networks = sum(len(settings.seeds) if key == KEY else 1 for key in to_score)  # one KEY is of all seeds
        return float(networks * FORWARD * macs * passes * settings.quality.samples)


def _without(trainings: Sequence[Training], ended: Counter[tuple[int, int]]) -> list[Training]:
    """Those that are left of them."""
    left, ended = [], ended.copy()
    for each in trainings:
        if ended[of := (each.steps, each.begins_at)]:
            ended[of] -= 1
        else:
            left.append(each)
    return left


def plan_lines(chain: Chain, until: str | None) -> Iterable[str]:
    """Every stage with its commands, what stands of it, and what it would take."""
    plan, works = Plan(chain, until), list[Work]()
    total: float | None = 0.0
    for number, stage in enumerate(plan.stages, 1):
        looked, work = chain.look(stage), plan.work(stage)
        to_run = [step for step in looked.steps if not step.done]
        estimate = ""
        if work is not None:
            works.append(work)
            known = "time not known" if work.seconds is None else f"about {duration(work.seconds)}"
            estimate = f", {work.flops / 1e12:.3g} TFLOP, {known}"
            total = None if total is None or work.seconds is None else total + work.seconds
        state = "done" if looked.steps and not to_run else "of which export and total hear" * (not looked.steps)
        yield f"{number} of {len(plan.stages)}, {stage}{f': {state}' if state else ''}{estimate}"
        for edit in (edit for step in to_run for edit in step.edited):
            yield f"    edited: {edit}"
        yield from (f"    {step.command}" for step in to_run)
    if works:
        total_text = "time: not known" if total is None else f"in all about {duration(total)} of training and scores"
        yield f"{total_text}; {works[0].throughput.source}"
    yield "not counted: data, controls, validation, a discriminator's heads, and some seconds until each command begins"
