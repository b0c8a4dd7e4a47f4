"""Methods that the thesis compares with, reimplemented (docs/baselines.md, docs/baselines_volume.md)."""

from __future__ import annotations

from medkit.api import hookimpl


@hookimpl
def medkit_register(registry):
    registry.generator("red_cnn", "medkit_baselines.red_cnn:REDCNN", "RED-CNN for low-dose CT")
    registry.generator("edcnn", "medkit_baselines.edcnn:EDCNN", "EDCNN: trainable Sobel filters, dense blocks")
    registry.generator("restormer", "medkit_baselines.restormer:Restormer", "transformer with attention over channels")
    registry.generator("ctformer", "medkit_baselines.ctformer:CTformer", "token-to-token transformer, one size only")
    registry.generator("wgan_vgg", "medkit_baselines.wgan_vgg:WGANVGG", "the generator of WGAN-VGG")
    registry.generator("map_nn", "medkit_baselines.map_nn:MAPNN", "MAP-NN: one module applied again and again")
    registry.generator("du_gan", "medkit.parts.encoder_decoder:ConvGenerator", "the generator of DU-GAN")
    registry.discriminator("wgan", "medkit_baselines.wgan_vgg:Critic", "the critic of WGAN-VGG and MAP-NN")
    registry.discriminator("dugan_unet", "medkit_baselines.dugan:UNetDiscriminator", "a U-Net that scores pixels too")
    registry.discriminator(
        "dual_domain", "medkit_baselines.dugan:DualDomain", "two such U-Nets: for images and for gradients"
    )
    registry.loss("wgan_gp", "medkit_baselines.losses_wgan:WassersteinCritic", "Wasserstein, gradient penalty, for D")
    registry.loss("wgan", "medkit_baselines.losses_wgan:WassersteinGenerator", "Wasserstein, for G")
    registry.loss("real_low_fake", "medkit_baselines.losses_dugan:RealLowFake", "LSGAN, low dose is fake too, for D")
    registry.loss("cutmix", "medkit_baselines.losses_dugan:CutMix", "CutMix and its consistency, for D")
    registry.loss("fool_domains", "medkit_baselines.losses_dugan:FoolDomains", "LSGAN in each domain, for G")
    registry.loss("sobel", "medkit_baselines.sobel:SobelLoss", "distance of the lengths of gradients")
    registry.loss("vgg", "medkit_baselines.losses_features:VGGLoss", "mean square in VGG19's conv5_4")
    registry.loss("resnet", "medkit_baselines.losses_features:ResNetLoss", "mean square in four stages of ResNet-50")
    registry.encoder("patel_cnn", "medkit_baselines.patel_lstm:PatelCNN", "the slice network of Patel 2019b")
    registry.encoder(
        "genesis3d", "medkit_baselines.genesis_encoder3d:GenesisEncoder3D", "the encoder of Models Genesis, 3-D"
    )
    registry.pretext("model_genesis", "medkit_baselines.model_genesis:ModelGenesis", "restore a distorted slice")
    registry.pretext("model_genesis3d", "medkit_baselines.model_genesis3d:ModelGenesis3D", "restore a distorted patch")
    registry.pretext("patel_head", "medkit_baselines.patel_lstm:PatelHead", "does a slice bleed? (Patel 2019b)")
    registry.operator("patel_lstm", "medkit_baselines.patel_lstm:PatelLSTM", "classify by an LSTM (Patel 2019b)")
    registry.operator("patel_unet3d", "medkit_baselines.patel_unet3d:PatelUNet3D", "segment by a 3-D U-Net")
    registry.operator("genesis_unet3d", "medkit_baselines.genesis_unet3d:GenesisUNet3D", "Models Genesis' 3-D U-Net")
    registry.operator("singh_cnn3d", "medkit_baselines.singh_cnn3d:SinghCNN3D", "classify by a shallow 3-D network")
    registry.objective("nnunet", "medkit_baselines.nnunet.objective:NNUNet", "nnU-Net v2, through its own package")


@hookimpl
def medkit_data_commands():
    return {
        "nnunet": "medkit_baselines.nnunet.commands:nnunet",
        "to-nnunet": "medkit_baselines.nnunet.commands:to_nnunet",
    }
