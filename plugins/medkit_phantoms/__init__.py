"""Head CT phantoms with haemorrhage, the same bleeds inserted into a real head CT, and phantom radiographs."""

from __future__ import annotations

from medkit.api import hookimpl


@hookimpl
def medkit_register(registry):
    registry.source("head_ct", "medkit_phantoms.source:HeadCT", "head CT phantoms in HU from several centres")
    registry.source("radiographs", "medkit_phantoms.radiographs.source:Radiographs", "radiographs of growing children")
    registry.source("inserted_bleeds", "medkit_phantoms.insertion:InsertedBleeds", "bleeds in one real head CT")
