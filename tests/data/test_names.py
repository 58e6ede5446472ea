"""Folder names and names files: what a prompt says of a class, and never the same of two."""

import unicodedata

import pytest

from harness.data.names import class_names, named_folders
from harness.records.errors import UserError

FOLDERS = ("black_cat", "dog")


@pytest.fixture
def names(tmp_path):
    return tmp_path / "names.txt"


def test_a_names_file_says_what_a_folder_means(names):
    names.write_text("black_cat tench, Tinca tinca\ndog\tgreat white shark\n")
    assert class_names(FOLDERS, names) == ("tench", "great white shark")
    names.write_text("black_cat tench\n")
    with pytest.raises(UserError, match="no name for the class folder 'dog'; add a line `dog NAME`"):
        class_names(FOLDERS, names)


@pytest.mark.parametrize(
    "content",
    [
        b"\xef\xbb\xbfdog Hund\nblack_cat Katze\n",
        b"dog Hund\r\nblack_cat\tKatze\r\n",
        b"\n  dog   Hund  \n\nblack_cat \t Katze\nother Pferd",
        b"# names in German\ndog Hund, Rex\nblack_cat Katze,\n",
    ],
    ids=["byte-order mark", "Windows", "blanks", "others"],
)
def test_a_file_from_any_editor(names, content):
    names.write_bytes(content)
    assert class_names(FOLDERS, names) == ("Katze", "Hund")


def test_a_folders_name_may_hold_spaces(names):
    names.write_text("hot dog Würstchen im Brot\nhot heiß\nhot dog bun\tBrötchen\n")
    folders = ("hot", "hot dog", "hot dog bun")
    assert class_names(folders, names) == ("heiß", "Würstchen im Brot", "Brötchen")


def test_a_folders_name_may_be_spelt_in_either_unicode_form(names):
    names.write_text(f"{unicodedata.normalize('NFC', 'café')} coffee\n")
    folder = unicodedata.normalize("NFD", "café")
    assert named_folders(names, [folder]) == {folder: "coffee"}


@pytest.mark.parametrize(
    "folders", [(unicodedata.normalize("NFC", "café"), unicodedata.normalize("NFD", "café")), ("dog", "dog ")]
)
def test_folders_that_no_line_tells_apart_are_refused(names, folders):
    names.write_text("café coffee\ndog Hund\n")
    with pytest.raises(UserError, match=r"no line of .*names.txt tells them apart; rename one of them"):
        class_names(folders, names)


def test_a_folder_whose_name_ends_in_a_space_can_be_named(names):
    names.write_text("dog  Hund\n")
    assert class_names(["dog "], names) == ("Hund",)


@pytest.mark.parametrize("line", ["dog,Hund", "dog, Hund", "dog: Hund", "dog=Hund"])
def test_a_file_of_another_format_is_told_what_parts_folder_and_name(names, line):
    names.write_text(f"black_cat Katze\n{line}\n")
    with pytest.raises(UserError, match=r"'dog'; line 2 has a '[,:=]' after it, where a tab or spaces are to be"):
        class_names(FOLDERS, names)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("dog Hund\nblack_cat Katze\ndog Rex\n", "names.txt, line 3: 'dog' is named in line 1 too; keep one of them"),
        ("dog\nblack_cat Katze\n", "names.txt, line 1: 'dog' has no name; write `dog NAME`"),
        ("dog , Hund\nblack_cat Katze\n", "names.txt, line 1: 'dog' has no name"),
        ("dog crane\nblack_cat crane\n", "'black_cat' and 'dog' are both called 'crane'"),
        ("dog a\x1b[31m\nblack_cat Katze\n", "'dog' gives no name that a prompt can say"),
    ],
)
def test_a_mistake_in_a_names_file_is_said_with_its_line(names, content, sentence):
    names.write_text(content)
    with pytest.raises(UserError) as refused:
        class_names(FOLDERS, names)
    assert sentence in str(refused.value)


def test_a_names_file_of_another_encoding_or_none_is_one_sentence(names):
    names.write_bytes("dog Hündchen\n".encode("latin-1"))
    with pytest.raises(UserError, match=r"in UTF-8; .*names\.txt: invalid .* at byte 5"):
        class_names(FOLDERS, names)
    with pytest.raises(UserError, match=r"cannot read data\.names=.*nowhere\.txt: No such file"):
        class_names(FOLDERS, names.with_name("nowhere.txt"))


@pytest.mark.parametrize("pair", [("hot dog", "hot_dog"), ("a__b", "a b"), (" cat", "cat"), ("é", "e\u0301")])
def test_two_folders_that_a_prompt_says_alike_are_refused(pair):
    with pytest.raises(UserError, match="so that no prompt tells them apart; put them together, or name them"):
        class_names(pair, None)


@pytest.mark.parametrize("folder", ["_", "bad\udcffname", "red\x1b[31m"])
def test_a_folder_without_a_name_to_say_is_refused(folder):
    with pytest.raises(UserError, match="gives no name that a prompt can say; rename it, or name it in a names file"):
        class_names([folder], None)


def test_markup_is_a_name_like_any_other(names):
    names.write_text("dog foo [/bar]\nblack_cat [red]cat[/red]\n")
    assert class_names(FOLDERS, names) == ("[red]cat[/red]", "foo [/bar]")
