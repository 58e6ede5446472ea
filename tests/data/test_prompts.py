"""Class prompts: embedded once, read back, dropped to the empty prompt."""

import subprocess
import sys

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from harness.data.config import ClassTableText, HuggingFaceText, MiniLmText
from harness.data.prompts import class_prompts
from harness.models.text_encoder import TextEncoder, minilm_files
from harness.records.errors import UserError

NAMES = ("three", "great white shark", "one")


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def table(cache):
    return class_prompts(MiniLmText(), NAMES, cache)


def test_a_row_is_the_encoders_output_for_the_filled_template(table):
    alone = TextEncoder(minilm_files()).encode(["a photo of a three"], 7)
    assert alone.mask.all()
    torch.testing.assert_close(table.embeddings[0, :7], alone.hidden[0], atol=1e-5, rtol=0)
    assert table.mask.sum(1).tolist() == [7, 9, 7]  # words, [CLS], [SEP]
    assert table.empty_mask.sum().item() == 2
    assert (len(table), table.length, table.width) == (3, 9, 384)


def test_a_damaged_cache_is_one_sentence(tmp_path, cache, table):
    for path in (cache / "prompts").iterdir():
        (tmp_path / "prompts").mkdir(exist_ok=True)
        (tmp_path / "prompts" / path.name).write_bytes(path.read_bytes()[:1000])
    with pytest.raises(
        UserError, match=r"^the cache .*safetensors is damaged \(.*; remove it and run the same command"
    ):
        class_prompts(MiniLmText(), NAMES, tmp_path)


def test_context_takes_each_labels_prompt_and_the_empty_one_where_dropped(table):
    context, mask = table.context(torch.tensor([2, 0, 1]), torch.tensor([False, True, False]))
    assert mask is not None
    assert context.equal(torch.stack([table.embeddings[2], table.empty[0], table.embeddings[1]]))
    assert mask.equal(torch.stack([table.mask[2], table.empty_mask[0], table.mask[1]]))


def test_prompts_differ_so_shuffled_labels_are_other_conditions(table):
    assert not torch.allclose(table.embeddings[0], table.embeddings[2], atol=0.01)


def test_captions_that_are_read_alike_stay_and_are_counted(tmp_path):
    """Two pictures of one text, as a caption may have several; of classes that is refused, in the same cache too."""
    names, alone = ("Crane", "crane", "\N{GRINNING FACE}", "red heart"), MiniLmText(template="{}")
    for _ in range(2):  # embedded, then from the cache
        table = class_prompts(alone, names, tmp_path, captions=True)
        assert table.embeddings[0].equal(table.embeddings[1])
        assert table.remarks == (
            "captions that the text encoder reads as others: 1, 'crane' as 'Crane'",
            "captions in which the text encoder reads no word: 1, such as '\N{GRINNING FACE}'",
        )
    with pytest.raises(UserError, match="reads the classes 'Crane' and 'crane' alike"):
        class_prompts(alone, names, tmp_path)
    with pytest.raises(UserError, match="a row for each class, and these are captions"):
        class_prompts(ClassTableText(), names, tmp_path, captions=True)


@pytest.mark.parametrize("change", ["nan", "fewer", "lacking", "other"])
def test_a_cache_of_other_prompts_is_damaged(tmp_path, change):
    """By its name it is of these ones."""
    class_prompts(MiniLmText(), NAMES, tmp_path)
    (path,) = (tmp_path / "prompts").iterdir()
    with safe_open(path, "pt") as file:
        metadata, tensors = file.metadata(), {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
    if change == "nan":
        tensors["embeddings"][0, 0, 0] = float("nan")
    elif change == "fewer":
        tensors["embeddings"] = tensors["embeddings"][1:].clone()
    elif change == "lacking":
        del tensors["mask"]
    else:
        metadata = {"prompts": "0" * 16}
    save_file(tensors, path, metadata)
    with pytest.raises(UserError, match=r"is damaged \(.*; remove it and run the same command again"):
        class_prompts(MiniLmText(), NAMES, tmp_path)


@pytest.mark.parametrize("name", ["\N{GRINNING FACE}", "\N{ROMAN NUMERAL FOUR}", "\N{ZERO WIDTH SPACE}"])
def test_a_name_of_which_the_encoder_knows_nothing_is_refused(tmp_path, name):
    with pytest.raises(UserError, match="reads nothing in the class name"):
        class_prompts(MiniLmText(), ["cat", name], tmp_path)
    class_prompts(MiniLmText(), ["cat", f"{name} cat", "+", "水"], tmp_path) if name != "\N{ZERO WIDTH SPACE}" else None


def test_masking_is_a_setting_and_part_of_the_identity(table, cache):
    unmasked = class_prompts(MiniLmText(mask_padding=False), NAMES, cache)
    assert unmasked.context(torch.tensor([0]))[1] is None
    assert unmasked.embeddings.equal(table.embeddings)
    assert unmasked.identity != table.identity


def test_a_hit_encodes_nothing_and_imports_no_transformers(table, cache, monkeypatch):
    monkeypatch.setattr("harness.data.text_embedding.TextEncoder", lambda *_: pytest.fail("encoded again"))
    assert class_prompts(MiniLmText(), NAMES, cache).embeddings.equal(table.embeddings)
    code = (
        "import sys; from pathlib import Path; from harness.data.prompts import class_prompts;"
        "from harness.data.config import MiniLmText;"
        f"class_prompts(MiniLmText(), {NAMES!r}, Path({str(cache)!r})); assert 'transformers' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    ("config", "names"),
    [
        (MiniLmText(template="a drawing of a {}"), NAMES),
        (MiniLmText(length=16), NAMES),
        (MiniLmText(), ("three", "great white shark", "two")),
    ],
)
def test_another_template_length_or_name_is_another_table(table, cache, config, names):
    other = class_prompts(config, names, cache)
    assert other.identity != table.identity
    assert other.embeddings.shape != table.embeddings.shape or not other.embeddings.equal(table.embeddings)
    assert other.length == (config.length or table.length)


def test_a_prompt_longer_than_the_length_is_refused_not_cut(cache):
    with pytest.raises(UserError, match="'a photo of a great white shark' needs 9 tokens"):
        class_prompts(MiniLmText(length=8), NAMES, cache)
    with pytest.raises(UserError, match="more than the encoder reads, 512"):
        class_prompts(MiniLmText(length=513), NAMES, cache)


@pytest.mark.parametrize(
    ("pair", "sentence"),
    [
        (("Crane", "crane"), "reads the classes 'Crane' and 'crane' alike; name the classes differently"),
        (("café", "cafe"), "reads the classes 'café' and 'cafe' alike"),
        (("hot  dog", "hot dog"), "reads the classes 'hot  dog' and 'hot dog' alike"),
        (("\U0001f9ff", "\U0001faac"), "alike"),  # two signs that it does not know
        (("dog", "\u200b"), "reads nothing in the class name"),
    ],
)
def test_classes_that_the_encoder_reads_alike_are_refused(tmp_path, pair, sentence):
    with pytest.raises(UserError, match=sentence):
        class_prompts(MiniLmText(), pair, tmp_path)
    assert not (tmp_path / "prompts").exists()


@pytest.mark.parametrize("template", ["a photo", "{} and {}", "a {name}"])
def test_a_template_needs_one_place_for_the_name(template):
    with pytest.raises(UserError, match=r"one \{\}"):
        MiniLmText(template=template)
    with pytest.raises(UserError, match=r"one \{\}"):
        HuggingFaceText(name="x", template=template)
