"""Model bundles: what a trained model is on disk. Knows no training and no server."""
