"""Manifests: every form that spreadsheets write is read or refused with its cause; names are exact texts."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pyarrow
import pytest
from PIL import Image

from medkit.data.alike import look_alikes
from medkit.data.cases import CaseTable, encoded
from medkit.data.dataset import Dataset
from medkit.data.manifest import column_names, read_manifest
from medkit.data.source import ManifestSource
from medkit.data.source_columns import of_another
from medkit.data.splits import select
from medkit.data.whereabouts import MANY, whereabouts
from medkit.errors import InputError
from medkit.protocols import Case


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for i in range(4):
        Image.fromarray(np.full((8, 8), i, np.uint8)).save(tmp_path / f"{i}.png")
    return tmp_path


def source(folder: Path, text: str | bytes, **arguments: Any) -> ManifestSource:
    (folder / "m.csv").write_bytes(text if isinstance(text, bytes) else text.encode())
    return ManifestSource(folder / "m.csv", **arguments)


GOOD = {
    "byte order mark": b"\xef\xbb\xbfimage,patient\n0.png,0012\n",
    "CRLF": b"image,patient\r\n0.png,0012\r\n",
    "CR": b"image,patient\r0.png,0012\r",
    "blank lines": b"\nimage,patient\n\n0.png,0012\n\n",
    "spaces": b"image,patient\n 0.png ,\t0012 \n",
    "quoted newline": b'image,patient,note\n0.png,0012,"two\nlines"\n',
    "index of pandas": b",image,patient\n0,0.png,0012\n",
    "comma behind every line": b"image,patient,\n0.png,0012,\n",
}


@pytest.mark.parametrize("form", GOOD)
def test_forms_that_spreadsheets_write_are_read(folder: Path, form: str) -> None:
    case = source(folder, GOOD[form]).cases()[0]
    assert (case.id, case.patient) == ("0.png", "0012")


@pytest.mark.parametrize("form", GOOD)
def test_the_names_of_the_columns_alone_are_those_of_the_whole_table(folder: Path, form: str) -> None:
    path = source(folder, GOOD[form]).path
    assert column_names(path) == read_manifest(path).column_names
    pandas.DataFrame({"image": ["0.png"], "a": [1]}, index=[7]).to_parquet(folder / "m.parquet")
    assert column_names(folder / "m.parquet") == read_manifest(folder / "m.parquet").column_names == ["image", "a"]


BAD = {
    "semicolons": (b"image;patient\n0.png;1\n", "separated by semicolons, not by commas"),
    "tabs": (b"image\tpatient\n0.png\t1\n", "separated by tabs"),
    "UTF-16": ("image,patient\n0.png,1\n".encode("utf-16"), "not UTF-8 text"),
    "UTF-16 without its mark": ("image,patient\n0.png,1\n".encode("utf-16-le"), "not UTF-8 text"),
    "Excel's separator": (b"sep=,\nimage,patient\n0.png,1\n", r"m\.csv:1: .*begins with 'sep='.*remove this line"),
    "latin-1 in a name": ("image,patient\n0.png,Müller\n".encode("latin-1"), "not UTF-8 text"),
    "latin-1 in the header": ("image,patient,größe\n".encode("latin-1"), "not UTF-8 text"),
    "comma behind rows": (b"image,patient\n0.png,1,\n", r"m\.csv:2: this line has 3 fields, the header 2 columns"),
    "short row": (b"image,patient\n0.png,1\n1.png\n", r"m\.csv:3: this line has 1 fields"),
    "two columns of one name": (b"image,patient,patient\n0.png,1,2\n", "two columns are named 'patient'"),
    "nothing": (b"", "the manifest is empty"),
    "header only": (b"image,patient\n", "the manifest has no rows"),
    "no value of patient": (b"image,patient\n0.png,1\n1.png,  \n", r"m\.csv:3: no value in 'patient'"),
    "no value of image": (b"image,patient\n,1\n", r"m\.csv:2: no value in 'image'"),
    "no such image": (b"image,patient\n0.png,1\n9.png,2\n", r"m\.csv:3: image: there is no '.*9\.png'"),
    "NUL": (b"image,patient\n0.png\0,1\n", r"m\.csv:2: image: there is no '.*0\.png"),
    "long cell": (b"image,patient\n" + b"x" * 300_000 + b",1\n", r"m\.csv:2: image.*\(30\d+ characters\)'$"),
    "one case twice": (b"image,patient\n0.png,1\n1.png,2\n0.png,3\n", r"m\.csv:4: case '0\.png' is listed twice"),
}


@pytest.mark.parametrize("form", BAD)
def test_other_forms_are_refused_with_their_cause(folder: Path, form: str) -> None:
    with pytest.raises(InputError, match=BAD[form][1]):
        source(folder, BAD[form][0]).cases()


@pytest.mark.parametrize("label", ["nan", "NaN", "inf", "-inf", "1e400", "yes", "1;0", "1_000"])
def test_a_label_that_is_no_finite_number_is_refused_with_its_row(folder: Path, label: str) -> None:
    with pytest.raises(InputError, match=rf"m\.csv:3: y: '{label}' is not a finite number"):
        source(folder, f"image,patient,y\n0.png,1,1\n1.png,2,{label}\n", label="y").cases()


@pytest.mark.parametrize("key", ["mask", "target", "center", "fold"])
def test_an_optional_column_that_the_source_names_has_to_be_there(folder: Path, key: str) -> None:
    with pytest.raises(InputError, match=rf"no column 'hospitl', which the source names as '{key}'; did you mean"):
        source(folder, "image,patient,hospital\n0.png,1,A\n", **{key: "hospitl"}).cases()


def test_another_manifest_may_lack_the_optional_columns_of_the_first(folder: Path) -> None:
    path = source(folder, "image,patient\n0.png,1,a row that is not looked at\n").path
    arguments = of_another({"center": "hospital", "mask": ["bleed", "oedema"], "label": "y"}, path)
    assert arguments == {"mask": ["bleed", "oedema"], "label": "y"}


@pytest.mark.parametrize("name", ["Mask", " mask", "MASK"])
def test_a_column_of_files_that_is_almost_named_mask_is_not_passed_over(folder: Path, name: str) -> None:
    with pytest.raises(
        InputError, match=f"the column '{name}' holds files, but is not named 'mask'; rename it, or give"
    ):
        source(folder, f"image,patient,{name}\n0.png,1,1.png\n").cases()


def test_a_field_that_is_almost_named_target_is_a_field(folder: Path) -> None:
    assert source(folder, "image,patient,Target\n0.png,1,0\n").cases()[0].fields == {"Target": "0"}


def test_a_split_of_a_column_that_is_spelled_otherwise_names_it(folder: Path) -> None:
    cases = source(folder, "image,patient,Fold\n0.png,1,train\n").cases()
    with pytest.raises(InputError, match="no case has a value in 'fold', but there is a column 'Fold'"):
        select(cases, {"fold": "train"})


def test_labels_are_numbers_and_an_empty_cell_is_none(folder: Path) -> None:
    cases = source(folder, "image,patient,y\n0.png,1,1e0\n1.png,2,\n2.png,3, 12.5\n", label="y").cases()
    assert [case.label for case in cases] == [1.0, None, 12.5]


def test_names_are_stripped_texts_and_never_numbers(folder: Path) -> None:
    rows = "image,patient,center,fold\n0.png, 0012 ,08,1e3\n1.png,12,8,1000\n2.png,12.0,8.0,\n"
    found = [(case.patient, case.center, case.fold) for case in source(folder, rows).cases()]
    assert found == [("0012", "08", "1e3"), ("12", "8", "1000"), ("12.0", "8.0", "")]


def test_whole_numbers_of_parquet_are_texts_as_they_are(folder: Path) -> None:
    table = pandas.DataFrame({"image": ["0.png"], "patient": [12345678901234567], "fold": pandas.Categorical(["a"])})
    table.to_parquet(folder / "m.parquet")
    case = ManifestSource(folder / "m.parquet").cases()[0]
    assert (case.patient, case.fold) == ("12345678901234567", "a")


@pytest.mark.parametrize("column", ["patient", "fold", "image"])
def test_decimal_numbers_as_names_are_refused(folder: Path, column: str) -> None:
    table = pandas.DataFrame({"image": ["0.png", "1.png"], "patient": ["a", "b"], "fold": ["x", "y"]})
    table[column] = [7.0, None]
    table.to_parquet(folder / "m.parquet")
    with pytest.raises(
        InputError, match=rf"'{column}' is a column of names, but holds decimal numbers such as 7\.0.*Int64"
    ):
        ManifestSource(folder / "m.parquet").cases()


def test_a_parquet_column_of_lists_is_no_label(folder: Path) -> None:
    pandas.DataFrame({"image": ["0.png"], "patient": ["1"], "y": [[1, 0]]}).to_parquet(folder / "m.parquet")
    with pytest.raises(
        InputError, match=r"m\.parquet: the column 'y' holds list<element: int64> values, not one number per row"
    ):
        ManifestSource(folder / "m.parquet", label="y").cases()


def test_a_parquet_field_of_lists_is_read_as_no_value(folder: Path) -> None:
    pandas.DataFrame({"image": ["0.png"], "patient": ["1"], "y": [[1, 0]]}).to_parquet(folder / "m.parquet")
    cases = ManifestSource(folder / "m.parquet").cases()
    with pytest.raises(InputError, match=r"the column 'y' holds list<element: int64> values, not one value per row"):
        encoded(cases, "y")


def test_patients_that_differ_by_spaces_are_one(folder: Path) -> None:
    given = source(folder, "image,patient,fold\n0.png,P01,train\n1.png,P01 ,val\n2.png, P01,test\n")
    assert encoded(given.cases(), "patient")[1] == ["P01"]


@pytest.mark.parametrize(
    ("patients", "told"),
    [
        (("P01", "p01"), "'P01' and 'p01'"),
        (("P01", "P1"), "'P01' and 'P1'"),
        (("7", "7.0"), "'7' and '7.0'"),
        (("P 1", "P1"), "'P 1' and 'P1'"),
        (("P10", "P100"), None),
        (("1.20", "1.2"), None),
        (("M\u00fcl", "Mu\u0308l"), r"'M\xfcl' and 'Mu\u0308l'"),
        (("P01", "P01\u200b"), r"'P01' and 'P01\u200b'"),
        (("P01", "\uff30\uff10\uff11"), r"'P01' and '\uff30\uff10\uff11'"),
        (("P-1", "P\u20111"), r"'P-1' and 'P\u20111'"),
        (("M\u00fcl", "Mul"), None),
    ],
)
def test_look_alikes_are_told(folder: Path, patients: tuple[str, str], told: str | None) -> None:
    given = source(folder, "image,patient\n" + "".join(f"{i}.png,{name}\n" for i, name in enumerate(patients)))
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        Dataset(given, {"all": {}})
    assert ([told in str(warning.message) for warning in found] == [True]) if told else not found


def test_look_alikes_are_grouped() -> None:
    assert look_alikes(["a", "A", "b1", "b01", "c"]) == [["a", "A"], ["b1", "b01"]]
    assert look_alikes(["P-01", "p1", "P.1", "p_1.0", "P2"]) == [["P-01", "p1", "P.1", "p_1.0"]]
    assert look_alikes(["1.05", "1.5", "1-5", "15", "1 2"]) == []
    assert look_alikes([]) == []


CASES = [
    Case(str(i), "p", center=c, label=1.0, fields={"q": q}) for i, (c, q) in enumerate(zip("ABC", "123", strict=True))
]


@pytest.mark.parametrize(
    ("cell", "wanted", "same"),
    [
        ("8", 8, True),
        ("08", 8, False),
        ("8.0", 8, False),
        (" 8 ", 8, True),
        ("true", True, True),
        ("True", True, True),
        ("1", True, False),
        ("yes", True, False),
        ("0.5", 0.5, True),
        (8, 8, True),
        (8.0, 8, True),
        (8, "8", True),
        (True, True, True),
        (True, 1, False),
        (1, True, False),
        ("NO", "NO", True),
        ("no", "NO", False),
        (None, "", True),
        ("", "", True),
    ],
)
def test_a_cell_is_selected_by_what_is_written(cell: Any, wanted: Any, same: bool) -> None:
    cases = [Case("a", "p", fields={"q": cell}), Case("b", "p", fields={"q": "other"})]
    try:
        found = [case.id for case in select(cases, {"q": wanted})]
    except InputError:
        found = []
    assert found == (["a"] if same else [])


def test_an_empty_split_names_what_looks_like_the_wanted_value() -> None:
    cases = [Case("a", "p", center="08")]
    with pytest.raises(InputError, match="""'08' looks like '8' but is different text: write "08" in quotes"""):
        select(cases, {"center": 8})


def test_tables_and_lists_select_alike(folder: Path) -> None:
    rows = "image,patient,center,q\n0.png,a,X,1\n1.png,b,Y,\n2.png,c,X,2\n3.png,d,,1\n"
    table = source(folder, rows).cases()
    assert isinstance(table, CaseTable)
    for picks in ({}, {"center": "X"}, {"q": 1}, {"q": ["", 2]}, {"center": "", "q": 1}):
        assert list(select(table, picks)) == select(list(table), picks)


@pytest.mark.parametrize("value", ["True", "M", "012M", "nan", "inf"])
def test_a_field_that_is_no_number_is_named_with_its_value(folder: Path, value: str) -> None:
    given = source(folder, f"image,patient,sex\n0.png,1,1\n1.png,2,{value}\n")
    with pytest.raises(InputError, match=f"case '1.png' has no number in field 'sex', but '{value}'"):
        Dataset(given, {"all": {}}, fields=["sex"])


def one_image(folder: Path, second: str, patients: str = "PQ", folds: tuple[str, str] = ("train", "test")) -> Dataset:
    rows = f"case,image,patient,fold\nA,0.png,{patients[0]},{folds[0]}\nB,{second},{patients[1]},{folds[1]}\n"
    return Dataset(source(folder, rows, case="case"), {name: {"fold": name} for name in dict.fromkeys(folds)})


@pytest.mark.parametrize("name", ["0.png", "./0.png", "sub/../0.png", "link.png", "linked/0.png", "loop/linked/0.png"])
def test_an_image_of_two_patients_in_two_splits_is_refused(folder: Path, name: str) -> None:
    (folder / "sub").mkdir()
    (folder / "link.png").symlink_to(folder / "0.png")
    (folder / "linked").symlink_to(folder)
    (folder / "loop").symlink_to(folder)
    with pytest.raises(InputError, match=r"0\.png: one image is listed as that of 'P' in 'train' and of 'Q' in 'test'"):
        one_image(folder, name)


@pytest.mark.parametrize("name", ["./0.png", "sub/../0.png", "link.png"])
def test_an_image_that_is_listed_twice_in_two_spellings_is_refused_with_both_rows(folder: Path, name: str) -> None:
    (folder / "sub").mkdir()
    (folder / "link.png").symlink_to(folder / "0.png")
    given = source(folder, f"image,patient,fold,label\n0.png,P,test,0\n1.png,Q,test,1\n{name},P,test,1\n")
    with pytest.raises(InputError, match=r"m\.csv:4: case '.*' is listed twice: '0\.png' in .*:2 is the same image"):
        given.cases()


def test_an_image_with_two_rows_of_one_patient_or_in_one_split_is_taken(folder: Path) -> None:
    one_image(folder, "0.png", patients="PP", folds=("reader1", "reader2"))
    one_image(folder, "0.png", folds=("train", "train"))
    one_image(folder, "1.png")


def test_an_image_in_nested_or_pooled_splits_is_taken(folder: Path) -> None:
    given = source(folder, "image,patient,center\n0.png,P,A\n1.png,Q,B\n")
    Dataset(given, {"A": {"center": "A"}, "both": {"center": ["A", "B"]}})


@pytest.mark.parametrize("many", [3, MANY + 3])
def test_names_are_looked_up_as_the_system_does(tmp_path: Path, many: int) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "series").mkdir()
    for i in range(many):
        (tmp_path / "a" / f"{i}.png").write_bytes(b"")
    (tmp_path / "a" / "link").symlink_to(tmp_path / "a" / "0.png")
    (tmp_path / "a" / "broken").symlink_to(tmp_path / "nowhere")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    texts = [f"a/{i}.png" for i in range(many)]
    texts += ["a/link", "a/broken", "a/none", "b/1.png", "a", "a/", "a/.", "a/../a/1.png", "none/1.png", "series"]
    names = [f"{tmp_path}/{text}" for text in texts]
    there, places = whereabouts(pyarrow.array([*names, None, f"{tmp_path}/series#1.2.3"], pyarrow.large_string()))
    assert there.tolist() == [*map(os.path.exists, names), True, True]
    expected = [os.path.realpath(name) for name, found in zip(names, there, strict=False) if found]
    assert [places[i].as_py() for i in np.flatnonzero(there[: len(names)])] == expected
    assert places[len(names) + 1].as_py() == f"{tmp_path}/series#1.2.3"


@pytest.mark.parametrize("many", [1, MANY])
def test_names_in_another_encoding_do_no_harm(tmp_path: Path, many: int) -> None:
    for i in range(many):
        (tmp_path / f"ü{i}.png").write_bytes(b"")
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xfc.png")).write_bytes(b"")
    names = [f"{tmp_path}/ü{i}.png" for i in range(many)]
    assert whereabouts(pyarrow.array(names, pyarrow.large_string()))[0].all()


def test_manifests_name_files_in_utf_8_whatever_the_locale(folder: Path) -> None:
    (folder / "ü.png").write_bytes((folder / "0.png").read_bytes())
    (folder / "m.csv").write_text("image,patient\nü.png,1\n", encoding="utf-8")
    code = (
        "import sys; from medkit.data.source import ManifestSource\n"
        "s = ManifestSource(sys.argv[1]); c = s.cases()[0]; s.identity(c); print(s.load(c).image.voxels.shape)"
    )
    environ = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = subprocess.run([sys.executable, "-c", code, folder / "m.csv"], env=environ, capture_output=True, text=True)
    assert done.stdout == "(1, 8, 8)\n", done.stderr


def test_files_that_are_all_different_need_no_other_names(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"")
    there, places = whereabouts(pyarrow.array([f"{tmp_path}/x", f"{tmp_path}/y"], pyarrow.large_string()))
    assert (there.tolist(), places) == ([True, False], None)


def test_what_is_wrong_with_an_image_is_told_with_its_row(folder: Path) -> None:
    (folder / "1.png").write_bytes(b"")
    given = source(folder, "image,patient\n0.png,1\n1.png,2\n")
    with pytest.raises(InputError, match=r"m\.csv:3: .*1\.png: the file is empty"):
        given.load(given.cases()[1])


def test_an_image_that_vanishes_is_named(folder: Path, tmp_path: Path) -> None:
    data = Dataset(source(folder, "image,patient\n0.png,1\n"), {"all": {}}, cache_dir=tmp_path / "cache")
    (folder / "0.png").unlink()
    with pytest.raises(InputError, match=r"0\.png: the file cannot be read.*moved or deleted"):
        data.sample(data.cases("all")[0])


def test_a_parquet_file_with_a_damaged_column_name_is_refused_with_its_name(tmp_path: Path) -> None:
    path = tmp_path / "m.parquet"
    pandas.DataFrame({"image": ["a"], "patient": ["p"]}).to_parquet(path)
    path.write_bytes(path.read_bytes().replace(b"patient", b"pat\x82ent"))
    with pytest.raises(InputError, match=r"m\.parquet: the manifest cannot be read"):
        ManifestSource(path).cases()
