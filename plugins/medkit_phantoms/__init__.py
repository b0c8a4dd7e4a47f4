"""Head CT phantoms with haemorrhage, and the same bleeds inserted into a real head CT."""

from __future__ import annotations

from medkit.api import hookimpl


@hookimpl
def medkit_register(registry):
    registry.source("head_ct", "medkit_phantoms.source:HeadCT", "head CT phantoms in HU from several centres")
    registry.source("inserted_bleeds", "medkit_phantoms.insertion:InsertedBleeds", "bleeds in one real head CT")
