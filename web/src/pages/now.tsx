// Now: the newest forecast of every symbol, changing as they come; the order stays until it is asked for anew.
import { useCallback, useEffect, useMemo, useState } from "preact/hooks";
import { query, useAsked } from "../api";
import { DASH, duration, fixed, interval, micros, percent, signed, time, whole } from "../format";
import { useLink, useLive, type Row, type Status } from "../live";
import { Ask, Bar, Choice, Link, Pager, Panel, Side, Stat, symbolPath, tone } from "../ui";

const LIMIT = 50;
const TAPE = 12;
const SIDES = [["", "All"], ["SIGNAL", "Signals"], ["LONG", "Long"], ["SHORT", "Short"], ["NEUTRAL", "Neutral"]] as const;
const ORDERS = [["symbol", "Symbol"], ["newest", "Newest"], ["confidence", "Confidence"], ["edge", "Edge"], ["slowest", "Slowest"]] as const;
const HORIZONS = ["15m", "1h", "4h", "12h"];

interface Page {
  rows: Row[];
  total: number;
  symbols: number;
  status: Status;
}

function useSlowly<T>(value: T, ms: number): T {
  const [slow, setSlow] = useState(value);
  useEffect(() => {
    const timer = setTimeout(() => setSlow(value), ms);
    return () => clearTimeout(timer);
  }, [value, ms]);
  return slow;
}

export function Now() {
  const [search, setSearch] = useState("");
  const [side, setSide] = useState<(typeof SIDES)[number][0]>("");
  const [order, setOrder] = useState<(typeof ORDERS)[number][0]>("symbol");
  const [offset, setOffset] = useState(0);
  const searched = useSlowly(search.trim(), 150);
  const asked = useAsked<Page>(`/api/ml/pages/now/${query({ search: searched, side, order, offset, limit: LIMIT })}`, 60_000);
  const [newer, setNewer] = useState<Map<string, Row>>(new Map());
  const [tape, setTape] = useState<Row[]>([]);
  const [ticked, setTicked] = useState<Set<string>>(new Set());
  const shown = asked.data?.rows ?? [];
  const names = useMemo(() => shown.map((row) => row.symbol), [asked.data]);
  useEffect(() => setNewer(new Map()), [asked.data]);
  const take = useCallback(
    (rows: Row[]) => {
      const mine = rows.filter((row) => names.includes(row.symbol));
      if (mine.length) {
        setNewer((old) => new Map([...old, ...mine.map((row) => [row.symbol, row] as const)]));
        setTicked(new Set(mine.map((row) => row.symbol)));
      }
      const signals = rows.filter((row) => row.direction !== "NEUTRAL");
      if (signals.length) setTape((old) => [...signals.reverse(), ...old].slice(0, TAPE));
      if (names.length === 0 && rows.length) asked.again();
    },
    [names],
  );
  const wanted = useMemo(
    () => [names.length ? { symbol: names } : {}, { direction: ["LONG", "SHORT"] }],
    [names],
  );
  useLive(wanted, take);
  const pick = <T,>(set: (value: T) => void) => (value: T) => {
    set(value);
    setOffset(0);
  };
  return (
    <>
      <h1>Now</h1>
      <Totals />
      <div class="beside">
        <Panel
          title="Forecasts"
          tools={
            <div class="tools">
              <input
                type="search"
                placeholder="Symbol  ( / )"
                aria-label="Search symbols"
                value={search}
                onInput={(e) => pick(setSearch)(e.currentTarget.value)}
              />
              <Choice label="Show" value={side} options={SIDES} pick={pick(setSide)} />
              <Choice label="By" value={order} options={ORDERS} pick={pick(setOrder)} />
            </div>
          }
        >
          <Ask
            asked={asked}
            height={560}
            empty={(page) =>
              page.total === 0 &&
              (page.symbols === 0 ? (
                <>
                  <strong>No forecasts yet.</strong> Send closed candles: <code>candlecast replay BTCUSDT-15m.parquet</code>. A
                  symbol's first forecast comes once it is warm.
                </>
              ) : (
                <>None of {whole(page.symbols)} symbols matches.</>
              ))
            }
          >
            {(page) => (
              <>
                <div class="scroll" tabIndex={0}>
                  <table class="forecasts">
                    <thead>
                      <tr>
                        <th scope="col">Symbol</th>
                        <th scope="col">Direction</th>
                        <th scope="col">Confidence</th>
                        <th scope="col" class="num wide">Edge</th>
                        {HORIZONS.map((name) => (
                          <th scope="col" class={`num ${name === "4h" ? "" : "wide"}`} key={name}>{name}</th>
                        ))}
                        <th scope="col" class="wide">Gate</th>
                        <th scope="col" class="wide">State</th>
                        <th scope="col" class="num wide">Latency</th>
                        <th scope="col" class="num">Closed</th>
                      </tr>
                    </thead>
                    <tbody>
                      {page.rows.map((old) => {
                        const row = newer.get(old.symbol) ?? old;
                        return <Line key={row.symbol} row={row} at={page.status.time_ms} fresh={ticked.has(row.symbol)} />;
                      })}
                    </tbody>
                  </table>
                </div>
                <Pager offset={offset} limit={LIMIT} total={page.total} move={setOffset} />
              </>
            )}
          </Ask>
        </Panel>
        <Panel title="Latest signals" note="LONG and SHORT as they come, while this page is open.">
          <ol class="tape">
            {tape.length === 0 && <li class="empty">None since this page was opened.</li>}
            {tape.map((row) => (
              <li key={`${row.symbol}${row.close_time_ms}`}>
                <Link href={symbolPath(row.symbol)}>{row.symbol}</Link> <Side side={row.direction} strength={row.strength} />
                <span class="sub">
                  {percent(row.confidence, 0)} · 4h {signed(row.returns[2])} · {time(row.close_time_ms)}
                </span>
              </li>
            ))}
          </ol>
        </Panel>
      </div>
    </>
  );
}

function Totals() {
  const { status } = useLink();
  return (
    <dl class="stats">
      <Stat label="Symbols">{whole(status?.symbols)}</Stat>
      <Stat label="Forecasts a minute">{whole(status?.per_minute)}</Stat>
      <Stat label="Newest close">{time(status?.newest_close_ms)}</Stat>
      <Stat label="Server" tone={status?.server === "SERVING" ? "long" : status ? "short" : ""}>
        {status ? status.server.toLowerCase().replace("_", " ") : DASH}
      </Stat>
      <Stat label="Database" tone={status?.database === "OK" ? "long" : status ? "short" : ""}>
        {status ? status.database.toLowerCase() : DASH}
      </Stat>
    </dl>
  );
}

function Line(props: { row: Row; at: number; fresh: boolean }) {
  const { row } = props;
  const age = (props.at - row.close_time_ms) / 1000;
  const stale = age > (2.5 * row.interval_ms) / 1000;
  const gate = row.gate_approved === null ? "absent" : row.gate_approved ? "approved" : "refused";
  return (
    <tr class={props.fresh ? "fresh" : ""}>
      <th scope="row">
        <Link href={symbolPath(row.symbol)}>{row.symbol}</Link> <span class="sub">{interval(row.interval_ms)}</span>
      </th>
      <td title={row.reasons.join(", ").toLowerCase().replaceAll("_", " ")}>
        <Side side={row.direction} strength={row.strength} />
      </td>
      <td class="confidence">
        <Bar share={((row.confidence ?? 0.5) - 0.5) * 2} /> {percent(row.confidence, 0)}
      </td>
      <td class={`num wide ${tone(row.edge)}`}>{fixed(row.edge)}</td>
      {row.returns.map((x, h) => (
        <td key={h} class={`num ${h === 2 ? "" : "wide"} ${tone(x)}`}>{signed(x)}</td>
      ))}
      <td class="wide">
        {gate}
        {row.gate_probability !== null && <span class="sub"> {percent(row.gate_probability, 0)}</span>}
      </td>
      <td class="wide">
        {stale ? <span class="warn">stale</span> : row.state.toLowerCase()}
        {row.gap_filled && <span class="warn"> gap</span>}
        {row.degraded && <span class="warn"> degraded</span>}
      </td>
      <td class="num wide">{micros(row.stages_us.reduce((a, b) => a + b, 0))}</td>
      <td class="num">
        <span title={`${time(row.close_time_ms)} UTC`}>{stale ? <>{duration(age)} ago</> : time(row.close_time_ms).slice(11)}</span>
      </td>
    </tr>
  );
}
