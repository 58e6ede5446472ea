"""What a chain is expected to take is of what is left of it; and its decoder takes what its networks make."""

from dataclasses import replace

import pytest
import small_teacher
from tiny_chain import STAGES, chain, lay_out
from tiny_study import write_yaml

from harness.architecture.catalogue import architecture
from harness.chain.definition import chain_study
from harness.chain.plan import Plan, Work, _check_decoder, about
from harness.chain.stages import Chain
from harness.chain.step import Looked, Step
from harness.data.dataset import DIGITS
from harness.data.prompts import class_table
from harness.measure.cost import count
from harness.models.build import build, example_inputs
from harness.records.errors import UserError
from harness.records.plain import to_plain
from harness.search.candidates import Candidate, FreshScore, LevelResult
from harness.search.status import StoredSweep
from harness.trials.estimates import Throughput, Training, scoring_flops
from harness.trials.protocols import SD3
from harness.trials.settings import Settings, settings_of

LIKE = Training(params=10, macs=1000, steps=1)
A_SECOND = Throughput(1.0, "as tested")


@pytest.fixture
def made(tmp_path, monkeypatch, cache):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("harness.chain.plan.throughput_of", lambda *_: A_SECOND)
    monkeypatch.setattr(Plan, "_fitted", lambda *_: LIKE)

    def lay(content=None, *overrides: str) -> Chain:
        lay_out(tmp_path, cache, content)
        return Chain(*chain_study("tiny", overrides))

    return lay


def about_search(plan: Plan) -> Settings:
    return settings_of((), plan._search_settings)


def looked(*done: bool, verb: str = "train", key: str = "KEY") -> Looked:
    return Looked(steps=tuple(Step(words=(verb, key), done=each) for each in done))


def test_left_is_up_to_the_last_stage_and_of_what_is_not_done(made, monkeypatch):
    seen, ended = made(), set[str]()
    monkeypatch.setattr(seen, "look", lambda stage: seen.looked.update({stage: looked(stage in ended)}))
    monkeypatch.setattr(Plan, "_search", lambda _: Work(flops=120, at_once=1, throughput=A_SECOND))
    monkeypatch.setattr(Plan, "_training", lambda *_: Work(flops=600, at_once=1, throughput=A_SECOND))
    seen.look("search")
    seen.looked["promote"] = looked(True)
    assert Plan(seen, "search").left("search") == "about 2 min left"
    assert Plan(seen, "train").left("search") == "about 22 min left", "a teacher and a network"
    ended.add("teacher")
    assert Plan(seen, "train").left("search") == "about 12 min left"


def test_of_a_search_what_has_a_result_is_not_reckoned_again(made, monkeypatch):
    """Four candidates at 2 steps, two of them to 6, and two seeds of one finalist there."""
    search = {**STAGES["search"], "trials": 4, "budgets": [2, 6], "reduction": 2, "finalists": {"most": 1, "seeds": 2}}
    plan = Plan(made(chain(search=search)))
    of_step = LIKE.macs * 6 * plan._search_settings["recipe.batch_size"]  # forward and backward
    scored = scoring_flops(LIKE, about_search(plan))
    whole = plan._search().flops
    assert whole == (4 * 2 + 2 * 4 + 2 * 6) * of_step + 8 * scored
    done = [LevelResult(steps=2, key="a", values=(1.0,)), LevelResult(steps=6, key="b", values=(1.0,))]
    running = [done[0], LevelResult(steps=6, key="c")]
    candidates = [Candidate(each, each, {}, "running", levels) for each, levels in enumerate((done, running))]
    rescored = (FreshScore(seed=1, key="d", values=(1.0,)), FreshScore(seed=2, key="e"))
    stored = StoredSweep(
        place="", attributes={}, candidates=tuple(candidates), began={}, definition={}, rescored={"0": rescored}
    )
    monkeypatch.setattr("harness.chain.plan.read_stored", lambda *_: stored)
    assert plan._search().flops == (2 * 2 + 4 + 6) * of_step + 4 * scored


def test_a_network_that_is_trained_is_not_reckoned_again(made):
    """Where `harness evaluate` is left of the stage, its passes are."""
    seen = made(chain("train", "few_steps", train={"architecture": "tiny_base.yaml"}, few_steps=STAGES["few_steps"]))
    trained, scores = looked(True), looked(False, False, verb="evaluate", key="a" * 16)
    seen.looked["train"] = replace(trained, keys={0: "a" * 16})
    seen.looked["few_steps"] = Looked(steps=(*looked(False).steps, *scores.steps))
    whole = Plan(seen).work("few_steps")
    seen.looked["few_steps"] = Looked(steps=(*trained.steps, *scores.steps))
    scored = Plan(seen).work("few_steps")
    assert 0 < scored.flops < whole.flops
    assert scored.flops == scored.alone == whole.alone
    seen.looked["few_steps"] = Looked(steps=(*trained.steps, scores.steps[0], replace(scores.steps[1], done=True)))
    assert Plan(seen).work("few_steps").flops == scored.flops / 2
    seen.looked["few_steps"] = looked(True, True)
    assert Plan(seen).work("few_steps") is None


def test_epochs_are_reckoned_in_the_steps_that_they_come_to(made):
    search = {**STAGES["search"], "epochs": [1, 2]}
    plan = Plan(made(chain(search=search, train=None)))
    steps, twice = plan._budgets
    assert steps > 6, "an epoch of the digits, not what the recipe says"
    assert twice in (2 * steps - 1, 2 * steps, 2 * steps + 1)
    plan.chain.looked["search"] = looked(False)
    written_out = Plan(made(chain(search={**STAGES["search"], "budgets": [steps, twice]})))
    written_out.chain.looked["search"] = looked(False)
    assert plan.work("search").flops == written_out.work("search").flops
    assert plan._steps("train", about(plan.chain, "train")) == 8 * twice
    assert plan._steps("teacher", about(plan.chain, "teacher")) == 4


@pytest.mark.parametrize(
    ("edits", "own", "says"),
    [
        (
            {"latent_channels": 4},
            {},
            r"takes latents of 4 channels, and autoencoder=kl makes them of 16",
        ),
        ({}, {}, None),
        ({"latent_channels": 4}, {"settings": {"recipe.steps": 2}}, None),
        ({"stages": 3}, {}, r"4 times the latent's side, and those of autoencoder=kl have 8"),
        ({"stages": 3}, {"settings": {"recipe.steps": 2}}, r"4 times the latent's side.*name a decoder of 4 stages"),
    ],
)
def test_a_decoder_takes_what_the_networks_make(made, monkeypatch, tmp_path, edits, own, says):
    monkeypatch.setattr("harness.chain.plan.check_study", lambda *_: None)
    plain = to_plain(architecture("decoder/tiny"))
    shorter = {"stages": plain["stages"][: edits["stages"]]} if "stages" in edits else {}
    write_yaml(tmp_path / "decoder.yaml", {**plain, **edits, **shorter})
    content = chain("train", train={"architecture": "laptop/thin_sdxl"})
    content["stages"]["decoder"] = {"architecture": "decoder.yaml", **own}
    content["settings"] |= {"data": "prepared", "autoencoder": "kl", "autoencoder.name": SD3}
    seen = made(content)
    if says is None:
        _check_decoder(seen)
    else:
        with pytest.raises(UserError, match=says):
            _check_decoder(seen)


def test_a_teacher_that_is_named_is_reckoned_by_its_own_size(tmp_path, monkeypatch, cache):
    monkeypatch.chdir(tmp_path)
    teacher = small_teacher.written(tmp_path, text=class_table(DIGITS).identity)
    taught = {"settings": {"recipe.steps": 4, "objective.teacher.name": str(teacher)}}
    content = chain("train", "distil", train={"architecture": "tiny_base.yaml"}, distil=taught)
    lay_out(tmp_path, cache, content)
    plan = Plan(Chain(*chain_study("tiny", ())))
    of_distil, of_train = (plan._fitted(stage, about(plan.chain, stage)) for stage in ("distil", "train"))
    assert of_distil.teacher_macs == count(build(small_teacher.DIT), example_inputs(small_teacher.DIT, latent=8)).macs
    assert of_distil.macs == of_train.macs != of_distil.teacher_macs
    assert of_train.teacher_macs == 0
