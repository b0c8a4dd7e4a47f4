"""Runs inside nnU-Net, which finds it by ``nnUNet_extTrainer``: its own trainer with another number of steps."""

import os

import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer


class MedkitTrainer(nnUNetTrainer):
    """Takes the length of the training from MEDKIT_NNUNET_EPOCHS, _ITERATIONS and _VAL_ITERATIONS."""

    # nnU-Net reads the names of these arguments and keeps them in its checkpoints.
    def __init__(self, plans: dict, configuration: str, fold: int, dataset_json: dict, device: torch.device):
        super().__init__(plans, configuration, fold, dataset_json, device)
        self.num_epochs = int(os.environ["MEDKIT_NNUNET_EPOCHS"])
        self.num_iterations_per_epoch = int(os.environ["MEDKIT_NNUNET_ITERATIONS"])
        self.num_val_iterations_per_epoch = int(os.environ["MEDKIT_NNUNET_VAL_ITERATIONS"])
        # nnU-Net keeps a checkpoint every 50 epochs; a short training that is interrupted would lose all.
        self.save_every = min(50, max(1, self.num_epochs // 20))
