"""Any texts as prompts of a trained network: those that it was trained with, and others, read by its text encoder."""

import tempfile
from collections.abc import Sequence
from pathlib import Path

from harness.data.config import ClassTableText, TextConfig
from harness.data.prompts import PromptTable, as_trained, class_prompts, is_class_table, joined
from harness.records.errors import UserError


def asked_prompts(
    texts: Sequence[str], title: str, prompts: PromptTable, class_names: Sequence[str], text: TextConfig | None
) -> PromptTable:
    """Row i is that of text i: a prompt that the network was trained with, the name of a class, or another text that
    the encoder `text` reads, if that is the network's.

    `title` is what sentences call the network, `prompts` are those of its classes. UserError for a text that nothing
    here reads.
    """
    if not texts:
        raise UserError("there is no text to make a picture of; give at least one")
    if wrong := [each for each in texts if not isinstance(each, str)]:
        raise UserError(
            f"what a picture is to show is a text, not {wrong[0]!r}: a prompt, or a class by its name, such as "
            f"'{next(iter(class_names), '')}'"
        )
    known = {name: row for row, name in enumerate(class_names)}
    known |= {prompt: row for row, prompt in enumerate(prompts.identity["prompts"])}
    trained = [each for each in dict.fromkeys(texts) if each in known]
    others = [each for each in dict.fromkeys(texts) if each not in known]
    table = prompts.rows([known[each] for each in trained])
    if others:
        table = joined(table, _read(others, title, prompts, text))
    place = {each: row for row, each in enumerate([*trained, *others])}
    return table.rows([place[each] for each in texts])


def _read(texts: Sequence[str], title: str, trained: PromptTable, text: TextConfig | None) -> PromptTable:
    """Texts that the network was not trained with."""
    of = trained.identity
    if is_class_table(of):
        raise UserError(f"{title} knows no texts but its classes, and '{texts[0]}' is none; give one of them")
    if text is None or isinstance(text, ClassTableText):
        raise UserError(
            f"{title} was not trained with '{texts[0]}', and the text encoder that would read it, of the hash "
            f"{of['encoder']}, has no name there; give its settings to load, text=HuggingFaceText(name=FOLDER), or "
            f"a text such as '{of['prompts'][0]}'"
        )
    text = as_trained(text, {**of, "template": "{}", "length": trained.length})
    with tempfile.TemporaryDirectory() as cache:
        embedded = class_prompts(text, texts, Path(cache), captions=True)
    if embedded.identity["encoder"] != of["encoder"]:
        raise UserError(
            f"{title} was trained with the text encoder of the hash {of['encoder']}, and text={text.kind} is "
            f"{embedded.identity['encoder']}; give that one's settings to load as text=..."
        )
    if embedded.unread:
        raise UserError(f"the text encoder of {title} reads nothing in '{embedded.unread[0]}'; write it in words")
    return embedded.to(trained.empty.device)
