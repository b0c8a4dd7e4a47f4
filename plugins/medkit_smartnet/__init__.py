"""SMART-Net: multi-task pretexts on slices, operators over volumes (thesis part B)."""

from __future__ import annotations

from medkit.api import hookimpl


@hookimpl
def medkit_register(registry):
    registry.pretext("slice_class", "medkit_smartnet.slice_class:SliceClass", "is there a bleed in this slice?")
    registry.pretext("scse_unet", "medkit_smartnet.scse_unet:ScseUNet", "segment the slice by a U-Net with SCSE")
    registry.pretext("pixel_shuffle", "medkit_smartnet.pixel_shuffle:PixelShuffleDecoder", "reconstruct the slice")
    registry.pretext("smp", "medkit_smartnet.smp:SmpDecoder", "segment by any decoder of segmentation-models-pytorch")
    registry.loss("consistency", "medkit_smartnet.consistency:Consistency", "ties classification and segmentation")
    registry.operator("lstm_classifier", "medkit_smartnet.lstm:LSTMClassifier", "classify a volume by an LSTM")
    registry.operator("conv3d_segmenter", "medkit_smartnet.conv3d:Conv3DSegmenter", "segment a volume by Conv3D")
    registry.metric("concurrence", "medkit_smartnet.concurrence:Concurrence", "how often the heads agree (eq. 2)")
