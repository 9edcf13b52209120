"""Strategies that act on forecasts as clients: examples to start from. They know the wire, and nothing of the server.

Each has one `decide`, pure and vectorised, which trades live (`python -m candlecast.strategies.NAME`) and in
`candlecast backtest --strategy NAME`.
"""
