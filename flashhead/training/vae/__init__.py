"""Training an LTX VAE of any size."""
