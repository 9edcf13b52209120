-- title: How signals ended
-- text: Entered at the next open: stop, take, or the end of 16 bars; before costs.
-- display: bar
-- x: exit_reason
-- by: direction
-- y: signals
SELECT exit_reason, direction, sum(signals)::bigint AS signals
FROM ml_exits
WHERE day > current_date - 30
GROUP BY 1, 2
ORDER BY 1, 2;
