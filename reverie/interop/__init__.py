"""Other projects' weights, read as ours: `diffusers_unet.converted` and `diffusers_dit.converted`."""
