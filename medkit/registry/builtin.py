"""Core's own parts, registered through the same hook as everybody else's."""

from __future__ import annotations

from medkit.registry.hooks import hookimpl
from medkit.registry.table import Registrar


@hookimpl
def medkit_register(registry: Registrar) -> None:
    r = registry
    r.encoder("timm", "medkit.parts.encoders:TimmEncoder", "any timm backbone as a feature pyramid")
    r.encoder("identity", "medkit.parts.identity:Identity", "the slice itself, for operators on raw volumes")
    r.encoder("resenc", "medkit.parts.resenc:ResidualEncoder", "nnU-Net's residual encoder, of volumes")
    r.encoder("resnet3d", "medkit.parts.resnet3d:ResNet3d", "a 3-D ResNet or Med3D's, of volumes")
    r.pretext("unet3d", "medkit.parts.unet3d:UNet3d", "segment patches of volumes by nnU-Net's decoder")
    for name, cls, text in (
        ("classification", "Classification", "one of several classes, by cross-entropy"),
        ("multilabel", "Multilabel", "any of several classes, by binary cross-entropy of each"),
        ("ordinal", "Ordinal", "one of several ordered classes, by consistent rank logits (CORAL)"),
        ("regression", "Regression", "a measurement with its unit, by L1, L2 or Huber's distance"),
    ):
        r.pretext(name, f"medkit.parts.label_heads:{cls}", text)
    r.loss("labels", "medkit.parts.label_losses:LabelLoss", "the loss that the declared labels of volumes call for")
    r.loss("bce", "medkit.parts.losses:BCE", "binary cross-entropy of logits")
    r.loss("dice", "medkit.parts.losses:Dice", "soft Dice over the whole batch, of logits")
    r.loss("class_dice", "medkit.parts.mask_losses:ClassDice", "soft Dice of masks with classes, averaged over them")
    r.loss("cross_entropy", "medkit.parts.mask_losses:CrossEntropy", "cross-entropy of masks with classes")
    r.loss("l1", "medkit.parts.losses:L1", "mean absolute error")
    r.loss("mse", "medkit.parts.losses:MSE", "mean square error")
    r.loss("charbonnier", "medkit.parts.losses_image:Charbonnier", "smooth L1 of image restoration")
    r.loss("edge", "medkit.parts.losses_image:LaplacianEdge", "Charbonnier distance of Laplacian edges")
    for name, cls, text in (
        ("auc", "AUC", "area under the ROC curve"),
        ("f1", "F1", "F1 score at 0.5"),
        ("sensitivity", "Sensitivity", "true positive rate at 0.5"),
        ("specificity", "Specificity", "true negative rate at 0.5"),
        ("accuracy", "Accuracy", "share of right decisions at 0.5"),
        ("ppv", "PPV", "positive predictive value at 0.5"),
        ("npv", "NPV", "negative predictive value at 0.5"),
        ("ap", "AveragePrecision", "area under the precision-recall curve"),
    ):
        r.metric(name, f"medkit.parts.metrics_classification:{cls}", text)
    r.metric("dice", "medkit.parts.metrics_segmentation:DiceScore", "Dice similarity of positive cases")
    r.metric("fpv", "medkit.parts.metrics_segmentation:FalsePositiveVolume", "false positive volume, in normal cases")
    for name, module, cls, text in (
        ("hd95", "surface", "HD95", "95th percentile of the Hausdorff distance, mm"),
        ("assd", "surface", "ASSD", "average symmetric surface distance, mm"),
        ("nsd", "surface", "NSD", "share of the surfaces within a tolerance in mm"),
        ("lesion_sensitivity", "lesions", "LesionSensitivity", "share of lesions that are found"),
        (
            "lesion_false_positives",
            "lesions",
            "LesionFalsePositives",
            "predicted lesions that miss the truth, per case",
        ),
    ):
        r.metric(name, f"medkit.parts.metrics_{module}:{cls}", text)
    r.metric("psnr", "medkit.parts.metrics_image:PSNR", "peak signal-to-noise ratio, dB")
    r.metric("ssim", "medkit.parts.metrics_image:SSIM", "structural similarity")
    r.metric("rmse", "medkit.parts.metrics_image:RMSE", "root mean square error")
    r.metric("pl", "medkit.parts.metrics_perceptual:PL", "perceptual loss, of VGG19's features")
    r.metric("tml", "medkit.parts.metrics_perceptual:TML", "texture matching loss, of VGG19's features")
    r.metric("fid", "medkit.parts.metrics_fid:FID", "Fréchet inception distance")
    for name, cls, text in (
        ("top1", "Top1", "share of images whose likeliest class is right"),
        ("macro_f1", "MacroF1", "F1 score of each class, averaged"),
        ("macro_precision", "MacroPrecision", "precision of each class, averaged"),
        ("macro_recall", "MacroRecall", "recall of each class, averaged"),
    ):
        r.metric(name, f"medkit.parts.metrics_multiclass:{cls}", text)
    r.metric("balanced_accuracy", "medkit.parts.metrics_multiclass:BalancedAccuracy", "mean recall over classes")
    r.metric("kappa", "medkit.parts.metrics_multiclass:Kappa", "Cohen's kappa, with quadratic weights by default")
    for name, cls, text in (
        ("macro_auc", "MacroAUC", "area under the ROC curve of each declared class, averaged"),
        ("macro_ap", "MacroAP", "average precision of each declared class, averaged"),
        ("macro_specificity", "MacroSpecificity", "specificity of each declared class, averaged"),
    ):
        r.metric(name, f"medkit.parts.metrics_labels:{cls}", text)
    r.metric("mse", "medkit.parts.metrics_regression:MSE", "mean square error of a regression")
    r.metric("mae", "medkit.parts.metrics_regression:MAE", "mean absolute error of a regression")
    r.metric("r2", "medkit.parts.metrics_regression:R2", "coefficient of determination")
    r.source("manifest", "medkit.data.source:ManifestSource", "cases listed in a CSV or Parquet file")
    r.transform("window", "medkit.data.transforms:Window", "HU window to [0,1]")
    r.transform("windows", "medkit.data.channels:Windows", "several HU windows as channels")
    r.transform("neighbours", "medkit.data.channels:Neighbours", "slices beside each one as channels (2.5-D)")
    r.transform("clahe", "medkit.data.transforms:CLAHE", "contrast limited adaptive histogram equalisation")
    r.transform("resize", "medkit.data.transforms:Resize", "in-plane resize")
    r.transform("min_max", "medkit.data.transforms:MinMax", "slice-wise range to [0,1]")
    r.transform("clip_percentiles", "medkit.data.transforms_radiograph:ClipPercentiles", "range without outliers")
    r.transform("pad_resize", "medkit.data.transforms_radiograph:PadResize", "resize that keeps the aspect")
    for name, cls, text in (
        ("shift_scale_rotate", "ShiftScaleRotate", "random shift, scale and rotation"),
        ("horizontal_flip", "HorizontalFlip", "random left-right flip"),
        ("shift_intensity", "ShiftIntensity", "random offset of all values"),
        ("brightness", "Brightness", "random brightness"),
        ("contrast", "Contrast", "random contrast"),
        ("gamma", "Gamma", "random gamma"),
        ("sharpen", "Sharpen", "random sharpening"),
        ("gauss_noise", "GaussNoise", "random Gaussian noise"),
        ("blur", "Blur", "random Gaussian, median or motion blur"),
        ("dihedral", "Dihedral", "one of the square's eight symmetries, at random"),
    ):
        r.transform(name, f"medkit.data.augment:{cls}", text)
    r.transform(
        "random_resized_crop", "medkit.data.augment_crop:RandomResizedCrop", "a random part of the image, enlarged"
    )
    r.objective("multitask", "medkit.objectives.multitask:Multitask", "pretext heads on one shared encoder")
    r.objective(
        "multitask3d", "medkit.objectives.multitask3d:Multitask3d", "heads on one shared encoder of volumes, on patches"
    )
    r.objective("distillation", "medkit.objectives.distillation:Distillation", "a student learns from its own average")
    r.objective("volume", "medkit.objectives.volume:VolumeTask", "an operator over the slices of whole volumes")
    r.objective("restoration", "medkit.objectives.restoration:Restoration", "supervised image to image")
    r.objective("adversarial", "medkit.objectives.adversarial:Adversarial", "generator against discriminator")
    r.objective("probe", "medkit.objectives.probe:Probe", "a simple classifier on the features of a frozen encoder")
    r.objective("label_probe", "medkit.objectives.label_probe:LabelProbe", "a probe of the labels of the data block")
    r.optimizer("adam", "medkit.parts.optimizers:Adam", "Adam with L2 weight decay")
    r.optimizer("adamw", "medkit.parts.optimizers:AdamW", "Adam with decoupled weight decay")
    r.optimizer("sgd", "medkit.parts.optimizers:SGD", "stochastic gradient descent with momentum")
    r.optimizer("timm", "medkit.parts.optimizers_timm:TimmOptimizer", "any optimizer of timm.optim by its name there")
    r.schedule("poly", "medkit.parts.schedules:Poly", "warm-up, then polynomial decay")
    r.schedule("constant", "medkit.parts.schedules:Constant", "the same learning rate throughout")
    r.schedule("cosine", "medkit.parts.schedules:Cosine", "warm-up, then half a cosine")
    r.clip("norm", "medkit.parts.clipping:Norm", "bound on the norm of the whole gradient")
