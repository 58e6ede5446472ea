"""What is another search, and when a promotion that stands is made again: nothing is trained here."""

from pathlib import Path

import pytest
from tiny_chain import lay_out
from tiny_study import SETTINGS, SMALL, write_yaml

from harness.architecture.catalogue import architecture
from harness.chain import promotion, stages
from harness.chain.definition import chain_study
from harness.chain.stages import Chain
from harness.chain.step import Looked, Step
from harness.records.errors import UserError
from harness.records.manifest import Promotion
from harness.records.plain import to_plain
from harness.records.record import Protocol, TrialRecord
from harness.records.yaml_text import read_yaml
from harness.search.promote import promoted_yaml
from harness.trials.promoted import training_settings

OF_SEARCH = Promotion(rule="best", basis="search", among=2)


@pytest.fixture
def place(tmp_path, monkeypatch, cache):
    monkeypatch.chdir(tmp_path)
    lay_out(tmp_path, cache)
    return tmp_path


def made(*overrides: str) -> Chain:
    return Chain(*chain_study("tiny", overrides))


def edited_base(path: Path) -> None:
    content = read_yaml(path)
    write_yaml(path, {**content, "edits": {**content["edits"], "feed_forward.ratio": 3}})


def test_another_base_is_another_search(place):
    """The space names it, and its file may change."""
    before = made().search_name
    assert made().search_name == before
    edited_base(place / "tiny_base.yaml")
    assert made().search_name != before
    (place / "tiny_twin.yaml").write_text((place / "tiny_base.yaml").read_text())
    twin = "search.twin={base: tiny_twin.yaml, latent: 16}"
    of_twin = made(twin).search_name
    write_yaml(place / "tiny_twin.yaml", {**read_yaml(place / "tiny_twin.yaml"), "edits": {**SMALL}})
    assert made(twin).search_name != of_twin


@pytest.fixture
def promoted(place, monkeypatch):
    """What stands of the promotion, of a search that now chooses as `how`."""
    config = architecture("tiny_base.yaml")
    protocol = Protocol(sections={"data": {"kind": "digits", "size": 8}, "recipe": {"steps": 6, "batch_size": 8}})
    record = TrialRecord(
        name="trial-0", architecture=to_plain(config), architecture_fingerprint=config.fingerprint,
        protocol=protocol.sections, protocol_fingerprint=protocol.fingerprint, seed=0, state="complete", quantities={},
    )  # fmt: skip
    settings = {**SETTINGS, "recipe.learning_rate": 1e-3}
    monkeypatch.setattr(promotion, "chosen_settings", lambda *_: settings)

    def looked(how: Promotion):
        monkeypatch.setattr(stages, "chosen_now", lambda *_, **__: promotion.Chosen(record=record, how=how))
        seen = made()
        seen.looked["search"] = Looked(steps=())
        (step,) = seen.look("promote").steps
        return step

    path, study = made().promoted_file, made().search_name
    path.parent.mkdir(parents=True)
    path.write_text(promoted_yaml(record, training_settings(record, settings), study=study, promotion=OF_SEARCH))
    return looked, path


@pytest.mark.parametrize(
    "how",
    [
        Promotion(rule="knee", basis="search", among=2),
        Promotion(rule="best", basis="rescored", among=2),
        Promotion(rule="best", basis="search", among=12),
    ],
)
def test_the_same_trial_by_another_rule_or_among_others_is_promoted_again(promoted, how):
    looked, path = promoted
    assert looked(OF_SEARCH).done
    step = looked(how)
    assert (step.done, step.old) == (False, path)
    assert step.edited == (f"{path.name} was chosen by rule best among 2 of {made().search_name}, by search values",)


def test_a_promoted_file_that_was_edited_stays_while_its_trial_is_chosen(promoted):
    looked, path = promoted
    content = read_yaml(path)
    write_yaml(path, {**content, "settings": {**content["settings"], "recipe.steps": 99}})
    assert looked(Promotion(rule="knee", basis="search", among=12)).done
    write_yaml(path, content)
    assert not looked(Promotion(rule="knee", basis="search", among=12)).done
    architecture_of = {**content["architecture"], "feed_forward": {**content["architecture"]["feed_forward"]}}
    architecture_of["feed_forward"]["ratio"] = 5
    write_yaml(path, {**content, "architecture": architecture_of})
    assert looked(Promotion(rule="knee", basis="search", among=12)).done


def test_a_rule_that_cannot_choose_yet_waits_for_the_search_to_end(place, monkeypatch):
    def no_knee(*_):
        raise UserError("the front has no knee")

    monkeypatch.setattr(promotion, "candidates", lambda *_: [])
    monkeypatch.setattr(promotion, "contest_of", lambda *_: None)
    monkeypatch.setattr(promotion, "by_rule", no_knee)
    seen = made()
    (place / "runs" / seen.search_name).mkdir()
    seen.looked["search"] = Looked(steps=(Step(words=("sweep",)),))
    assert not seen.look("promote").done
    seen.looked["search"] = Looked(steps=(Step(words=("sweep",), done=True),))
    with pytest.raises(UserError, match="no knee"):
        seen.look("promote")


def test_the_same_trial_of_another_search_is_promoted_again(promoted, place):
    looked, _ = promoted
    assert looked(OF_SEARCH).done
    edited_base(place / "tiny_base.yaml")
    assert not looked(OF_SEARCH).done
