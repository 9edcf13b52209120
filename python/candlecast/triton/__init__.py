"""The door to NVIDIA Triton: client, embedded server, model repository. Knows arrays and versions, no candles."""
