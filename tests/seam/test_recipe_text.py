"""A run writes its recipe and reads it back: no text, wherever it stands, becomes another one on the way."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medkit import names
from medkit.errors import InputError
from medkit.recipe import check_round_trip, load_recipe, recipe_from
from medkit.recipe import yaml as yaml_marks
from medkit.recipe.yaml_dump import dump

WORDS = r"""08 09 0012 1e3 12e4567 0o7 0x1F +1 .5 1. 1_000 12:30 2001-01-01 ~ null Null true False yes No on .inf .nan
= << !x &a *b - ? : -a ${HOME} $${A} $${ ${ @a `a % ' " \ {} [] ---"""
ODD = [
    *WORDS.split(),
    "",
    " ",
    " a ",
    "a: b",
    "- a",
    "# c",
    "a #b",
    "a\nb",
    "\n",
    "a\r\nb",
    "\x85",
    "\u2028x",
    "\ufeffx",
]
TEXT = st.one_of(
    st.sampled_from(ODD),
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=40),
    st.text("0123456789eExXoO+-.:_ ~#&*!|>'\"%@`{}[],?$\n\t\x85\u2028", max_size=12),
)


def recipe(text: str) -> dict[str, Any]:
    """A recipe with ``text`` wherever a recipe may have any."""
    return {
        "medkit": 1,
        "name": "small",
        "data": {
            "ct": {
                "source": {"use": "manifest", "path": text},
                "splits": {"train": {"fold": text}, "test": {"center": [text, "B", 3, 0.1], text: True}},
                "fields": [text],
            }
        },
        "stages": [
            {
                "name": "classify",
                "objective": {
                    "use": "multitask",
                    "encoder": {"use": "timm", "model": text},
                    "heads": {"cls": "smartnet:slice_class"},
                },
                "metrics": ["auc"],
            }
        ],
        "report": {"tables": [{"title": text, "stage": "classify", "rows": {"classify": text}}]},
    }


@settings(deadline=None, max_examples=60)
@given(TEXT)
def test_a_written_recipe_is_read_back_as_it_was_for_every_text(
    tmp_path_factory: pytest.TempPathFactory, text: str
) -> None:
    made = recipe_from(recipe(text))
    check_round_trip(made)
    path = tmp_path_factory.mktemp("recipe") / "recipe.yaml"
    assert load_recipe(made.write(path)).resolved() == made.resolved()


@settings(deadline=None, max_examples=100)
@given(st.recursive(st.one_of(TEXT, st.none(), st.booleans(), st.integers(-(10**90), 10**90), st.floats(allow_nan=False)), lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(TEXT, inner, max_size=3)), max_leaves=8))  # fmt: skip
def test_all_plain_data_survive_writing_and_reading(content: Any) -> None:
    assert yaml_marks.parse(dump(content), "x.yaml").plain() == content


def test_a_hospital_called_08_stays_another_one_than_8(tmp_path: Path) -> None:
    again = load_recipe(recipe_from(recipe("08")).write(tmp_path / "recipe.yaml"))
    assert again.data["ct"].splits["train"] == {"fold": "08"}


def test_what_a_variable_holds_is_not_expanded_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OUTER", "${INNER}")
    monkeypatch.setenv("INNER", "elsewhere")
    path = tmp_path / "r.yaml"
    path.write_text(dump(recipe("x")).replace("path: x", "path: ${OUTER}"), encoding="utf-8")
    made = load_recipe(path)
    assert made.data["ct"].source.arguments["path"] == str(tmp_path / "${INNER}")
    again = load_recipe(made.write(tmp_path / "recipe.yaml"))
    assert again.data["ct"].source.arguments["path"] == str(tmp_path / "${INNER}")


def test_two_dollars_are_the_text_of_one() -> None:
    assert yaml_marks.parse("a: $${HOME}/$$", "x.yaml").plain() == {"a": "${HOME}/$$"}
    assert yaml_marks.parse("a: ${HOME}", "x.yaml").plain() == {"a": os.environ["HOME"]}


@pytest.mark.parametrize("text", ["a\0b", "\ud800"])
def test_text_that_no_file_can_hold_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="a text contains"):
        recipe_from(recipe(text))


ALIASES = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{b}: &{b} [{','.join(['*' + a] * 9)}]\n" for a, b in zip("abcdefghi", "bcdefghij", strict=True)
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (ALIASES, "more than 50,000 values"),
        ("a: &a [*a]", "stands for something that it is a part of"),
        ("a: " + "[" * 2000 + "]" * 2000, "nested more than 40 deep"),
        ("a: " + "{b: " * 2000 + "}" * 2000, "nested more than 40 deep"),
        ("a: [" + "x," * 120_000 + "]", "more than 50,000 values"),
        ("a: " + "x" * 2**20, "longer than 1,048,576 characters"),
        ("seed: " + "9" * 5000, "a number of 5,000 digits"),
        ("seed: 0x" + "f" * 5000, "a number of 5,002 digits"),
        ("commit: 12e4567", "12e4567 is outside the range of floating-point numbers; quote it if it is text"),
        ("a: 1e-999", "1e-999 is outside"),
        (r'a: "\UFFFFFFFF"', "not valid YAML"),
        ("%YAML " + "9" * 5000 + ".1\n---\na: 1", "not valid YAML"),
        ("a: !!int '8'", "the tag"),
        ("a: !!python/object:os.system x", "the tag"),
    ],
    ids=lambda value: value[:20],
)
def test_texts_made_to_take_all_memory_or_time_are_refused(text: str, expected: str) -> None:
    with pytest.raises(InputError, match=expected):
        yaml_marks.parse(text, "x.yaml")


def test_aliases_are_read_where_they_only_save_writing() -> None:
    assert yaml_marks.parse("a: &a [1, 2]\nb: *a", "x.yaml").plain() == {"a": [1, 2], "b": [1, 2]}


def test_python_data_that_hold_themselves_are_refused() -> None:
    data: dict[str, Any] = recipe("x")
    data["data"]["ct"]["fields"].append(data)
    with pytest.raises(InputError, match="nested more than 40 deep"):
        recipe_from(data)


def named(kind: str, name: str) -> dict[str, Any]:
    """The recipe with something of ``kind`` named ``name``."""
    made = recipe("x")
    stage, data = made["stages"][0], made["data"]["ct"]
    if kind == "recipe":
        made["name"] = name
    elif kind == "data":
        made["data"] = {name: data}
    elif kind == "split":
        data["splits"][name] = {"fold": "more"}
    elif kind == "stage":
        stage["name"] = name
        del made["report"]
    elif kind == "variant":
        stage["repeat"] = {name: {"epochs": 1}}
    else:
        stage["objective"]["heads"] = {name: "smartnet:slice_class"}
    return made


@pytest.mark.parametrize("kind", ["recipe", "data", "split", "stage", "variant", "head"])
@pytest.mark.parametrize(
    "name", ["a/b", "../../x", "/abs", "..", ".", ".a", "", "a b", "a\nb", "a\\b", "x" * 65, "ü" * 33]
)
def test_a_name_that_is_no_file_name_is_refused_at_its_place(kind: str, name: str) -> None:
    with pytest.raises(InputError, match="name"):
        recipe_from(named(kind, name))


@pytest.mark.parametrize("name", ["v1.2", "n~", "a..b"])
def test_a_recipes_own_name_may_hold_a_version(name: str) -> None:
    check_round_trip(recipe_from(named("recipe", name)))


@pytest.mark.parametrize("kind", ["recipe", "data", "split", "stage", "variant", "head"])
@pytest.mark.parametrize("name", ["a", "Läufe", "頭部", "a-b_c+d", "3d", "x" * 64])
def test_names_of_letters_and_digits_of_any_script_are_taken(kind: str, name: str) -> None:
    check_round_trip(recipe_from(named(kind, name)))


@pytest.mark.parametrize("kind", ["data", "split", "stage", "variant", "head"])
def test_a_name_with_a_dot_is_refused_where_a_dot_separates(kind: str) -> None:
    with pytest.raises(InputError, match="name"):
        recipe_from(named(kind, "a.b"))


@pytest.mark.parametrize("name", ["type", "training", "forward", "_parameters"])
def test_a_head_is_not_named_as_torch_names_its_own(name: str) -> None:
    with pytest.raises(InputError, match="torch uses the name"):
        recipe_from(named("head", name))


def test_the_names_that_torch_takes_are_those_of_the_torch_installed() -> None:
    from torch import nn

    taken = {name for name in dir(nn.ModuleDict()) if not name.startswith("_")}
    assert taken <= names.MODULE_ATTRIBUTES


@pytest.mark.parametrize("seed", [-1, 2**32, 1.5, "1", True])
def test_a_seed_that_no_generator_takes_is_refused(seed: Any) -> None:
    with pytest.raises(InputError, match="seed"):
        recipe_from({**recipe("x"), "seed": seed})


def test_a_title_of_any_length_gives_a_file_name() -> None:
    made = recipe_from(recipe("word " * 100))
    assert len(made.report.tables[0].slug) <= 60
