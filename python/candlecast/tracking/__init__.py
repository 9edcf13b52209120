"""What became of forecasts and signals: kept up to date beside serving."""
