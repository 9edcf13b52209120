-- title: From signal to trade
-- text: Signals that forecasts gave, by day of their close, and what strategies opened and closed on that day.
-- display: line
-- x: day
-- y: signals, opened, closed
SELECT day, max(signals) AS signals, sum(opened) AS opened, sum(closed) AS closed
FROM ml_signal_conversion
WHERE day > current_date - 30
GROUP BY day
ORDER BY day;
