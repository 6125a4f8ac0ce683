"""Networks to train: made, loaded, frozen, adapted and written as a checkpoint."""
