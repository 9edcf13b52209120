-- Why: whatever strategy acts on forecasts, its signals, positions and results are on record, and what they amount to is
-- read from counts by day, so that a million signals cost no more to ask about than a thousand.
-- Why safe: creates only; touches nothing that exists.

CREATE TABLE ml_strategy_signals (
    id                     bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    key                    text COLLATE "C" NOT NULL UNIQUE,  -- of the one who logs: the same key again changes nothing
    strategy               text COLLATE "C" NOT NULL,         -- 'candlecast': the server's own signals
    symbol                 text COLLATE "C" NOT NULL,
    side                   text NOT NULL,
    status                 text NOT NULL DEFAULT 'OPEN',      -- VOID: never entered, counts nowhere
    entry_price            double precision NOT NULL,
    entry_time             timestamptz NOT NULL,
    size                   double precision NOT NULL,         -- units of the symbol
    confidence             double precision,
    quality                double precision,                  -- of the forecast; NULL: not told
    closed_size            double precision NOT NULL DEFAULT 0,  -- of it so far, by partial closes
    closed_value           double precision NOT NULL DEFAULT 0,  -- sum of price * size of what is closed
    fees                   double precision NOT NULL DEFAULT 0,  -- of entry and closes so far
    exit_price             double precision,                  -- mean over the closes; NULL while open, here and below
    exit_time              timestamptz,                       -- of the last close
    exit_reason            text,                              -- of our own: STOP, TAKE, TIME, NO_ENTRY
    pnl                    double precision,                  -- side * (exit - entry) * size - fees
    is_winner              boolean,
    prediction_interval_ms bigint,                            -- key of the forecast with the symbol; NULL: none was told
    prediction_close_time  timestamptz,
    prediction_model       text COLLATE "C",
    prediction_version     integer,
    metadata               jsonb NOT NULL DEFAULT '{}',
    created_at             timestamptz NOT NULL DEFAULT now(),
    CHECK (side IN ('LONG', 'SHORT')),
    CHECK (status IN ('OPEN', 'CLOSED', 'VOID')),
    CHECK (entry_price > 0 AND size > 0 AND fees >= 0),
    CHECK ((status = 'CLOSED') = (pnl IS NOT NULL))
);
COMMENT ON TABLE ml_strategy_signals IS 'every signal that a strategy acted on; those with status OPEN are its positions';
CREATE INDEX ml_strategy_signals_open ON ml_strategy_signals (strategy, symbol) WHERE status = 'OPEN';
CREATE INDEX ml_strategy_signals_entry ON ml_strategy_signals (strategy, entry_time, id);
CREATE INDEX ml_strategy_signals_recent ON ml_strategy_signals (entry_time, id);
CREATE INDEX ml_strategy_signals_exit ON ml_strategy_signals (strategy, exit_time) WHERE status = 'CLOSED';

CREATE TABLE ml_signal_closes (
    signal_key text COLLATE "C" NOT NULL REFERENCES ml_strategy_signals (key),
    close_key  text COLLATE "C" NOT NULL,   -- '': the close of the rest
    size       double precision NOT NULL,
    price      double precision NOT NULL,
    fees       double precision NOT NULL,
    closed_at  timestamptz NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (signal_key, close_key)
);
COMMENT ON TABLE ml_signal_closes IS 'each part of a position that was closed, once; our own signals close whole and have none';

CREATE TABLE ml_strategy_days (
    strategy          text COLLATE "C" NOT NULL,
    symbol            text COLLATE "C" NOT NULL,   -- '': of all symbols together
    day               date NOT NULL,               -- UTC; a signal counts as opened by its entry, all else by its exit
    opened            bigint NOT NULL,
    closed            bigint NOT NULL,
    wins              bigint NOT NULL,
    losses            bigint NOT NULL,
    pnl               double precision NOT NULL,
    gross_profit      double precision NOT NULL,
    gross_loss        double precision NOT NULL,   -- >= 0
    fees              double precision NOT NULL,
    return_sum        double precision NOT NULL,   -- of pnl / (entry * size)
    return_square_sum double precision NOT NULL,
    holding_s         double precision NOT NULL,
    peak              double precision NOT NULL,   -- of the running pnl of the day, from 0 on
    trough            double precision NOT NULL,
    drawdown          double precision NOT NULL,   -- largest fall of it
    PRIMARY KEY (strategy, symbol, day)
);
COMMENT ON TABLE ml_strategy_days IS 'signals added up; a day that is in ml_strategy_stale is out of date until it is counted anew';

CREATE TABLE ml_strategy_stale (
    strategy  text COLLATE "C" NOT NULL,
    day       date NOT NULL,
    marked_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (strategy, day)
) WITH (fillfactor = 50);
COMMENT ON TABLE ml_strategy_stale IS 'days with a signal that ml_strategy_days does not know yet; whoever adds one marks its day in the same transaction';

-- Inlined where it is called, so that a condition on strategy and symbol reaches the primary key.
CREATE FUNCTION strategy_performance(since date, until date, periods_per_year double precision)
RETURNS TABLE (
    strategy text, symbol text, signals bigint, closed bigint, wins bigint, losses bigint, total_pnl double precision,
    gross_profit double precision, gross_loss double precision, fees double precision, win_rate double precision,
    profit_factor double precision, expectancy double precision, mean_return double precision, sharpe double precision,
    trade_sharpe double precision, max_drawdown double precision, mean_holding_s double precision, first_day date,
    last_day date)
LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT
        d.strategy, d.symbol, sum(d.opened)::bigint, sum(d.closed)::bigint, sum(d.wins)::bigint, sum(d.losses)::bigint,
        sum(d.pnl), sum(d.gross_profit), sum(d.gross_loss), sum(d.fees),
        sum(d.wins) / nullif(sum(d.closed), 0)::double precision,
        sum(d.gross_profit) / nullif(sum(d.gross_loss), 0),
        sum(d.pnl) / nullif(sum(d.closed), 0)::double precision,
        sum(d.return_sum) / nullif(sum(d.closed), 0)::double precision,
        -- Days without a close are 0, from the first close to the last.
        min(d.mean_pnl) / nullif(sqrt(greatest(
            sum((d.pnl - d.mean_pnl) ^ 2) FILTER (WHERE d.day BETWEEN d.first_close AND d.last_close)
            + (min(d.days) - count(*) FILTER (WHERE d.day BETWEEN d.first_close AND d.last_close)) * min(d.mean_pnl) ^ 2, 0)
            / nullif(min(d.days) - 1, 0)), 0) * sqrt(periods_per_year),
        sum(d.return_sum) / nullif(sum(d.closed), 0)::double precision / nullif(sqrt(
            CASE WHEN sum(d.return_square_sum) * sum(d.closed) > sum(d.return_sum) ^ 2 * (1 + 1e-12) THEN
                (sum(d.return_square_sum) - sum(d.return_sum) ^ 2 / nullif(sum(d.closed), 0)::double precision)
                / nullif(sum(d.closed) - 1, 0)::double precision
            END), 0),
        greatest(max(greatest(d.drawdown, d.peak_before - (d.pnl_before + d.trough))), 0),
        sum(d.holding_s) / nullif(sum(d.closed), 0)::double precision,
        min(d.day), max(d.day)
    FROM (
        SELECT
            e.*,
            greatest(max(e.pnl_before + e.peak) OVER earlier, 0) AS peak_before,
            e.all_pnl / nullif(e.days, 0) AS mean_pnl
        FROM (
            SELECT
                f.*,
                coalesce(sum(f.pnl) OVER earlier, 0) AS pnl_before,
                sum(f.pnl) OVER everything AS all_pnl,
                min(f.day) FILTER (WHERE f.closed > 0) OVER everything AS first_close,
                max(f.day) FILTER (WHERE f.closed > 0) OVER everything AS last_close,
                (max(f.day) FILTER (WHERE f.closed > 0) OVER everything
                    - min(f.day) FILTER (WHERE f.closed > 0) OVER everything + 1)::double precision AS days
            FROM ml_strategy_days AS f
            WHERE (since IS NULL OR f.day >= since) AND (until IS NULL OR f.day <= until)
            WINDOW
                earlier AS (PARTITION BY f.strategy, f.symbol ORDER BY f.day ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING),
                everything AS (PARTITION BY f.strategy, f.symbol)
        ) AS e
        WINDOW earlier AS (PARTITION BY e.strategy, e.symbol ORDER BY e.day ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING)
    ) AS d
    GROUP BY d.strategy, d.symbol
$$;
COMMENT ON FUNCTION strategy_performance IS
    'what the signals of each strategy and symbol ('''': all) amount to in [since, until]; NULL: no bound, or no such number.'
    ' sharpe is of daily pnl, a year; trade_sharpe of returns on the entry''s value, a trade; max_drawdown is money';

CREATE VIEW ml_strategy_performance AS
SELECT
    strategy, signals, closed, signals - closed AS open_positions, wins, losses, total_pnl,
    total_pnl / nullif(closed, 0) AS avg_pnl, gross_profit, gross_loss, fees, win_rate, profit_factor, expectancy,
    mean_return, sharpe, trade_sharpe, max_drawdown, mean_holding_s, first_day, last_day
FROM strategy_performance(NULL, NULL, 365)
WHERE symbol = '';
COMMENT ON VIEW ml_strategy_performance IS 'strategies and what they reached, a second behind; see strategy_performance';

CREATE VIEW ml_symbol_performance AS
SELECT
    strategy, symbol, signals, closed, signals - closed AS open_positions, wins, losses, total_pnl,
    total_pnl / nullif(closed, 0) AS avg_pnl, gross_profit, gross_loss, fees, win_rate, profit_factor, expectancy,
    mean_return, sharpe, trade_sharpe, max_drawdown, mean_holding_s, first_day, last_day
FROM strategy_performance(NULL, NULL, 365)
WHERE symbol <> '';
COMMENT ON VIEW ml_symbol_performance IS 'the same by symbol';

CREATE VIEW ml_strategy_daily AS
SELECT
    strategy, symbol, day, opened, closed, wins, losses, pnl, gross_profit, gross_loss, fees, drawdown,
    sum(pnl) OVER (PARTITION BY strategy, symbol ORDER BY day) AS total_pnl
FROM ml_strategy_days;
COMMENT ON VIEW ml_strategy_daily IS 'results by day; symbol '''': of all symbols together';

CREATE VIEW ml_positions AS
SELECT
    strategy, symbol, side, key, entry_price, entry_time, size - closed_size AS open_size, size, closed_size, fees,
    confidence, quality, prediction_interval_ms, prediction_close_time, prediction_model, prediction_version, metadata
FROM ml_strategy_signals
WHERE status = 'OPEN';
COMMENT ON VIEW ml_positions IS 'signals that are not closed';

CREATE VIEW ml_trades AS
SELECT
    strategy, symbol, side, key, entry_price, entry_time, size, exit_price, exit_time, exit_reason, fees, pnl, is_winner,
    pnl / (entry_price * size) AS return, extract(epoch FROM exit_time - entry_time)::double precision AS holding_s,
    confidence, quality, prediction_interval_ms, prediction_close_time, prediction_model, prediction_version, metadata
FROM ml_strategy_signals
WHERE status = 'CLOSED';
COMMENT ON VIEW ml_trades IS 'signals that are closed';
