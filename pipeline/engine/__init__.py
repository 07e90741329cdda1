"""DeepSpeed, torch.distributed and checkpoints behind small interfaces."""
