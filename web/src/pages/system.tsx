// System: how the parts are, where the time goes, and what stood against signals.
import { useState } from "preact/hooks";
import { query, useAsked } from "../api";
import { Chart } from "../chart";
import { DASH, fixed, micros, percent, time, whole } from "../format";
import type { Status } from "../live";
import { Ask, Bar, Choice, Panel, Stat } from "../ui";

interface Data {
  status: Status;
  server_ms: number | null;
  database_ms: number | null;
  stages: string[];
  latency: { hour_ms: number; stage: string; forecasts: number; p50_us: number; p95_us: number; p99_us: number }[];
  reasons: { reason: string; forecasts: number }[];
  missed: { day_ms: number; model: string; version: number; reason: string; missed: number }[];
  confidence: { confidence_from: number; direction: string; forecasts: number }[];
  per_hour: { hour_ms: number; forecasts: number; longs: number; shorts: number }[];
  parts: { name: string; value: string; ok: boolean | null }[];
}

const HOURS = [["24", "24 hours"], ["48", "48 hours"], ["168", "7 days"], ["720", "30 days"]] as const;

export function Page() {
  const [hours, setHours] = useState<(typeof HOURS)[number][0]>("48");
  const [stage, setStage] = useState("total");
  const asked = useAsked<Data>(`/api/ml/pages/system/${query({ hours })}`, 10_000);
  const mine = (asked.data?.latency ?? []).filter((l) => l.stage === stage);
  return (
    <>
      <h1>System</h1>
      <Panel title="Parts" note="Asked from here once a second; the server's answer is its own canary forecast.">
        <Ask asked={asked} height={84}>
          {(d) => (
            <dl class="stats">
              <Stat label="Server" tone={d.status.server === "SERVING" ? "long" : "short"} note={d.server_ms === null ? DASH : `answers in ${fixed(d.server_ms, 1)} ms`}>
                {d.status.server.toLowerCase().replace("_", " ")}
              </Stat>
              <Stat label="Database" tone={d.status.database === "OK" ? "long" : "short"} note={d.database_ms === null ? DASH : `answers in ${fixed(d.database_ms, 1)} ms`}>
                {d.status.database.toLowerCase()}
              </Stat>
              <Stat label="Live feed" tone={d.status.feed === "LIVE" ? "long" : "short"} note={d.status.trouble ?? ""}>
                {d.status.feed.toLowerCase()}
              </Stat>
              <Stat label="Forecasts a minute" note={`${whole(d.status.symbols)} symbols`}>
                {whole(d.status.per_minute)}
              </Stat>
              {d.parts.map((part) => (
                <Stat key={part.name} label={part.name} tone={part.ok === null ? "" : part.ok ? "long" : "short"}>
                  {part.value}
                </Stat>
              ))}
            </dl>
          )}
        </Ask>
      </Panel>
      <Panel
        title="Latency"
        note="Of a forecast's batch, by the hour in which it was written; percentiles from a histogram, at most a fifth above."
        tools={
          <div class="tools">
            <Choice label="Stage" value={stage} options={(asked.data?.stages ?? ["total"]).map((s) => [s, s] as const)} pick={setStage} />
            <Choice label="Last" value={hours} options={HOURS} pick={setHours} />
          </div>
        }
      >
        <Ask asked={asked} height={420} empty={(d) => d.latency.length === 0 && "No forecast was written in this time."}>
          {(d) => (
            <>
              <Chart
                label={`Latency of ${stage} by hour: newest p50 ${micros(mine.at(-1)?.p50_us)}, p99 ${micros(mine.at(-1)?.p99_us)}`}
                x={mine.map((l) => l.hour_ms)}
                height={200}
                format={(v) => micros(v)}
                lines={[
                  { label: "p50", values: mine.map((l) => l.p50_us), color: "--c1" },
                  { label: "p95", values: mine.map((l) => l.p95_us), color: "--c3" },
                  { label: "p99", values: mine.map((l) => l.p99_us), color: "--c2" },
                ]}
              />
              <Newest data={d} />
            </>
          )}
        </Ask>
      </Panel>
      <div class="halves">
        <Panel title="Forecasts by hour" note="By the hour of the close, 7 days up to the newest.">
          <Ask asked={asked} height={240} empty={(d) => d.per_hour.length === 0 && "No forecasts yet."}>
            {(d) => (
              <Chart
                label={`Forecasts by hour, ${whole(d.per_hour.reduce((n, h) => n + h.forecasts, 0))} in all`}
                x={d.per_hour.map((h) => h.hour_ms)}
                height={200}
                format={(v) => whole(v)}
                lines={[
                  { label: "forecasts", values: d.per_hour.map((h) => h.forecasts), color: "--accent" },
                  { label: "LONG", values: d.per_hour.map((h) => h.longs), color: "--long" },
                  { label: "SHORT", values: d.per_hour.map((h) => h.shorts), color: "--short" },
                ]}
              />
            )}
          </Ask>
        </Panel>
        <Panel title="Confidence" note="Of all forecasts, 7 days up to the newest.">
          <Ask asked={asked} height={240} empty={(d) => d.confidence.length === 0 && "No forecasts yet."}>
            {(d) => <Confidence data={d} />}
          </Ask>
        </Panel>
      </div>
      <div class="halves">
        <Panel title="Why there was no signal" note="A forecast may have several reasons; 7 days up to the newest.">
          <Ask asked={asked} height={160} empty={(d) => d.reasons.length === 0 && "Nothing stood against a signal."}>
            {(d) => (
              <table>
                <tbody>
                  {d.reasons.map((r) => (
                    <tr key={r.reason}>
                      <th scope="row">{r.reason.toLowerCase().replaceAll("_", " ")}</th>
                      <td class="share">
                        <Bar share={r.forecasts / (d.reasons[0]?.forecasts || 1)} tone="muted" /> {whole(r.forecasts)}
                      </td>
                    </tr>
                  ))}
                </tbody>
              </table>
            )}
          </Ask>
        </Panel>
        <Panel title="Missed" note="Forecasts that were not made while they were worth something.">
          <Ask asked={asked} height={160} empty={(d) => d.missed.length === 0 && "None in this time."}>
            {(d) => (
              <table>
                <tbody>
                  {d.missed.map((m) => (
                    <tr key={`${m.day_ms}${m.reason}${m.version}`}>
                      <th scope="row">{time(m.day_ms).slice(0, 10)}</th>
                      <td>{m.reason.toLowerCase().replaceAll("_", " ")}</td>
                      <td class="num">{whole(m.missed)}</td>
                    </tr>
                  ))}
                </tbody>
              </table>
            )}
          </Ask>
        </Panel>
      </div>
    </>
  );
}

function Newest({ data }: { data: Data }) {
  const newest = Math.max(...data.latency.map((l) => l.hour_ms));
  const rows = data.latency.filter((l) => l.hour_ms === newest);
  return (
    <div class="scroll" tabIndex={0}>
      <table>
        <caption>The newest hour, {time(newest)}</caption>
        <thead>
          <tr>
            <th scope="col">Stage</th>
            <th scope="col" class="num">p50</th>
            <th scope="col" class="num">p95</th>
            <th scope="col" class="num">p99</th>
            <th scope="col" class="num">Forecasts</th>
          </tr>
        </thead>
        <tbody>
          {data.stages.map((stage) => {
            const row = rows.find((l) => l.stage === stage);
            return (
              <tr key={stage}>
                <th scope="row">{stage}</th>
                <td class="num">{micros(row?.p50_us)}</td>
                <td class="num">{micros(row?.p95_us)}</td>
                <td class="num">{micros(row?.p99_us)}</td>
                <td class="num">{whole(row?.forecasts)}</td>
              </tr>
            );
          })}
        </tbody>
      </table>
    </div>
  );
}

function Confidence({ data }: { data: Data }) {
  const bins = [...new Set(data.confidence.map((c) => c.confidence_from))].sort((a, b) => a - b);
  const of = (side: string | null) =>
    bins.map((bin) => data.confidence.filter((c) => c.confidence_from === bin && (!side || c.direction === side)).reduce((n, c) => n + c.forecasts, 0));
  return (
    <Chart
      label={`Distribution of confidence: ${bins.map((b, i) => `${percent(b, 0)}: ${of(null)[i]}`).join(", ")}`}
      plain
      x={bins.map((b) => b + 0.025)}
      xRange={[0.475, 1]}
      height={200}
      format={(v) => whole(v)}
      formatX={(v) => percent(v, 0)}
      lines={[
        { label: "all", values: of(null), kind: "bars", color: "--accent" },
        { label: "LONG", values: of("LONG"), kind: "bars", color: "--long" },
        { label: "SHORT", values: of("SHORT"), kind: "bars", color: "--short" },
      ]}
    />
  );
}
