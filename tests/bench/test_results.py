"""Results on disk, comparisons between runs, tables and plots."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
import torch

from medkit.bench.plot import plot
from medkit.bench.results import (
    CaseResult,
    Results,
    TargetResult,
    VariantResult,
    commit_of,
    comparable,
    environment,
    path_of,
    read,
    slower,
    write,
)
from medkit.bench.table import fill, markdown, notes, rows, target_rows
from medkit.errors import InputError

CPU = torch.device("cpu")


def results(took: float = 1.0, size: int = 10) -> Results:
    variants = [
        VariantResult("plain", (1.9, 2.0, 2.2), (1.0, 1.0, 1.0), 5, memory=2_000_000),
        VariantResult("quick", (0.9, took, 1.1), (1.5, 2.0, 2.5), 5, 1e-6, 1_000_000, 0.5, 1e9, 2e9, 0.25),
        VariantResult("gpu", status="skipped", reason="no GPU"),
    ]
    targets = [
        TargetResult("quick", "speed", 1.4, "speed ≥ 1.4", 2.0, True),
        TargetResult("quick", "memory", 0.4, "memory ≤ 0.4", 0.5, False),
    ]
    case = CaseResult("toy", f"case {size}", "plain", 1e-5, False, "curve", size, variants, targets)
    return Results(environment(CPU, ["toy"]), {"copied bytes/s": 1e10}, [case])


def test_results_come_back_from_their_file(tmp_path: Path) -> None:
    saved = results()
    assert read(write(saved, tmp_path / "deep" / "a.json")) == saved


def test_a_missing_file_names_those_that_are_there(tmp_path: Path) -> None:
    write(results(), tmp_path / "mine-x86_64.json")
    with pytest.raises(InputError, match="mine-x86_64"):
        read(tmp_path / "other.json")


@pytest.mark.parametrize("text", ["{}", "[1]", "no json", '{"medkit_bench": 99}'])
def test_other_files_are_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(InputError):
        read(tmp_path / "a.json")


@pytest.mark.parametrize("name", ["../up", "a b", ""])
def test_a_name_that_leaves_the_folder_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError):
        path_of(tmp_path, name, CPU)


def test_comparison_finds_the_variant_that_became_slower() -> None:
    worse, compared = slower(results(took=1.3), results(took=1.0), above=1.1)
    assert worse == [("toy, case 10, quick", pytest.approx(1.3))]
    assert compared == 2


def test_comparison_lets_small_changes_pass() -> None:
    assert slower(results(took=1.05), results(took=1.0), above=1.1) == ([], 2)


def test_runs_without_a_common_variant_cannot_be_compared() -> None:
    with pytest.raises(InputError, match="in common"):
        slower(results(size=1), results(size=2), above=1.1)


@pytest.mark.parametrize("changed", [{"device": "Another"}, {"threads": 99}])
def test_runs_of_another_device_or_number_of_threads_are_not_compared(changed: dict) -> None:
    here = environment(CPU, [])
    with pytest.raises(InputError, match="from another"):
        comparable(here, here | changed)


def test_another_version_of_a_library_is_told() -> None:
    here = environment(CPU, [])
    older = here | {"libraries": here["libraries"] | {"torch": "1.0"}, "allocator": {"MALLOC_MMAP_MAX_": "0"}}
    assert comparable(here, here) == []
    assert comparable(here, older) == ["torch was 1.0", "the allocator's settings (MALLOC_*) were different"]


def test_notes_tell_what_was_not_run_and_what_variants_say_of_themselves() -> None:
    case = results().cases[0]
    case.variants[0].faults, case.variants[1].faults, case.variants[1].remark = 1200.0, 0.0, "waited 1 %"
    assert notes(case) == [
        "gpu was not run: no GPU",
        "memory pages mapped in a call: plain: 1,200; quick: 0",
        "quick: waited 1 %",
    ]


def test_rows_tell_medians_ratios_memory_and_rates() -> None:
    plain, quick = rows(results().cases[0])
    assert plain == ("plain", "2000", "1900-2200", "1", "", "", "2", "", "", "")
    assert quick == ("quick", "1000", "900-1100", "2.00x", "1.50-2.50", "1.0e-06", "1 (0.50x)", "1", "2", "25 %")


def test_target_rows_tell_what_was_met() -> None:
    assert [row[-1] for row in target_rows(results())] == ["met", "not met"]


def test_markdown_is_filled_into_its_place_of_a_page(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- bench mine -->\nold\n<!-- end -->\nafter\n")
    fill(page, "mine", markdown(results()))
    text = page.read_text()
    assert text.startswith("before\n<!-- bench mine -->\nMeasured")
    assert text.endswith("\n<!-- end -->\nafter\n")
    assert "| toy: case 10 | quick | speed ≥ 1.4 | 2.00 | met |" in text
    assert "gpu was not run: no GPU." in text
    assert "old" not in text


def test_a_page_can_take_the_cases_with_targets_alone() -> None:
    both = results(size=10)
    both.cases += results(size=20).cases
    both.cases[1].targets = []
    assert "**toy: case 20**" in markdown(both)
    assert "**toy: case 20**" not in markdown(both, promised=True)


def test_a_page_without_the_place_is_left_alone(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("text\n")
    with pytest.raises(InputError, match="no lines"):
        fill(page, "mine", "new")
    assert page.read_text() == "text\n"


def test_a_plot_needs_two_sizes(tmp_path: Path) -> None:
    assert not plot(results(), tmp_path / "one.png")
    both = results(size=10)
    both.cases += results(size=20).cases
    assert plot(both, tmp_path / "two.png")
    assert (tmp_path / "two.png").read_bytes().startswith(b"\x89PNG")


def test_results_of_the_first_format_are_still_read(tmp_path: Path) -> None:
    content = json.loads(write(results(), tmp_path / "a.json").read_text())
    content["medkit_bench"] = 1
    for case in content["cases"]:
        del case["status"], case["reason"]
        for variant in case["variants"]:
            del variant["status"], variant["flips"]
            variant["skipped"] = variant.pop("reason") or None
    (tmp_path / "a.json").write_text(json.dumps(content))
    assert [variant.status for variant in read(tmp_path / "a.json").cases[0].variants] == ["ok", "ok", "skipped"]


def test_a_failed_variant_is_a_row_and_its_reason_stands_below() -> None:
    case = results().cases[0]
    case.variants.append(VariantResult("wrong", status="failed", reason="it is off", error=0.5))
    case.status, case.reason = "failed", "'wrong' failed: it is off"
    assert rows(case)[-1] == ("wrong", "failed", "", "", "", "5.0e-01", "", "", "", "")
    assert notes(case)[0] == "FAILED: 'wrong' failed: it is off"


def test_a_row_tells_how_many_relus_flipped() -> None:
    case = results().cases[0]
    case.variants[1].flips = 3
    assert rows(case)[1][5] == "1.0e-06 (3 flips)"


def test_a_result_that_is_kept_does_not_make_its_checkout_dirty(tmp_path: Path) -> None:
    def git(*words: str) -> None:
        subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@b", *words], cwd=tmp_path, check=True)

    git("init", "-q")
    files = [tmp_path / "code.py", tmp_path / "benchmarks" / "results" / "cpu.json"]
    for file in files:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("1")
    git("add", ".")
    git("commit", "-qm", "a")
    commit = commit_of(tmp_path)
    assert commit is not None
    assert len(commit) == 12
    files[1].write_text("2")
    assert commit_of(tmp_path / "benchmarks") == commit
    files[0].write_text("2")
    assert commit_of(tmp_path / "benchmarks") == f"{commit}-dirty"
