"""The bridge to nnU-Net: the nnunetv2 package does the work, in processes of its own."""
