"""What all stages share: the training loop, the update of weights, the Muon optimizer."""
