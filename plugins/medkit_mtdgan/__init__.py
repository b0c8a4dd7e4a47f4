"""MTD-GAN: low-dose CT denoising with a multi-task discriminator (thesis part C)."""

from __future__ import annotations

from medkit.api import hookimpl


@hookimpl
def medkit_register(registry):
    registry.generator(
        "fft_generator", "medkit_mtdgan.generator:FFTGenerator", "the encoder-decoder of FFT-Conv blocks"
    )
    registry.generator(
        "conv_generator", "medkit.parts.encoder_decoder:ConvGenerator", "the same without FFT (ablation)"
    )
    registry.discriminator(
        "multitask", "medkit_mtdgan.discriminator:MultiTaskDiscriminator", "classify, segment and reconstruct"
    )
    registry.loss("real_fake", "medkit_mtdgan.losses:RealFake", "LSGAN with non-difference suppression (eq. 3), for D")
    registry.loss("reconstruct", "medkit_mtdgan.losses:Reconstruct", "L1 of the discriminator's reconstructions")
    registry.loss("consist", "medkit_mtdgan.losses:Consist", "reconstruction consistency (eq. 4)")
    registry.loss("fool", "medkit_mtdgan.losses:Fool", "LSGAN with non-difference suppression (eq. 6), for G")
    registry.source("low_dose", "medkit_mtdgan.sources:LowDose", "another source's scans with their low-dose versions")
    registry.source("low_dose_scan", "medkit_mtdgan.sources:LowDoseScan", "one real scan in blocks, with low doses")
