"""The parts of the throughput benchmark. None of this is needed to run the model."""
