// Strategies: what came of acting on forecasts, side by side; money is in the quote currency.
import { useState } from "preact/hooks";
import { query, useAsked } from "../api";
import { Chart } from "../chart";
import { DASH, duration, fixed, money, percent, signed, time, whole } from "../format";
import { Ask, Empty, Link, Pager, Panel, Side, symbolPath, tone } from "../ui";

interface Strategy {
  strategy: string;
  signals: number;
  closed: number;
  open_positions: number;
  wins: number;
  total_pnl: number;
  avg_pnl: number | null;
  fees: number;
  win_rate: number | null;
  profit_factor: number | null;
  expectancy: number | null;
  sharpe: number | null;
  max_drawdown: number | null;
  mean_holding_s: number | null;
}

interface Data {
  strategies: Strategy[];
  days: { strategy: string; day_ms: number; pnl: number; total_pnl: number; fall_from_peak: number }[];
}

interface One {
  symbols: { symbol: string; signals: number; closed: number; total_pnl: number; win_rate: number | null; profit_factor: number | null; fees: number }[];
  total: number;
  trades: {
    symbol: string;
    side: string;
    entry_time_ms: number;
    exit_time_ms: number;
    entry_price: number;
    exit_price: number;
    exit_reason: string | null;
    pnl: number;
    return: number;
    holding_s: number;
  }[];
  positions: { symbol: string; side: string; entry_time_ms: number; entry_price: number; open_size: number; confidence: number | null }[];
  quality: { quality_from: number; trades: number; wins: number; mean_return: number | null }[];
}

const COMPARED = 4;
const LIMIT = 20;

export function Page() {
  const [picked, setPicked] = useState<string[]>([]);
  const asked = useAsked<Data>(`/api/ml/pages/strategies/`);
  const all = asked.data?.strategies ?? [];
  const shown = picked.length ? picked : all.slice(0, COMPARED).map((s) => s.strategy);
  const toggle = (name: string) => {
    const next = shown.includes(name) ? shown.filter((n) => n !== name) : [...shown, name].slice(-COMPARED);
    setPicked(next);
  };
  const none = (d: Data) =>
    d.strategies.length === 0 && (
      <>
        <strong>No strategy has logged a signal.</strong> Strategies log theirs by <code>Performance.LogSignal</code>; the server's own
        appear as <code>candlecast</code> once a forecast is LONG or SHORT.
      </>
    );
  return (
    <>
      <h1>Strategies</h1>
      <Panel title="Side by side" note={`Tick up to ${COMPARED} to compare. Win rate and the numbers after it are over closed signals.`}>
        <Ask asked={asked} height={180} empty={none}>
          {(d) => (
            <div class="scroll" tabIndex={0}>
              <table>
                <thead>
                  <tr>
                    <th scope="col">Strategy</th>
                    <th scope="col" class="num">Signals</th>
                    <th scope="col" class="num">Open</th>
                    <th scope="col" class="num">PnL</th>
                    <th scope="col" class="num">Win rate</th>
                    <th scope="col" class="num">Profit factor</th>
                    <th scope="col" class="num">Expectancy</th>
                    <th scope="col" class="num">Sharpe, a year</th>
                    <th scope="col" class="num">Max drawdown</th>
                    <th scope="col" class="num">Fees</th>
                    <th scope="col" class="num">Held</th>
                  </tr>
                </thead>
                <tbody>
                  {d.strategies.map((s) => (
                    <tr key={s.strategy}>
                      <th scope="row">
                        <label class="tick">
                          <input type="checkbox" checked={shown.includes(s.strategy)} onChange={() => toggle(s.strategy)} /> {s.strategy}
                        </label>
                      </th>
                      <td class="num">{whole(s.signals)}</td>
                      <td class="num">{whole(s.open_positions)}</td>
                      <td class={`num ${tone(s.total_pnl)}`}>{money(s.total_pnl)}</td>
                      <td class="num">{percent(s.win_rate, 1)}</td>
                      <td class="num">{fixed(s.profit_factor, 2)}</td>
                      <td class="num">{money(s.expectancy)}</td>
                      <td class="num">{fixed(s.sharpe, 2)}</td>
                      <td class="num">{money(s.max_drawdown)}</td>
                      <td class="num">{money(s.fees)}</td>
                      <td class="num">{s.mean_holding_s === null ? DASH : duration(s.mean_holding_s)}</td>
                    </tr>
                  ))}
                </tbody>
              </table>
            </div>
          )}
        </Ask>
      </Panel>
      <div class="halves">
        <Panel title="Equity" note="PnL so far, by the day of the exit.">
          <Ask asked={asked} height={280} empty={none}>
            {(d) => <Curves data={d} shown={shown} of="total_pnl" label="PnL so far" />}
          </Ask>
        </Panel>
        <Panel title="Drawdown" note="How far below its best a strategy is.">
          <Ask asked={asked} height={280} empty={none}>
            {(d) => <Curves data={d} shown={shown} of="fall_from_peak" label="Fall from the peak" sign={-1} />}
          </Ask>
        </Panel>
      </div>
      {shown.length > 0 && <Details key={shown[0]} name={shown[0]!} />}
    </>
  );
}

function Curves(props: { data: Data; shown: string[]; of: "total_pnl" | "fall_from_peak"; label: string; sign?: number }) {
  const { data, shown, of, sign = 1 } = props;
  const days = [...new Set(data.days.filter((d) => shown.includes(d.strategy)).map((d) => d.day_ms))].sort((a, b) => a - b);
  if (!days.length) return <Empty>Nothing is closed yet.</Empty>;
  const lines = shown.map((name) => {
    const mine = new Map(data.days.filter((d) => d.strategy === name).map((d) => [d.day_ms, sign * d[of]]));
    let last: number | null = null;
    return { label: name, values: days.map((ms) => (last = mine.get(ms) ?? last)) };
  });
  const ends = lines.map((l) => `${l.label} ${money(l.values.at(-1))}`).join(", ");
  return <Chart label={`${props.label}: ${ends}`} x={days} lines={lines} height={240} format={(v) => money(v).replace(/\.?0+$/, "") || "0"} legend />;
}

function Details({ name }: { name: string }) {
  const [offset, setOffset] = useState(0);
  const asked = useAsked<One>(`/api/ml/pages/strategy/${query({ strategy: name, offset, limit: LIMIT })}`);
  return (
    <div class="halves">
      <Panel title={`${name}: by symbol`}>
        <Ask asked={asked} height={240} empty={(d) => d.total === 0 && "No symbol yet."}>
          {(d) => (
            <>
              <div class="scroll" tabIndex={0}>
                <table>
                  <thead>
                    <tr>
                      <th scope="col">Symbol</th>
                      <th scope="col" class="num">Signals</th>
                      <th scope="col" class="num">PnL</th>
                      <th scope="col" class="num">Win rate</th>
                      <th scope="col" class="num">Profit factor</th>
                      <th scope="col" class="num">Fees</th>
                    </tr>
                  </thead>
                  <tbody>
                    {d.symbols.map((s) => (
                      <tr key={s.symbol}>
                        <th scope="row">
                          <Link href={symbolPath(s.symbol)}>{s.symbol}</Link>
                        </th>
                        <td class="num">{whole(s.signals)}</td>
                        <td class={`num ${tone(s.total_pnl)}`}>{money(s.total_pnl)}</td>
                        <td class="num">{percent(s.win_rate, 1)}</td>
                        <td class="num">{fixed(s.profit_factor, 2)}</td>
                        <td class="num">{money(s.fees)}</td>
                      </tr>
                    ))}
                  </tbody>
                </table>
              </div>
              <Pager offset={offset} limit={LIMIT} total={d.total} move={setOffset} />
            </>
          )}
        </Ask>
      </Panel>
      <Panel title={`${name}: newest exits`}>
        <Ask asked={asked} height={240} empty={(d) => d.trades.length === 0 && (d.positions.length ? `${d.positions.length} positions are open, none is closed.` : "Nothing is closed yet.")}>
          {(d) => (
            <div class="scroll tall" tabIndex={0}>
              <table>
                <thead>
                  <tr>
                    <th scope="col">Symbol</th>
                    <th scope="col">Side</th>
                    <th scope="col">Exit</th>
                    <th scope="col">By</th>
                    <th scope="col" class="num">Return</th>
                    <th scope="col" class="num">PnL</th>
                  </tr>
                </thead>
                <tbody>
                  {d.trades.map((t) => (
                    <tr key={`${t.symbol}${t.entry_time_ms}${t.exit_time_ms}`}>
                      <th scope="row">{t.symbol}</th>
                      <td>
                        <Side side={t.side} />
                      </td>
                      <td>{time(t.exit_time_ms)}</td>
                      <td>{t.exit_reason?.toLowerCase() ?? "strategy"}</td>
                      <td class={`num ${tone(t.return)}`}>{signed(t.return)}</td>
                      <td class={`num ${tone(t.pnl)}`}>{money(t.pnl)}</td>
                    </tr>
                  ))}
                </tbody>
              </table>
            </div>
          )}
        </Ask>
      </Panel>
    </div>
  );
}
