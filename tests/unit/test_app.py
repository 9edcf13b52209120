"""The server computes what its model was trained on: the bundle's optional inputs, and no others."""

from __future__ import annotations

import numpy as np
import pytest

from candlecast.features import Features
from candlecast.server.app import features_for
from candlecast.values import Candles
from tests.fakes import fitting_bundle
from tests.market_simulator import candles

BARS = 700


def served(state: Features) -> np.ndarray:
    """Return the rows of a symbol whose candles come with those of BTCUSDT."""
    together = Candles.joined([candles("ETHUSDT", BARS), candles("BTCUSDT", BARS)])
    return state.rows(together)[1][:BARS]


@pytest.mark.parametrize("inputs", [(), ("reference",), ("quote_volume", "trades", "taker_buy_volume", "reference")])
def test_the_state_uses_the_optional_inputs_of_the_bundle(tmp_path, inputs):
    reference = "BTCUSDT" if "reference" in inputs else None
    bundle = fitting_bundle(tmp_path / "1", optional_inputs=inputs, reference_symbol=reference)

    rows = served(features_for(bundle, symbols_max=2, conflicts_max=3, threads=2))

    expected = Features(symbols_max=2, conflicts_max=3, optional_inputs=inputs, reference_symbol=reference)
    np.testing.assert_array_equal(rows, served(expected))
    plain = served(Features(symbols_max=2, conflicts_max=3))
    assert np.array_equal(rows, plain, equal_nan=True) == (not inputs)
