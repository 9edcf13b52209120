"""How fast a running server is, beside baselines in the same call. Knows wire and windows, not the server."""
