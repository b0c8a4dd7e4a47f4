"""PedXnet: radiographic views as a pretext for fractures and bone age of children (thesis part A)."""

from __future__ import annotations

from medkit.api import hookimpl


@hookimpl
def medkit_register(registry):
    registry.encoder("inception_v3", "medkit_pedxnet.inception:InceptionV3", "InceptionV3 for grey images")
    registry.pretext("view_class", "medkit_pedxnet.heads:ViewClass", "which radiographic view is this?")
    registry.pretext("fracture", "medkit_pedxnet.heads:Fracture", "is there a fracture?")
    registry.pretext("bone_age", "medkit_pedxnet.heads:BoneAge", "bone age in months, from image and sex")
    registry.source("views", "medkit_pedxnet.sources_views:ViewManifest", "a balanced sample of a manifest of views")
    registry.source("by_view", "medkit_pedxnet.sources_views:ByView", "another source, labelled by radiographic view")
    registry.source("rsna_bone_age", "medkit_pedxnet.sources_public:RSNABoneAge", "RSNA Pediatric Bone Age (2017)")
    registry.source("grazpedwri", "medkit_pedxnet.sources_public:GrazWrists", "GRAZPEDWRI-DX, wrist fractures")


@hookimpl
def medkit_data_commands():
    return {
        "pedxnet": "medkit_pedxnet.commands:pedxnet",
        "rsna-bone-age": "medkit_pedxnet.commands:rsna_bone_age",
        "grazpedwri": "medkit_pedxnet.commands:grazpedwri",
    }


@hookimpl
def medkit_run_start(run):
    """Keep with the run which rows its balanced samples hold."""
    for name, block in run.recipe.data.items():
        path = run.folder / f"sampled_{name}.parquet"
        if block.source.name == "pedxnet:views" and not path.exists():
            block.source.build().write_sample(path)
