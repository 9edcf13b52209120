"""A hyper-parameter study in a real PostgreSQL: in a schema of its own, and gone on with by whoever comes next."""

import numpy as np
import pytest

pytest.importorskip("optuna")

from candlecast.store.pool import open_pool
from candlecast.training import search


async def test_a_study_is_kept_in_its_own_schema_and_gone_on_with(postgres):
    dsn = postgres.dsn
    study = search._study("study", dsn, 0)
    study.optimize(lambda trial: abs(np.log10(trial.suggest_float("rate", 1e-4, 1e-2, log=True)) + 3), n_trials=3)

    again = search._study("study", dsn, 0)

    assert [trial.value for trial in again.trials] == [trial.value for trial in study.trials]
    assert again.sampler is not study.sampler and search._ended(again) == 3
    async with open_pool(dsn) as pool:
        rows = await pool.fetch("SELECT table_schema FROM information_schema.tables WHERE table_name = 'trials'")
    assert [row[0] for row in rows] == ["optuna"]
