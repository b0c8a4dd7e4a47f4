"""``list``, ``show``, ``schema``, ``check``, ``plugins`` and ``doctor`` tell what there is."""

from __future__ import annotations

import json

import pytest


def test_list_shows_every_registered_component(medkit):
    from medkit.registry.plugins import registry

    listed = json.loads(medkit("list", "--json").stdout)
    assert {(c["kind"], c["name"]) for c in listed} == set(registry().entries)


def test_list_of_a_kind_is_a_table_with_summaries(medkit):
    text = medkit("list", "optimizer").stdout
    assert "medkit:adamw" in text
    assert "Adam with decoupled weight decay" in text
    assert "medkit:bce" not in text


def test_a_plugin_under_work_is_listed_from_its_file(medkit, tmp_path):
    (tmp_path / "mine.py").write_text(
        "from medkit.api import hookimpl\n\n@hookimpl\ndef medkit_register(registry):\n"
        "    registry.loss('odd', 'mine:Odd', 'an odd loss')\n"
    )
    assert "mine:odd" in medkit("list", "loss", "--plugin", "mine.py").stdout


def test_show_gives_types_defaults_meanings_and_a_block(medkit):
    text = medkit("show", "slice_class").stdout
    assert "float >= 0 < 1" in text
    assert "Before the linear layer." in text
    assert '{use: "smartnet:slice_class"}' in text


def test_show_agrees_with_the_schema_of_the_imported_class(medkit):
    from medkit.registry.plugins import registry
    from medkit.registry.schema import schema_of

    shown = json.loads(medkit("show", "lstm_classifier", "--json").stdout)[0]
    assert shown["arguments"] == json.loads(
        json.dumps(schema_of(registry().resolve("operator", "lstm_classifier").load()).json())
    )


def test_show_tells_all_kinds_that_share_a_name_unless_one_is_asked_for(medkit):
    both = json.loads(medkit("show", "dice", "--json").stdout)
    one = json.loads(medkit("show", "dice", "--kind", "metric", "--json").stdout)
    assert {c["kind"] for c in both} == {"loss", "metric"}
    assert [c["kind"] for c in one] == ["metric"]


def test_schema_is_json_schema_that_knows_every_kind(medkit):
    schema = json.loads(medkit("schema").stdout)
    assert "$defs" in schema
    assert {"encoder", "pretext", "operator", "loss", "metric", "source"} <= set(schema["$defs"])


@pytest.mark.parametrize("recipe", ["ich_seg", "thesis/ich_cls"])
def test_a_bundled_recipe_is_checked_by_its_name(medkit, recipe):
    done = medkit("check", recipe, MEDKIT_ICH_MANIFEST="/data/ich.csv")
    assert done.returncode == 0, done.stderr
    assert "is well formed" in done.stdout


def test_check_prints_the_resolved_recipe_with_overrides(medkit):
    done = medkit("check", "tiny_ich_cls", "--set", "stages.pretext.epochs=7", "--json")
    recipe = json.loads(done.stdout)
    assert recipe["stages"][0]["epochs"] == 7


def test_plugins_counts_the_components_of_each(medkit):
    found = {p["name"]: p for p in json.loads(medkit("plugins", "--json").stdout)}
    assert {"medkit", "smartnet", "mtdgan", "phantoms"} <= set(found)
    assert all(p["ok"] for p in found.values())


def test_plugins_can_be_left_out_by_the_environment(medkit):
    found = json.loads(medkit("plugins", "--json", MEDKIT_PLUGINS="phantoms").stdout)
    assert [p["name"] for p in found] == ["medkit", "phantoms"]


def test_why_tells_the_reason_of_a_plugin_that_was_left_out(medkit):
    done = medkit("plugins", "why", "nosuch", MEDKIT_PLUGINS="nosuch")
    assert done.returncode == 0
    assert "MEDKIT_PLUGINS names 'nosuch', which is not installed" in done.stdout


def test_freeze_prints_requirements_that_pip_reads(medkit):
    from packaging.requirements import Requirement

    lines = medkit("plugins", "freeze").stdout.split()
    assert "medkit-imaging" in {Requirement(line).name for line in lines}


def test_doctor_names_versions_device_disk_decoders_and_plugins(medkit):
    rows = {row["what"]: row for row in json.loads(medkit("doctor", "--json").stdout)}
    wanted = {"medkit", "python", "torch", "device", "cores, memory", "cache", "decoder gdcm", "plugin smartnet"}
    assert wanted <= set(rows)


def test_doctor_says_what_to_do_about_a_plugin_that_is_left_out(medkit):
    rows = {row["what"]: row for row in json.loads(medkit("doctor", "--json", MEDKIT_PLUGINS="nosuch").stdout)}
    assert "medkit plugins why nosuch" in rows["plugin nosuch"]["fix"]
