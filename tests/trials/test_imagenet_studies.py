"""The studies at the paper's size, as they come with the project: what they would train, where no ImageNet is."""

import pytest

from harness.architecture.catalogue import architecture
from harness.cli import main
from harness.reporting.report import checked_definition
from harness.search.definition import sweep_study
from harness.search.problem import rungs_of
from harness.search.space import space
from harness.trials.ablation_study import ablation_study
from harness.trials.protocols import protocol_name
from harness.trials.studies import read_study
from harness.trials.study_data import IMAGENET


@pytest.mark.parametrize(("name", "protocol"), [("fig3_imagenet", "fig3"), ("tab1_imagenet", "tab1")])
def test_an_ablation_is_its_protocol_on_prepared_data(name, protocol):
    study, settings = ablation_study(name, [])
    assert protocol_name(settings) == protocol
    assert settings.data.kind == "prepared"
    assert (settings.text.kind, settings.text.length) == ("huggingface", 77)
    assert settings.latency.iphone is not None
    for _, config in study.architecture.architectures():
        assert not config.why_not_latent(IMAGENET.size // 8)


def test_the_ladder_is_fig3_s_at_full_size_with_costs_at_a_1024_px_image():
    ours, counted = (ablation_study(name, [])[0] for name in ("fig3_imagenet", "fig3_full"))
    assert ours.architecture.architectures() == counted.architecture.architectures()
    assert ablation_study("fig3_imagenet", [])[1].latent == 128


def test_the_networks_of_tab1_are_the_catalogue_s():
    study, settings = ablation_study("tab1_imagenet", [])
    assert settings.latent is None, "Tab. 1 counts at the trained latent"
    for rung, config in study.architecture.architectures():
        assert config == architecture(rung.name)


def test_the_search_is_by_quick_in_epochs():
    definition, settings = sweep_study("search_imagenet", [])
    assert protocol_name(settings) == "quick"
    assert list(definition.objectives) == ["fd", "macs", "latency_iphone"]
    assert "kid" in settings.quality.metrics, "which the floor of promotions is in"
    assert definition.budgets_for(IMAGENET.train, settings.recipe.batch_size) == (12_511, 50_046, 150_137)
    assert settings.recipe.is_extendable


@pytest.mark.slow
def test_every_rung_of_the_ladder_is_a_point_of_the_searched_space():
    definition, settings = sweep_study("search_imagenet", [])
    assert definition.enqueue is not None
    searched = space(read_study("search_spaces", definition.space))
    placed, remarks = rungs_of(definition.enqueue, searched, lambda config: config, settings.recipe)
    assert not remarks
    assert len(placed) == 8


@pytest.mark.parametrize("name", ["fig3_imagenet", "tab1_imagenet"])
def test_its_page_can_be_made(name):
    page = read_study("reports", name)
    published = read_study("reports/published", page["published"])
    assert "fd" in [column.quantity for column in checked_definition(page, published, "ablation")[0].columns]


def test_the_settings_of_a_study_whose_data_is_elsewhere_are_printed(capsys):
    assert main(["config", "fig3_imagenet"]) == 0
    printed = capsys.readouterr()
    assert "# protocol: fig3\n" in printed.out
    assert "recipe.steps: 150000" in printed.out
    assert "here it would not run: data=prepared needs the folder that `harness data prepare` filled" in printed.err
