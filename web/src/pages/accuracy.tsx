// Accuracy: how right the forecasts were, always beside what knowing the frequencies alone would reach.
import { useState } from "preact/hooks";
import { query, useAsked } from "../api";
import { Chart } from "../chart";
import { day, fixed, interval, percent, signed, whole } from "../format";
import { Ask, Choice, Panel, tone } from "../ui";

interface Horizon {
  horizon_bars: number;
  forecasts: number;
  hit_rate: number;
  base_rate: number;
  side_hit_rate: number | null;
  log_loss: number;
  base_log_loss: number;
  skill: number | null;
  mean_confidence: number;
  bias: number;
  mae: number;
  base_mae: number;
}

interface Data {
  models: { model: string; version: number; interval_ms: number; newest_day_ms: number; forecasts: number }[];
  chosen: { model: string; version: number; interval_ms: number } | null;
  since_ms: number | null;
  horizons: Horizon[];
  calibration: { horizon_bars: number; confidence_from: number; forecasts: number; mean_confidence: number; hit_rate: number }[];
  days: { day_ms: number; horizon_bars: number; forecasts: number; hit_rate: number; base_rate: number; mean_confidence: number }[];
  exits: { direction: string; exit_reason: string; signals: number; wins: number; mean_return: number | null; mean_bars: number | null }[];
}

const DAYS = [["7", "7 days"], ["30", "30 days"], ["90", "90 days"], ["365", "a year"], ["3650", "all"]] as const;

export function Page() {
  const [days, setDays] = useState<(typeof DAYS)[number][0]>("90");
  const [chosen, setChosen] = useState("");
  const [bars, setBars] = useState("4");
  const [model, version, step] = chosen.split("|");
  const asked = useAsked<Data>(`/api/ml/pages/accuracy/${query({ days, model, version, interval_ms: step })}`);
  const data = asked.data;
  const name = (n: number) => interval(n * (data?.chosen?.interval_ms ?? 900_000));
  const horizons = data?.horizons.map((h) => [String(h.horizon_bars), name(h.horizon_bars)] as const) ?? [];
  const mine = (data?.days ?? []).filter((d) => String(d.horizon_bars) === bars);
  const bins = (data?.calibration ?? []).filter((c) => String(c.horizon_bars) === bars);
  const none = (d: Data) =>
    d.horizons.length === 0 && (
      <>
        <strong>No outcome is known yet.</strong> A forecast's outcome is filled in when the candles after it have come: 1 to 48 bars.
      </>
    );
  return (
    <>
      <h1>Accuracy</h1>
      <Panel
        title="By horizon"
        note="Base: always saying the class that came most often in these very rows, or expecting a return of 0. Skill above 0: better than knowing the class frequencies (log-loss)."
        tools={
          <div class="tools">
            {data && data.models.length > 0 && (
              <Choice
                label="Model"
                value={chosen || (data.chosen ? `${data.chosen.model}|${data.chosen.version}|${data.chosen.interval_ms}` : "")}
                options={data.models.map((m) => [`${m.model}|${m.version}|${m.interval_ms}`, `${m.model} v${m.version}, ${interval(m.interval_ms)}`] as const)}
                pick={setChosen}
              />
            )}
            <Choice label="Last" value={days} options={DAYS} pick={setDays} />
          </div>
        }
      >
        <Ask asked={asked} height={220} empty={none}>
          {(d) => (
            <div class="scroll" tabIndex={0}>
              <table>
                <thead>
                  <tr>
                    <th scope="col">Horizon</th>
                    <th scope="col" class="num">Forecasts</th>
                    <th scope="col" class="num">Hit rate</th>
                    <th scope="col" class="num">Base</th>
                    <th scope="col" class="num">Better by</th>
                    <th scope="col" class="num">Skill</th>
                    <th scope="col" class="num">Right side</th>
                    <th scope="col" class="num">Return error</th>
                    <th scope="col" class="num">Base</th>
                    <th scope="col" class="num">Bias</th>
                  </tr>
                </thead>
                <tbody>
                  {d.horizons.map((h) => (
                    <tr key={h.horizon_bars}>
                      <th scope="row">{name(h.horizon_bars)}</th>
                      <td class="num">{whole(h.forecasts)}</td>
                      <td class="num">{percent(h.hit_rate, 1)}</td>
                      <td class="num muted">{percent(h.base_rate, 1)}</td>
                      <td class={`num ${tone(h.hit_rate - h.base_rate)}`}>{signed(h.hit_rate - h.base_rate, 1)}</td>
                      <td class={`num ${tone(h.skill)}`}>{fixed(h.skill, 4)}</td>
                      <td class="num">{percent(h.side_hit_rate, 1)}</td>
                      <td class="num">{percent(h.mae, 3)}</td>
                      <td class="num muted">{percent(h.base_mae, 3)}</td>
                      <td class="num">{signed(h.bias, 3)}</td>
                    </tr>
                  ))}
                </tbody>
              </table>
            </div>
          )}
        </Ask>
      </Panel>
      <div class="halves">
        <Panel
          title="Reliability"
          note="How often the likeliest class came, by how likely it was said to be. On the dashed line: calibrated."
          tools={horizons.length > 0 && <Choice label="Horizon" value={bars} options={horizons} pick={setBars} />}
        >
          <Ask asked={asked} height={300} empty={none}>
            {() => (
              <Chart
                label={`Reliability at ${name(Number(bars))}: ${bins.map((b) => `said ${percent(b.mean_confidence, 0)}, came ${percent(b.hit_rate, 0)}`).join("; ")}`}
                plain
                height={260}
                x={[...new Set([0.3, ...bins.map((b) => b.mean_confidence), 1])].sort((a, b) => a - b)}
                range={[0, 1]}
                xRange={[0.3, 1]}
                format={(v) => percent(v, 0)}
                formatX={(v) => percent(v, 0)}
                lines={reliability(bins)}
              />
            )}
          </Ask>
        </Panel>
        <Panel title="Over time" note="Hit rate by the day of the forecast, beside the base rate and what was claimed.">
          <Ask asked={asked} height={300} empty={none}>
            {() => (
              <Chart
                label={`Hit rate by day at ${name(Number(bars))}, from ${day(mine[0]?.day_ms)} to ${day(mine.at(-1)?.day_ms)}`}
                height={260}
                x={mine.map((d) => d.day_ms)}
                format={(v) => percent(v, 0)}
                lines={[
                  { label: "hit rate", values: mine.map((d) => d.hit_rate), color: "--accent" },
                  { label: "base rate", values: mine.map((d) => d.base_rate), color: "--muted", dash: [4, 4] },
                  { label: "claimed", values: mine.map((d) => d.mean_confidence), color: "--c3" },
                ]}
              />
            )}
          </Ask>
        </Panel>
      </div>
      <Panel title="Stops and takes" note="How LONG and SHORT forecasts ended: entered at the next open, before costs.">
        <Ask asked={asked} height={120} empty={(d) => d.exits.length === 0 && "No LONG or SHORT forecast has ended in this span."}>
          {(d) => (
            <div class="scroll" tabIndex={0}>
              <table>
                <thead>
                  <tr>
                    <th scope="col">Direction</th>
                    <th scope="col">Ended by</th>
                    <th scope="col" class="num">Signals</th>
                    <th scope="col" class="num">Winners</th>
                    <th scope="col" class="num">Mean return</th>
                    <th scope="col" class="num">Mean bars</th>
                  </tr>
                </thead>
                <tbody>
                  {d.exits.map((e) => (
                    <tr key={`${e.direction}${e.exit_reason}`}>
                      <th scope="row">{e.direction}</th>
                      <td>{e.exit_reason.toLowerCase().replace("_", " ")}</td>
                      <td class="num">{whole(e.signals)}</td>
                      <td class="num">{percent(e.wins / e.signals, 1)}</td>
                      <td class={`num ${tone(e.mean_return)}`}>{signed(e.mean_return)}</td>
                      <td class="num">{fixed(e.mean_bars, 1)}</td>
                    </tr>
                  ))}
                </tbody>
              </table>
            </div>
          )}
        </Ask>
      </Panel>
    </>
  );
}

function reliability(bins: Data["calibration"]) {
  const x = [...new Set([0.3, ...bins.map((b) => b.mean_confidence), 1])].sort((a, b) => a - b);
  const came = new Map(bins.map((b) => [b.mean_confidence, b.hit_rate]));
  return [
    { label: "calibrated", values: x, color: "--muted", dash: [4, 4] },
    { label: "came", values: x.map((v) => came.get(v) ?? null), color: "--accent", kind: "points" as const },
  ];
}
