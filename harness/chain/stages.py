"""Each stage's commands, as a user would type them, and which are still to be run: what stands in the store, for
exactly these settings, is done.

    OUT/chains/NAME/NAME-search-DIGITS.yaml   the sweep; the digits are those of what it searches
    OUT/chains/NAME/NAME-promoted.yaml        what `harness promote` wrote
    OUT/chains/NAME/NAME-train.yaml           what `harness train` trains by; likewise of each other training
    OUT/chains/NAME/NAME-train-KEY-DIGITS.png samples, all stages' from the same noise; likewise of each other training;
                                              the digits are those of how it samples, and how many
    OUT/chains/NAME/NAME-export-DIGITS.json   what `harness export --json` said; the package lies beside it
    OUT/chains/NAME/NAME-total-CHIP.json      what `harness latency total --json` said

Any of the YAMLs goes on by hand. Those of trainings are written by the chain, and written again when it was edited.
"""

from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

from harness.architecture.catalogue import architecture
from harness.architecture.config import ArchitectureConfig
from harness.chain.definition import TRAINED, ChainStudy, Total, chain_folder
from harness.chain.promotion import chosen_now, promote_step
from harness.chain.samples import ScoreGrid, sample_step, score_grid, score_step
from harness.chain.settings import KEY, expected, searched, sweep_of, trained_by
from harness.chain.step import DIGITS, Looked, Step
from harness.diffusion.config import SamplingConfig
from harness.records.errors import UserError
from harness.records.manifest import TRAINING, study_folder
from harness.records.plain import canonical_json, differences, fingerprint, to_plain
from harness.records.record import TrialRecord
from harness.records.yaml_text import write_yaml
from harness.search.definition import Finalists, SweepStudy
from harness.search.space import read_space
from harness.search.status import StoredSweep, read_stored
from harness.trials.outcomes import finished
from harness.trials.prepared import prepare
from harness.trials.promoted import Origin, Promoted, promoted_in, written
from harness.trials.settings import settings_of
from harness.trials.single import DEFAULTS, specs_of, unedited
from harness.trials.spec import TrialSpec, store_of
from harness.trials.trained import WEIGHTS
from harness.trials.twins import with_twin

OF_SEARCH = ("space", "objectives", "budgets", "epochs", "reduction", "twin", "enqueue")
"""What makes another search, beside the settings that change a result; the rest goes on with it."""
OF_MACHINE = ("launcher", "tracker", "watch", "parallel", "out", "limits", "coreml")


class Chain:
    """A chain and what stands of it. `look` goes from the first stage to the last: a later one is known when those
    before it are done."""

    def __init__(self, study: ChainStudy, file: Path, out: Path) -> None:
        self.study, self.file, self.out, self.name = study, file, out, file.stem
        self.folder, self.store = chain_folder(out, file.stem), store_of(out)
        self.looked: dict[str, Looked] = {}
        self._known_specs: dict[str, list[TrialSpec]] = {}  # of settings that were looked at: loading data takes time
        self._looks = {
            "search": self._search,
            "promote": self._promote,
            "few_steps": self._few_steps,
            "decoder": self._decoder,
            "export": self._export,
            "total": self._total,
        }

    def look(self, stage: str) -> Looked:
        """As it stands now."""
        look = self._looks.get(stage)
        self.looked[stage] = self._training(stage) if look is None else look()
        return self.looked[stage]

    # what earlier stages gave

    @property
    def keys(self) -> dict[str, str]:
        """Stage -> the key of its first seed, of those whose settings are known and whose trials are there."""
        return {stage: next(iter(each.keys.values())) for stage, each in self._known()}

    def record(self, stage: str) -> TrialRecord | None:
        key = self.keys.get(stage)
        return None if key is None else self.store.trial(key)

    @property
    def promoted_file(self) -> Path:
        return self.folder / f"{self.name}-promoted.yaml"

    @property
    def promoted(self) -> Promoted | None:
        """What the promotion wrote; None before it did, and in a chain without one."""
        is_done = "promote" in self.looked and self.looked["promote"].done
        return promoted_in(self.promoted_file) if is_done else None

    def settings_of(self, stage: str) -> dict[str, Any]:
        """What a stage is trained by; of one whose promotion is to come, about so."""
        base = None
        if "promote" in self.study.stages:
            base = self.promoted.settings if self.promoted is not None else expected(self.study, self.file)
        return trained_by(self.study, stage, base, {name: each.keys for name, each in self._known()})

    def _known(self) -> list[tuple[str, Looked]]:
        """The stages whose trials are known by their keys."""
        return [(stage, each) for stage, each in self.looked.items() if each.keys]

    def architecture_of(self, stage: str) -> ArchitectureConfig:
        """What a stage trains; where a promotion decides and is to come, the base of the space that is searched."""
        if stage in ("teacher", "decoder"):
            return architecture(str(self.study.stage(stage).architecture))
        if (named := self.study.stage("train").architecture) is not None:
            return architecture(named)
        if self.promoted is not None:
            return architecture(str(self.promoted_file))
        return architecture(read_space(self.sweep.space).base)

    # the stages

    @cached_property
    def sweep(self) -> SweepStudy:
        return sweep_of(self.study, self.file)

    @cached_property
    def search_name(self) -> str:
        """Of the sweep: what is another search has another name, since a study holds one."""
        content = searched(self.study)
        settings = {key: each for key, each in content["settings"].items() if key.split(".")[0] not in OF_MACHINE}
        space, twin = read_space(self.sweep.space), self._twin_base
        read = {  # names stay while their files change
            "space": space,
            "base": architecture(space.base).fingerprint,
            "twin_base": None if twin is None else twin.fingerprint,
        }
        what = {name: content.get(name) for name in OF_SEARCH} | {"settings": settings, "read": read}
        return f"{self.name}-search-{fingerprint(to_plain(what), schema='chain-1')[:DIGITS]}"

    @property
    def _twin_base(self) -> ArchitectureConfig | None:
        twin = settings_of((), with_twin(self.sweep.settings, self.sweep.twin)).twin
        return None if twin is None else twin.read()

    def _search(self) -> Looked:
        path, definition = self.folder / f"{self.search_name}.yaml", self.sweep
        content = {name: value for name, value in searched(self.study).items() if value is not None}
        head = f"# The search of the chain {self.name}: `harness sweep THIS_FILE` goes on with it.\n"
        stored = read_stored(study_folder(self.out, self.search_name), self.search_name)
        step = Step(
            words=("sweep", str(path), self._out),
            done=stored is not None and is_over(stored, definition.trials, definition.finalists),
            files={path: head + write_yaml(content, flow=None)},
            study=self.search_name,
            edited=self._other_searches() if stored is None else (),
        )
        return Looked(steps=(step,))

    def _other_searches(self) -> tuple[str, ...]:
        others = sorted(path.stem for path in self.folder.glob(f"{self.name}-search-*.yaml"))
        return (f"it is another search than {', '.join(others)}",) if others else ()

    def _promote(self) -> Looked:
        own, search = self.study.stage("promote"), self.looked.get("search")
        chosen = None if search is None else chosen_now(self.out, self.search_name, own, is_over=search.done)
        return Looked(steps=(promote_step(own, self.search_name, self.promoted_file, self.out, chosen),))

    def _training(self, stage: str) -> Looked:
        looked = self._trained(stage)
        return replace(looked, steps=(*looked.steps, *self._pictures(stage)))

    def _trained(self, stage: str) -> Looked:
        """Its file and its trials."""
        settings, config = self.settings_of(stage), self.architecture_of(stage)
        path, origin = self.file_of(stage), Origin(fingerprint=config.fingerprint, study=self.name, name=stage)
        if stage == "train" and self.promoted is not None and self.promoted.origin is not None:
            origin = self.promoted.origin
        head = [
            f"Stage {stage} of the chain {self.name}, which writes this file again when it is edited; a copy is yours",
            "`harness train THIS_FILE` trains it by the settings below",
        ]
        text = written(origin, settings, to_plain(config), head)
        specs = self._specs(stage, settings, config, origin) if self._is_known(settings) else []
        done = bool(specs) and all(finished(spec) is not None for spec in specs)
        step = Step(
            words=("train", str(path), self._out),
            done=done,
            files={path: text},
            study=f"{TRAINING}{path.stem}",
            edited=() if done else _edits(path, settings, config),
        )
        composed = settings_of((), {**DEFAULTS, **settings, "out": str(self.out)})
        keys = {spec.seed: spec.key for spec in specs}
        self.looked[stage] = Looked(steps=(step,), keys=keys, settings=composed)
        return self.looked[stage]

    def _is_known(self, settings: Mapping[str, Any]) -> bool:
        """Whether no name in them is of a trial to come, nor the architecture of a promotion to come."""
        is_promoted = "promote" not in self.study.stages or self.promoted is not None
        initial = settings.get("initial")
        names = [*(initial if isinstance(initial, list) else [initial]), settings.get("objective.teacher.name")]
        return is_promoted and KEY not in names and all(map(self._is_there, names))

    def _is_there(self, name: object) -> bool:
        """Not a key of a trial of this chain that is still to be trained."""
        if not any(name in each.keys.values() for _, each in self._known()):
            return True
        record = self.store.trial(str(name))
        return record is not None and WEIGHTS in record.artifacts

    def _specs(
        self, stage: str, settings: Mapping[str, Any], config: ArchitectureConfig, origin: Origin
    ) -> list[TrialSpec]:
        specs_key = f"{stage} {config.fingerprint} {canonical_json(settings)}"
        if specs_key not in self._known_specs:
            prepared = prepare(settings_of([self._out], {**DEFAULTS, **settings}))
            name = self.file_of(stage).stem
            self._known_specs[specs_key] = specs_of(prepared, name, config, unedited(origin, config))
        return self._known_specs[specs_key]

    def file_of(self, stage: str) -> Path:
        return self.folder / f"{self.name}-{stage.replace('_', '-')}.yaml"

    def _few_steps(self) -> Looked:
        looked = self._trained("few_steps")
        own, before = looked.settings, self.looked[self.before("few_steps")].settings
        assert own is not None
        assert before is not None
        both = (self.before("few_steps"), "few_steps")
        grid = score_grid(self.study.stage("few_steps").scored_at, own.sampling, before.sampling)
        scores = [step for stage in both for step in self._scores(stage, grid)]
        also = [*self._pictures(self.before("few_steps"), own.sampling), *self._pictures("few_steps"), *scores]
        return replace(looked, steps=(*looked.steps, *also))

    def before(self, stage: str) -> str:
        """The trained stage that it is compared with."""
        trained = [each for each in self.study.trained if each != "teacher"]
        return trained[trained.index(stage) - 1] if stage in trained[1:] else ""

    def _scores(self, stage: str, grid: ScoreGrid) -> list[Step]:
        """Every seed's network, at each point of the grid."""
        keys = (self.looked[stage].keys or {0: KEY}).values()
        return [score_step(key, self.settings_of(stage), grid, self.store, self._out) for key in keys]

    def _pictures(self, stage: str, sampling: SamplingConfig | None = None) -> list[Step]:
        """Samples of the first seed, of its own sampling or another."""
        if stage not in TRAINED or stage == "teacher" or not self.study.pictures:
            return []
        key, settings = self.keys.get(stage, KEY), self.settings_of(stage)
        step = sample_step(key, settings, self.study.pictures, sampling, self.file_of(stage), self._out)
        return [step]

    def _decoder(self) -> Looked:
        return self._trained("decoder") if self.study.own("decoder") else Looked(steps=())

    @property
    def decoder(self) -> str | None:
        """What export and total are told: its weights, or the architecture of one that is not trained."""
        if "decoder" not in self.study.stages:
            return None
        return self._weights("decoder") if self.study.own("decoder") else self.study.stage("decoder").architecture

    def _export(self) -> Looked:
        own = self.study.stage("export")
        flags = {"--target": own.target, "--layout": own.layout, "--bits": own.bits}
        words = [word for flag, value in flags.items() if value is not None for word in (flag, str(value))]
        words += ["--parity"] * own.parity
        steps = [self._printed("export", "", (self._weights(self.study.last), *words))]
        if self.decoder is not None:
            latent = () if self.study.own("decoder") else self._latent
            steps.append(self._printed("export", "-decoder", (self.decoder, *latent, *words)))
        return Looked(steps=tuple(steps))

    def _printed(self, verb: str, of: str, words: tuple[str, ...]) -> Step:
        """An export, and what it says in JSON."""
        digits = fingerprint([verb, *words], schema="chain-1")[:DIGITS]
        output = self.folder / f"{self.name}-{verb}{of}-{digits}.json"
        package = self.folder / f"{self.name}{of}-{digits}.mlpackage"
        return Step(
            words=(verb, *words, "--to", str(package), "--json"),
            done=output.is_file() and package.is_dir(),
            output=output,
        )

    def _total(self) -> Looked:
        """Told anew each time: a phone may have answered since."""
        own: Total = self.study.stage("total")
        steps = tuple(dict.fromkeys((*self.passes.values(), *own.steps)))
        decoder = () if self.decoder is None else ("--decoder", self.decoder)
        return Looked(
            steps=tuple(
                Step(
                    words=(
                        *("latency", "total", self._weights(self.study.last), *decoder, "--steps", *map(str, steps)),
                        *("--chip", chip, "--json", self._out),
                    ),
                    output=self.folder / f"{self.name}-total-{chip.replace(' ', '-')}.json",
                )
                for chip in own.chips
            )
        )

    @property
    def passes(self) -> dict[str, int]:
        """Trained stage -> passes of its network for a sample, guidance among them."""
        known = {stage: self.looked[stage].settings for stage in self.study.trained if stage in self.looked}
        return {
            stage: settings.sampling.evaluations
            for stage, settings in known.items()
            if settings is not None and stage != "teacher"
        }

    def _weights(self, stage: str) -> str:
        return str(self.store.artifact(self.keys.get(stage, KEY), WEIGHTS))

    @property
    def _latent(self) -> tuple[str, ...]:
        record = self.record(self.study.last)
        return ("--latent", str(record.trained_latent)) if record is not None else ()

    @property
    def _out(self) -> str:
        return f"out={self.out}"


def is_over(stored: StoredSweep, trials: int, finalists: Finalists | None) -> bool:
    """Whether the search has nothing left to do, as far as is told without its space: all candidates ended, and the
    finalists' trainings, if there are to be some. Where that is not told, its command says it, in seconds."""
    trained = [each for each in stored.candidates if each.levels]
    if len(trained) < trials or any(each.state == "running" for each in trained):
        return False
    if finalists is None:
        return True
    if stored.definition.get("finalists") != to_plain(finalists):  # others may be among them
        return False
    return bool(stored.rescored) and all(
        len(scores) >= finalists.seeds and not any(score.running for score in scores)
        for scores in stored.rescored.values()
    )


def _edits(path: Path, settings: Mapping[str, Any], config: ArchitectureConfig) -> tuple[str, ...]:
    """In what a training's file, as it stands, is otherwise than these settings and this architecture; none where there
    is no file."""
    if not path.is_file():
        return ()
    try:
        before = promoted_in(path)
    except UserError:
        return (f"{path.name} cannot be read",)
    changed = [str(each) for each in differences(dict(before.settings), to_plain(settings))]
    other = before.origin is not None and before.origin.fingerprint != config.fingerprint
    return (*changed, *(["another architecture"] if other else []))
