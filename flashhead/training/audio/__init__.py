"""Pre-training of the audio encoder on speech whose mouth movement is known."""
