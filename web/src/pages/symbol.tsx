// Symbol: its candles with what was said at their closes, and what became of it.
import { useCallback, useEffect, useMemo, useRef, useState } from "preact/hooks";
import { query, useAsked } from "../api";
import { Candles, type Drawn } from "../candles";
import { DASH, fixed, interval, micros, money, percent, price, signed, time } from "../format";
import { useLive, type Row } from "../live";
import { Ask, Bar, Choice, Empty, go, Panel, Side, Stat, symbolPath, tone } from "../ui";

interface Forecast extends Row {
  close: number;
  agreement: number | null;
  move: number | null;
  probabilities: (number | null)[][];
  nan_count: number;
  actual_return_1: number | null;
  actual_return_4: number | null;
  actual_return_16: number | null;
  actual_return_48: number | null;
  hit_1: boolean | null;
  hit_4: boolean | null;
  hit_16: boolean | null;
  hit_48: boolean | null;
  exit_reason: "STOP" | "TAKE" | "TIME" | "NO_ENTRY" | null;
  exit_return: number | null;
  exit_bars: number | null;
  rule_score: number | null;
  hybrid_score: number | null;
  size_multiplier: number | null;
}

interface Trade {
  strategy: string;
  side: "LONG" | "SHORT";
  status: string;
  entry_time_ms: number;
  entry_price: number;
  size: number;
  exit_time_ms: number | null;
  exit_price: number | null;
  exit_reason: string | null;
  pnl: number | null;
}

interface Data {
  symbol: string;
  interval_ms: number;
  intervals_ms: number[];
  horizons: string[];
  horizon_bars: number[];
  candles: number[][];
  forecasts: Forecast[];
  trades: Trade[];
}

const STAGES = ["decode", "features", "queue", "model", "interpret"];
const RISKS = ["drawdown 1h", "rally 1h", "drawdown 4h", "rally 4h"];
const BARS = [["150", "150 bars"], ["300", "300 bars"], ["1000", "1,000 bars"]] as const;

export function Page() {
  const parameters = new URLSearchParams(location.search);
  const symbol = parameters.get("symbol");
  return symbol ? <One key={symbol} symbol={symbol} /> : <Find />;
}

/** No symbol is named: choose one. */
function Find() {
  const [text, setText] = useState("");
  const asked = useAsked<{ rows: Row[]; total: number }>(`/api/ml/pages/now/${query({ search: text.trim(), limit: 30 })}`);
  return (
    <>
      <h1>Symbol</h1>
      <Panel title="Choose a symbol">
        <input type="search" aria-label="Search symbols" placeholder="Symbol  ( / )" value={text} onInput={(e) => setText(e.currentTarget.value)} />
        <Ask asked={asked} height={320} empty={(page) => page.total === 0 && "No symbol with a forecast matches."}>
          {(page) => (
            <ul class="choices">
              {page.rows.map((row) => (
                <li key={row.symbol}>
                  <a href={symbolPath(row.symbol)} onClick={(e) => (e.preventDefault(), go(symbolPath(row.symbol)))}>
                    {row.symbol}
                  </a>{" "}
                  <Side side={row.direction} />
                </li>
              ))}
            </ul>
          )}
        </Ask>
      </Panel>
    </>
  );
}

function One({ symbol }: { symbol: string }) {
  const [bars, setBars] = useState<(typeof BARS)[number][0]>("300");
  const [chosen, setChosen] = useState<string>("");
  const [picked, setPicked] = useState<number | null>(null);
  const asked = useAsked<Data>(`/api/ml/pages/symbol/${query({ symbol, bars, interval_ms: chosen })}`, 60_000);
  const take = useCallback((rows: Row[]) => rows.some((row) => row.symbol === symbol) && asked.again(), [symbol]);
  useLive(
    useMemo(() => [{ symbol: [symbol] }], [symbol]),
    take,
  );
  const forecasts = asked.data?.forecasts ?? [];
  const place = picked === null ? forecasts.length - 1 : forecasts.findIndex((f) => f.close_time_ms === picked);
  const selected = forecasts[place] ?? null;
  const at = useRef({ forecasts, place });
  at.current = { forecasts, place };
  useEffect(() => {
    const pressed = (event: KeyboardEvent) => {
      const step = event.key === "ArrowLeft" ? -1 : event.key === "ArrowRight" ? 1 : 0;
      if (!step || /^(INPUT|SELECT|TEXTAREA)$/.test((event.target as HTMLElement).tagName)) return;
      const next = at.current.forecasts[at.current.place + step];
      if (next) setPicked(next.close_time_ms);
      event.preventDefault();
    };
    addEventListener("keydown", pressed);
    return () => removeEventListener("keydown", pressed);
  }, []);
  const data = asked.data;
  return (
    <>
      <h1>{symbol}</h1>
      <Panel
        title="Candles and signals"
        note="Boxes: from the signal's close, up to its take and down to its stop (SHORT the other way round). A dot says which one ended it. ← → step through forecasts."
        tools={
          <div class="tools">
            {data && data.intervals_ms.length > 1 && (
              <Choice
                label="Interval"
                value={String(data.interval_ms)}
                options={data.intervals_ms.map((ms) => [String(ms), interval(ms)] as const)}
                pick={setChosen}
              />
            )}
            <Choice label="Show" value={bars} options={BARS} pick={setBars} />
          </div>
        }
      >
        <Ask asked={asked} height={430} empty={(d) => d.candles.length === 0 && "No candle at this interval is stored."}>
          {(d) => <Picture data={d} selected={selected} pick={setPicked} />}
        </Ask>
      </Panel>
      {data && (
        <div class="halves">
          <Panel title={selected ? `Forecast at ${time(selected.close_time_ms)}` : "Forecast"}>
            {selected ? <Detail data={data} forecast={selected} /> : <Empty>No forecast in this span: the symbol was not warm yet, or none was made.</Empty>}
          </Panel>
          <Panel title="Trades" note="Of all strategies, entered or left in this span.">
            {data.trades.length ? <Trades trades={data.trades} /> : <Empty>No strategy traded it in this span.</Empty>}
          </Panel>
        </div>
      )}
    </>
  );
}

function Picture(props: { data: Data; selected: Forecast | null; pick: (ms: number) => void }) {
  const box = useRef<HTMLDivElement>(null);
  const chart = useRef<Candles | null>(null);
  const { data, selected } = props;
  useEffect(() => {
    const mine = new Candles(box.current!, (ms) => props.pick(ms + data.interval_ms));
    chart.current = mine;
    const paint = () => mine.paint();
    addEventListener("theme", paint);
    return () => {
      removeEventListener("theme", paint);
      mine.remove();
    };
  }, [data.interval_ms]);
  useEffect(() => {
    chart.current?.show(drawn(data, selected), `${data.symbol}${data.interval_ms}${data.candles.length}`);
    if (selected) chart.current?.point(selected.close_time_ms - data.interval_ms);
  }, [data, selected]);
  const signals = data.forecasts.filter((f) => f.direction !== "NEUTRAL").length;
  return (
    <div
      ref={box}
      class="candles"
      role="figure"
      aria-label={`${data.candles.length} candles of ${data.symbol} up to ${time(data.candles.at(-1)?.[0])} UTC, with ${signals} signals`}
    />
  );
}

function drawn(data: Data, selected: Forecast | null): Drawn {
  const step = data.interval_ms;
  const signals = data.forecasts.filter((f) => f.direction !== "NEUTRAL");
  const shown = selected && selected.direction === "NEUTRAL" && (selected.edge ?? 0) !== 0 ? [...signals, selected] : signals;
  return {
    candles: data.candles,
    marks: [
      ...signals.map((f) => ({
        at: f.close_time_ms - step,
        side: f.direction as "LONG" | "SHORT",
        text: f.hit_16 === null ? "" : f.hit_16 ? "✓" : "✗",
      })),
    ].sort((a, b) => a.at - b.at),
    levels: shown
      .filter((f) => f.stop_loss !== null && f.take_profit !== null)
      .map((f) => {
        const side = f.direction === "SHORT" || (f.direction === "NEUTRAL" && f.edge! < 0) ? -1 : 1;
        const open = f.close_time_ms; // the next candle's, from which a position would be held
        return {
          from: open - step,
          to: open + ((f.exit_bars ?? 16) - 1) * step,
          entry: f.close,
          stop: f.close * (1 - side * f.stop_loss!),
          take: f.close * (1 + side * f.take_profit!),
          faint: f.direction === "NEUTRAL",
          ended: f.exit_reason === "NO_ENTRY" ? null : f.exit_reason,
        };
      }),
  };
}

function Detail({ data, forecast: f }: { data: Data; forecast: Forecast }) {
  const actual = [f.actual_return_1, f.actual_return_4, f.actual_return_16, f.actual_return_48];
  const hits = [f.hit_1, f.hit_4, f.hit_16, f.hit_48];
  const names = data.interval_ms === 900_000 ? data.horizons : data.horizon_bars.map((n) => `${n} bars`);
  return (
    <>
      <dl class="stats small">
        <Stat label="Direction">
          <Side side={f.direction} strength={f.strength} />
        </Stat>
        <Stat label="Confidence">{percent(f.confidence, 1)}</Stat>
        <Stat label="Edge" tone={tone(f.edge)}>{fixed(f.edge)}</Stat>
        <Stat label="Quality">{fixed(f.quality, 2)}</Stat>
        <Stat label="Rules / hybrid">
          {fixed(f.rule_score, 2)} / {fixed(f.hybrid_score, 2)}
        </Stat>
        <Stat label="Size">× {fixed(f.size_multiplier, 2)}</Stat>
        <Stat label="Close">{price(f.close)}</Stat>
        <Stat label="Stop / take">
          {percent(f.stop_loss)} / {percent(f.take_profit)}
        </Stat>
        <Stat label="Outcome" tone={tone(f.exit_return)}>
          {f.exit_reason ? `${f.exit_reason.toLowerCase().replace("_", " ")} ${f.exit_return === null ? "" : signed(f.exit_return)}` : f.direction === "NEUTRAL" ? "no signal" : "not yet"}
        </Stat>
        <Stat label="Gate">
          {f.gate_approved === null ? "absent" : f.gate_approved ? "approved" : "refused"} {f.gate_probability !== null && percent(f.gate_probability, 0)}
        </Stat>
      </dl>
      {f.reasons.length > 0 && (
        <p class="reasons">
          Not a signal: {f.reasons.map((reason) => reason.toLowerCase().replaceAll("_", " ")).join(", ")}.
        </p>
      )}
      <div class="scroll" tabIndex={0}>
        <table>
          <caption class="hidden">Probabilities, expected and actual returns by horizon</caption>
          <thead>
            <tr>
              <th scope="col">Horizon</th>
              <th scope="col">Long</th>
              <th scope="col">Short</th>
              <th scope="col">Neutral</th>
              <th scope="col" class="num">Expected</th>
              <th scope="col" class="num">Actual</th>
              <th scope="col">Hit</th>
            </tr>
          </thead>
          <tbody>
            {names.map((name, h) => (
              <tr key={name}>
                <th scope="row">{name}</th>
                {["long", "short", "muted"].map((tone, k) => (
                  <td key={tone} class="probability">
                    <Bar share={f.probabilities[h]?.[k] ?? 0} tone={tone} /> {percent(f.probabilities[h]?.[k], 0)}
                  </td>
                ))}
                <td class={`num ${tone(f.returns[h])}`}>{signed(f.returns[h])}</td>
                <td class={`num ${tone(actual[h])}`}>{signed(actual[h])}</td>
                <td>{hits[h] === null ? DASH : hits[h] ? "✓ hit" : "✗ miss"}</td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
      <dl class="stats small">
        {RISKS.map((name, i) => (
          <Stat key={name} label={`Predicted ${name}`}>{percent(f.risks[i])}</Stat>
        ))}
        {STAGES.map((name, i) => (
          <Stat key={name} label={`Time: ${name}`}>{micros(f.stages_us[i])}</Stat>
        ))}
        <Stat label="Model">
          {f.model} v{f.version}
        </Stat>
      </dl>
    </>
  );
}

function Trades({ trades }: { trades: Trade[] }) {
  return (
    <div class="scroll tall" tabIndex={0}>
      <table>
        <thead>
          <tr>
            <th scope="col">Strategy</th>
            <th scope="col">Side</th>
            <th scope="col">Entry</th>
            <th scope="col">Exit</th>
            <th scope="col" class="num">PnL</th>
          </tr>
        </thead>
        <tbody>
          {[...trades].reverse().map((t) => (
            <tr key={`${t.strategy}${t.entry_time_ms}${t.side}`}>
              <th scope="row">{t.strategy}</th>
              <td>
                <Side side={t.side} />
              </td>
              <td>{time(t.entry_time_ms)}</td>
              <td>{t.status === "OPEN" ? "open" : `${time(t.exit_time_ms)} ${t.exit_reason?.toLowerCase() ?? ""}`}</td>
              <td class={`num ${tone(t.pnl)}`}>{money(t.pnl)}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}
