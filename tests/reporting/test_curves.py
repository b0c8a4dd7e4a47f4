"""Learning curves: which numbers of an epoch stand beside each other."""

from __future__ import annotations

from typing import Any

from medkit.reporting.curves import Panel, learning_curves, panels


def line(epoch: int = 1, **numbers: float) -> dict[str, Any]:
    return {"stage": "s", "epoch": epoch, "lr": 0.1, **{key.replace("_", "/", 1): n for key, n in numbers.items()}}


def test_a_loss_that_is_validated_has_both_curves_in_one_panel() -> None:
    found = panels([line(train_seg=1.0, train_cls=2.0, val_seg=1.5, val_cls=2.5)])
    assert found == [
        Panel("loss seg", {"train/seg": "train", "val/seg": "val"}),
        Panel("loss cls", {"train/cls": "train", "val/cls": "val"}),
    ]


def test_losses_that_are_only_trained_on_share_a_panel_and_each_metric_has_its_own() -> None:
    found = panels([line(train_seg=1.0, train_adv=2.0), line(2, train_seg=1.0, val_dice=0.5, val_fpv=9.0)])
    assert found == [
        Panel("training loss", {"train/seg": "seg", "train/adv": "adv"}),
        Panel("val/dice", {"val/dice": "val/dice"}),
        Panel("val/fpv", {"val/fpv": "val/fpv"}),
    ]


def test_a_metric_of_a_loss_s_name_is_not_taken_for_the_loss() -> None:
    assert panels([{**line(train_dice=1.0, val_dice=0.5), "val/dice_loss": 1.5}]) == [
        Panel("loss dice", {"train/dice": "train", "val/dice_loss": "val"}),
        Panel("val/dice", {"val/dice": "val/dice"}),
    ]


def test_rates_of_turns_are_no_losses() -> None:
    assert panels([{"stage": "s", "epoch": 1, "lr/generator": 0.1}]) == []


def test_an_undefined_number_leaves_a_gap_and_no_lines_no_picture() -> None:
    lines = [line(1, val_auc=0.5), {**line(2), "val/auc": None}]
    assert learning_curves(lines).startswith("data:image/svg+xml")
    assert learning_curves([]) == ""
