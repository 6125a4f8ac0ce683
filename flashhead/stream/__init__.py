"""Audio to chunks of frames: state, sampling, the chunk loop and what calls it."""
