"""Other projects' weights, read as ours: those of diffusers' U-Net, DiT and AutoencoderKL, and of TAESD and its kin."""
