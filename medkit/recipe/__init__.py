"""Recipes: what a run is made of, as data, read and checked before anything is built."""

from medkit.recipe.blocks import Block, Reference
from medkit.recipe.load import bundled, check_round_trip, find, load_recipe, recipe_from
from medkit.recipe.model import DataBlock, EarlyStop, KeepBest, Recipe, Stage, Unfreeze
from medkit.recipe.report_model import Report, WantedTable

__all__ = [
    "Block",
    "DataBlock",
    "EarlyStop",
    "KeepBest",
    "Recipe",
    "Reference",
    "Report",
    "Stage",
    "Unfreeze",
    "WantedTable",
    "bundled",
    "check_round_trip",
    "find",
    "load_recipe",
    "recipe_from",
]
