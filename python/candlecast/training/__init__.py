"""Training: from candle files to a bundle. Never imported by the server."""
