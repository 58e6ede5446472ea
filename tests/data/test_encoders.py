"""Text encoders of several kinds, and several at once, against transformers and diffusers on the same folders."""

import json
import re
import sys
from pathlib import Path

import pytest
import torch
from transformers import SiglipConfig, SiglipModel

sys.path.insert(0, str(Path(__file__).parents[1] / "models"))
from tiny_pipelines import clip_tokenizer, save_clip, save_gemma, save_sd3, save_t5

from harness.data import prompts as prompts_module
from harness.data.config import EncoderConfig, HuggingFaceText, MiniLmText, SeveralText
from harness.data.prompts import as_trained, class_prompts, prompts_like
from harness.models.text_encoder import TextEncoder, huggingface_files, minilm_files
from harness.records.errors import UserError

NAMES = ("a cat", "two green dogs on a mat", "sea")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("sd3")


@pytest.fixture(scope="module")
def pipeline(folder):
    return save_sd3(folder)


def sd3_text(folder: Path, t5: int = 256) -> SeveralText:
    """As the pipeline reads."""
    clip = {"hidden": "penultimate", "length": 77, "pooled": True, "sees_padding": True, "cut": True}
    return SeveralText(
        template="{}",
        mask_padding=False,
        encoders=(
            EncoderConfig(name=str(folder), subfolder="text_encoder", **clip),
            EncoderConfig(name=str(folder), subfolder="text_encoder_2", join="width", **clip),
            EncoderConfig(name=str(folder), subfolder="text_encoder_3", length=t5, sees_padding=True, cut=True),
        ),
    )


def test_several_encoders_are_what_stable_diffusion_3_reads(pipeline, folder, tmp_path):
    names = (*NAMES, "so long " * 60)  # which the pipeline cuts
    table = class_prompts(sd3_text(folder), names, tmp_path)
    expected, empty, pooled, empty_pooled = pipeline.encode_prompt(list(names), None, None, device="cpu")
    torch.testing.assert_close(table.embeddings, expected)
    torch.testing.assert_close(table.empty, empty[:1])
    torch.testing.assert_close(table.pooled, pooled)
    torch.testing.assert_close(table.empty_pooled, empty_pooled[:1])
    drop = torch.tensor([False, True])
    torch.testing.assert_close(
        table.pooled_context(torch.tensor([2, 1]), drop), torch.stack([pooled[2], empty_pooled[0]])
    )
    assert table.context(torch.tensor([0]))[1] is None


def test_encoders_stand_beside_each_other_or_behind(pipeline, folder, tmp_path):
    first, second = (EncoderConfig(name=str(folder), subfolder=f"text_encoder{one}", length=77) for one in ("", "_3"))
    narrow, wide = (TextEncoder(huggingface_files(str(folder), each.subfolder)) for each in (first, second))
    one, two = narrow.encode([*NAMES, ""], 77), wide.encode([*NAMES, ""], 77)
    behind = class_prompts(SeveralText(encoders=(first, second), template="{}"), NAMES, tmp_path)
    assert behind.embeddings[:, :77, :16].equal(one.hidden[:-1])
    assert not behind.embeddings[:, :77, 16:].any()
    assert behind.embeddings[:, 77:].equal(two.hidden[:-1])
    assert behind.mask.equal(torch.cat([one.mask, two.mask], 1)[:-1])
    beside = EncoderConfig(name=str(folder), subfolder="text_encoder_3", length=40, join="width")
    both = class_prompts(SeveralText(encoders=(first, beside), template="{}"), NAMES, tmp_path)
    assert both.embeddings.shape == (3, 77, 16 + 48)
    assert both.embeddings[..., :16].equal(one.hidden[:-1])
    torch.testing.assert_close(both.empty[0, :40, 16:], wide.encode([""], 40).hidden[0])
    assert not both.embeddings[:, 40:, 16:].any()
    assert both.mask.equal((one.mask | two.mask)[:-1])
    assert len({behind.identity["encoder"], both.identity["encoder"]}) == 2


@pytest.mark.parametrize("adds_bos", [True, False])
def test_gemma_2_reads_from_the_first_token_on_whatever_its_padding(tmp_path, adds_bos):
    model = save_gemma(tmp_path / "gemma", dtype=torch.bfloat16, adds_bos=adds_bos)
    encoder = TextEncoder(huggingface_files(str(tmp_path / "gemma")))
    assert encoder.max_length == 128
    assert encoder.tokens(["", "ab"]) == [(2,), (2, *encoder.tokenizer.convert_tokens_to_ids(["a", "b"]))]
    short = encoder.encode(["a cat", ""], 6)
    long = encoder.encode(["a cat", ""], 30)
    assert long.mask.sum(1).tolist() == [6, 1]
    assert long.mask[:, 0].all()
    torch.testing.assert_close(long.hidden[long.mask], short.hidden[short.mask])
    with torch.inference_mode():
        alone = model(input_ids=torch.tensor([encoder.tokens(["a cat"])[0]])).last_hidden_state
    torch.testing.assert_close(short.hidden[:1], alone)
    assert encoder.model.dtype == torch.float32
    table = class_prompts(HuggingFaceText(name=str(tmp_path / "gemma"), template="{}"), NAMES, tmp_path)
    assert table.width == 32


def test_an_encoder_without_special_tokens_shows_one_of_padding_for_no_text(tmp_path):
    """A mask without any token is attention to nothing."""
    save_clip(tmp_path)
    encoder = TextEncoder(huggingface_files(str(tmp_path)))
    encoder.tokenizer._tokenizer.post_processor = None
    assert encoder.tokens([""]) == [()]
    encoded = encoder.encode(["", "ab"], 4)
    assert encoded.mask.tolist() == [[True, False, False, False], [True, True, False, False]]
    assert encoded.hidden.isfinite().all()


def test_an_encoder_is_what_is_loaded_of_it_wherever_that_lies(tmp_path):
    """Beside its tokenizer or in a pipeline's folder; with a licence, an index or other types of its weights there."""
    save_clip(tmp_path / "alone")
    save_clip(tmp_path / "text_encoder", tmp_path / "tokenizer")
    own = huggingface_files(str(tmp_path / "alone"))
    assert huggingface_files(str(tmp_path), "text_encoder").digest == own.digest
    for name in ("LICENSE.txt", "generation_config.json", "model.fp16.safetensors"):
        (tmp_path / "alone" / name).write_text("{}")
    assert huggingface_files(str(tmp_path / "alone")).digest == own.digest
    config = tmp_path / "tokenizer" / "tokenizer_config.json"
    config.write_text(config.read_text().replace("77", "76"))
    assert huggingface_files(str(tmp_path), "text_encoder").digest != own.digest
    (tmp_path / "alone" / "model.safetensors").unlink()
    index = tmp_path / "alone" / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "model-1-of-1.safetensors"}}))
    with pytest.raises(UserError, match=r"lacks model-1-of-1\.safetensors of its weights"):
        huggingface_files(str(tmp_path / "alone"))


def test_the_packaged_encoder_keeps_its_digest():
    """Every trial's key that has it hangs on that."""
    assert minilm_files().digest == "1796dd706fccb36d"


def test_siglip_sees_padding_as_in_its_training_and_needs_no_tokenizers_mask(tmp_path):
    """Its tokenizer gives none, and whoever asks for the encoder need not know."""
    save_clip(tmp_path)
    about = json.loads((tmp_path / "tokenizer_config.json").read_text())
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({**about, "model_input_names": ["input_ids"]}))
    size = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    text = {**size, "vocab_size": len(clip_tokenizer()), "max_position_embeddings": 64, "projection_size": 16}
    torch.manual_seed(0)
    model = SiglipModel(SiglipConfig(text_config=text, vision_config={**size, "image_size": 32, "patch_size": 16}))
    model.eval().save_pretrained(tmp_path)
    table = class_prompts(HuggingFaceText(name=str(tmp_path), template="{}", length=30), NAMES, tmp_path)
    tokens = clip_tokenizer()(list(NAMES), padding="max_length", max_length=30, return_tensors="pt")
    with torch.inference_mode():
        expected = model.text_model(input_ids=tokens["input_ids"]).last_hidden_state
    torch.testing.assert_close(table.embeddings, expected)
    assert table.mask.sum(1).tolist() == tokens["attention_mask"].sum(1).tolist()
    assert table.identity["sees_padding"]


def test_a_table_that_stays_on_the_disk_gives_the_same_rows(tmp_path, monkeypatch):
    save_t5(tmp_path / "t5")
    config = HuggingFaceText(name=str(tmp_path / "t5"), template="{}")
    names = [f"{a} {b}" for a in "abcdefghi" for b in ("cat", "dog", "sea", "so", "ab", "ba", "of", "is")]
    held = class_prompts(config, names, tmp_path)
    labels, drop = torch.tensor([71, 0, 3, 71]), torch.tensor([False, False, True, False])
    monkeypatch.setattr(prompts_module, "MOST_IN_MEMORY", held.embeddings.nbytes - 1)
    mapped = class_prompts(config, names, tmp_path / "anew")
    assert mapped.identity == held.identity
    for one, other in zip(mapped.context(labels, drop), held.context(labels, drop), strict=True):
        assert one.equal(other)
    moved = mapped.to("meta")
    assert moved.embeddings.data_ptr() == mapped.embeddings.data_ptr()
    assert moved.mask.is_meta
    halved = mapped.to("cpu", dtype=torch.bfloat16)  # which fits
    assert halved.embeddings.dtype == torch.bfloat16
    read = mapped.to("cpu", dtype=torch.bfloat16, most=1)
    assert read.embeddings.data_ptr() == mapped.embeddings.data_ptr()
    assert read.context(labels, drop)[0].equal(halved.context(labels, drop)[0])
    assert (tmp_path / "prompts").joinpath(next((tmp_path / "prompts").iterdir())).read_bytes() == next(
        (tmp_path / "anew" / "prompts").iterdir()
    ).read_bytes()


def test_prompts_are_read_again_as_they_were_in_training(pipeline, folder, tmp_path):
    usual = HuggingFaceText(name=str(folder), subfolder="text_encoder_2", template="{}")
    assert "hidden" not in class_prompts(usual, NAMES, tmp_path).identity
    trained = HuggingFaceText(
        name=str(folder), subfolder="text_encoder_2", template="{}", hidden="penultimate", sees_padding=True, length=40
    )
    table = class_prompts(trained, NAMES, tmp_path)
    again = class_prompts(as_trained(usual, table.identity), NAMES, tmp_path)
    assert again.identity == table.identity
    several = class_prompts(sd3_text(folder, 32), NAMES, tmp_path)
    anew = as_trained(sd3_text(folder, 32), {**several.identity, "template": "a {}"})
    assert class_prompts(anew, NAMES, tmp_path).identity["template"] == "a {}"


def test_another_encoder_than_the_trained_ones_is_answered_with_their_form(pipeline, folder, tmp_path):
    trained = class_prompts(sd3_text(folder, 32), NAMES, tmp_path).identity
    one = "{name: NAME, hidden: penultimate, sees_padding: true, cut: true, length: 77, join: tokens, pooled: true}"
    with pytest.raises(UserError, match=re.escape(f"give that one, text=several 'text.encoders=[{one}, {{name: NAME,")):
        prompts_like(trained, MiniLmText(), NAMES, tmp_path, what="it", setting="text")
    with pytest.raises(UserError, match=re.escape(f"at={{kind: several, encoders: [{one}, ")):
        prompts_like(trained, MiniLmText(), NAMES, tmp_path, what="it", setting="at")


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"encoders": ()}, "joins two encoders or more, and text.encoders has 0"),
        ({"encoders": (EncoderConfig(name="x", length=9, join="width"),) * 2}, r"text.encoders.0 has none before it"),
    ],
)
def test_what_cannot_be_joined_is_refused(settings, sentence):
    with pytest.raises(UserError, match=sentence):
        SeveralText(**settings)
    with pytest.raises(UserError, match=r"text.encoders.length is a number of tokens from 2, not 1"):
        EncoderConfig(name="x", length=1)


def test_bad_encoders_are_one_sentence_each(pipeline, folder, tmp_path):
    with pytest.raises(UserError, match=r"pooled=true is for a CLIP's text tower, which projects, and .* is t5"):
        TextEncoder(huggingface_files(str(folder), "text_encoder_3"), pooled=True)
    save_clip(tmp_path / "plain")
    with pytest.raises(UserError, match=r"lack or have another shape, such as 'text_projection\.weight'"):
        TextEncoder(huggingface_files(str(tmp_path / "plain")), pooled=True).encode(["a"], 9)
    (tmp_path / "alone").mkdir()
    for name in ("config.json", "model.safetensors"):
        (tmp_path / "alone" / name).write_bytes((tmp_path / "plain" / name).read_bytes())
    with pytest.raises(UserError, match="has no tokenizer"):
        huggingface_files(str(tmp_path / "alone"))
    for name, saved in (("t5", save_t5), ("clip", save_clip), ("gemma", save_gemma)):
        saved(tmp_path / name)
        (tmp_path / name / "tokenizer.json").unlink()  # transformers would make one of a few signs
        with pytest.raises(UserError, match=r"knows \d tokens, and its encoder .*: its tokenizer\.json is missing"):
            TextEncoder(huggingface_files(str(tmp_path / name)))
    (tmp_path / "t5" / "spiece.model").write_bytes(b"of sentencepiece")
    with pytest.raises(UserError, match=r"has no tokenizer\.json, and its \*\.model needs `pip install sentencepiece`"):
        TextEncoder(huggingface_files(str(tmp_path / "t5")))
    with pytest.raises(UserError, match=r"text_encoder_4 has no config\.json"):
        huggingface_files(str(folder), "text_encoder_4")
    text = HuggingFaceText(name=str(folder), subfolder="text_encoder", template="{}")
    with pytest.raises(UserError, match=r"needs 90 tokens but text.length is 77; raise it"):
        class_prompts(
            HuggingFaceText(name=text.name, subfolder="text_encoder", template="{}", length=77), ["b" * 88], tmp_path
        )
    with pytest.raises(UserError, match="reads the classes 'AB' and 'ab' alike"):
        class_prompts(text, ["AB", "ab"], tmp_path)
    assert len(class_prompts(text, ["AB", "ab"], tmp_path, captions=True)) == 2
