-- Why: forecasts reach PostgreSQL by columns, so nothing hands over rows of this type any more.
-- Why safe: no table, view or function uses it. A server of before, if one still ran, would keep its forecasts in its journal.

DROP TYPE ml_prediction_input;
