// Features: what a model looks at, how that changed, and how the features themselves are of late.
import { useState } from "preact/hooks";
import { query, useAsked } from "../api";
import { Chart } from "../chart";
import { day, fixed, percent, time, whole } from "../format";
import { Ask, Bar, Choice, Panel, Stat, tone } from "../ui";

interface Importance {
  model: string;
  version: number;
  calculated_at_ms: number;
  feature: string;
  score: number;
  rank: number;
  correlation: number | null;
  correlation_bars: number | null;
  method: string;
}

interface Data {
  models: { model: string; version: number; calculated_at_ms: number; method: string }[];
  top: Importance[];
  evolution: Record<string, { calculated_at_ms: number; version: number; score: number; rank: number }[]>;
  quality: { hour_ms: number; forecasts: number; nan_features: number; still_features: number }[];
  names: string[];
}

interface Distribution {
  feature: string;
  definition: { formula: string; convention: string; group_name: string; warmup_bars: number; low: number | null; high: number | null } | null;
  newest_close_ms: number | null;
  rows: number;
  finite: number;
  counts: number[];
  edges: number[];
  quantiles: number[];
}

export function Page() {
  const [model, setModel] = useState("");
  const [feature, setFeature] = useState("");
  const asked = useAsked<Data>(`/api/ml/pages/features/${query({ model })}`, 60_000);
  const data = asked.data;
  const chosen = feature || data?.top[0]?.feature || data?.names[0] || "";
  const none = (d: Data) =>
    d.top.length === 0 && (
      <>
        <strong>No importance is on record.</strong> A training with a database writes it: <code>candlecast train … --database URL</code>, or
        begin one on the page Models.
      </>
    );
  const models = [...new Set(data?.models.map((m) => m.model) ?? [])];
  return (
    <>
      <h1>Features</h1>
      <div class="halves">
        <Panel
          title="What the model looks at"
          note={data?.top[0] ? `Share of ${data.top[0].model} v${data.top[0].version}'s answers (${data.top[0].method.replaceAll("_", " ")}, ${day(data.top[0].calculated_at_ms)}), and correlation with the return ${data.top[0].correlation_bars ?? "–"} bars later.` : "Share of a model's answers."}
          tools={models.length > 1 && <Choice label="Model" value={model || data!.top[0]!.model} options={models.map((m) => [m, m] as const)} pick={setModel} />}
        >
          <Ask asked={asked} height={420} empty={none}>
            {(d) => (
              <div class="scroll tall" tabIndex={0}>
                <table>
                  <thead>
                    <tr>
                      <th scope="col" class="num">#</th>
                      <th scope="col">Feature</th>
                      <th scope="col">Share</th>
                      <th scope="col" class="num">Correlation</th>
                    </tr>
                  </thead>
                  <tbody>
                    {d.top.map((row) => (
                      <tr key={row.feature} class={row.feature === chosen ? "chosen" : ""}>
                        <td class="num muted">{row.rank}</td>
                        <th scope="row">
                          <button type="button" class="link" onClick={() => setFeature(row.feature)}>
                            {row.feature}
                          </button>
                        </th>
                        <td class="share">
                          <Bar share={row.score / (d.top[0]?.score || 1)} tone="accent" /> {percent(row.score, 1)}
                        </td>
                        <td class={`num ${tone(row.correlation)}`}>{fixed(row.correlation, 3)}</td>
                      </tr>
                    ))}
                  </tbody>
                </table>
              </div>
            )}
          </Ask>
        </Panel>
        <div class="stack">
          <Distributed feature={chosen} names={data?.names ?? []} pick={setFeature} />
          <Panel title="Importance over time" note="Of the features that lead now, across trainings.">
            <Ask asked={asked} height={250} empty={none}>
              {(d) => <Evolution data={d} />}
            </Ask>
          </Panel>
        </div>
      </div>
      <Drifted pick={setFeature} />
      <Panel title="Quality by hour" note="Features of a forecast that are NaN, and that did not move within their window; by the hour of the close, 14 days up to the newest.">
        <Ask asked={asked} height={220} empty={(d) => d.quality.length === 0 && "No forecasts yet."}>
          {(d) => (
            <Chart
              label={`Features without a value and features that stand still, for each forecast, ${d.quality.length} hours`}
              x={d.quality.map((q) => q.hour_ms)}
              height={180}
              lines={[
                { label: "NaN", values: d.quality.map((q) => q.nan_features), color: "--short" },
                { label: "still", values: d.quality.map((q) => q.still_features), color: "--c3" },
              ]}
            />
          )}
        </Ask>
      </Panel>
      <Drifting pick={setFeature} />
    </>
  );
}

interface Measure {
  model: string;
  version: number;
  measured_at_ms: number;
  subject: string;
  psi: number | null;
  ks: number | null;
  usual_psi: number | null;
  usual_ks: number | null;
  worst: string | null;
  before: number | null;
  after: number | null;
  drifting: boolean;
  against: "BUNDLE" | "FIRST_DAYS" | "ITSELF";
  reference_from_ms: number;
  reference_to_ms: number;
  reference_rows: number;
  newest_rows: number;
  since_ms: number | null;
}

const AGAINST = { BUNDLE: "its training", FIRST_DAYS: "its first days", ITSELF: "what came before" } as const;

// What the server itself measured, by group; it alerts by this.
function Drifting({ pick }: { pick: (name: string) => void }) {
  const asked = useAsked<{ measures: Measure[] }>("/api/ml/pages/features/drifting/", 60_000);
  return (
    <Panel
      title="Drift of the version that answers"
      note="Population stability index (PSI) and Kolmogorov-Smirnov distance (KS) of the newest forecasts, mean over a group of features; usual: of days without drift. The server alerts by it."
    >
      <Ask asked={asked} height={420} empty={(d) => d.measures.length === 0 && "Drift is measured by the hour, from 200 forecasts of a day on; of a bundle without a reference, once it has newer days than its first week."}>
        {(d) => (
          <>
            <p>
              {d.measures[0]!.model} v{d.measures[0]!.version}, {whole(d.measures[0]!.newest_rows)} forecasts, measured {time(d.measures[0]!.measured_at_ms)}
              {d.measures.every((m) => m.against !== "BUNDLE") && ": its bundle does not say what it was trained on, so it is held to its own first days"}.
            </p>
            <div class="scroll" tabIndex={0}>
              <table>
                <thead>
                  <tr>
                    <th scope="col">Subject</th>
                    <th scope="col">Drifts</th>
                    <th scope="col" class="num">PSI</th>
                    <th scope="col" class="num">usual</th>
                    <th scope="col" class="num">KS</th>
                    <th scope="col" class="num">usual</th>
                    <th scope="col">Most of all</th>
                    <th scope="col">Against</th>
                  </tr>
                </thead>
                <tbody>
                  {d.measures.map((m) => (
                    <tr key={m.subject}>
                      <th scope="row">{m.subject}</th>
                      <td class={m.drifting ? "warn" : "muted"}>{m.drifting ? `since ${time(m.since_ms)}` : "no"}</td>
                      <td class="num">{fixed(m.psi, 2)}</td>
                      <td class="num muted">{fixed(m.usual_psi, 2)}</td>
                      <td class="num">{fixed(m.ks, 2)}</td>
                      <td class="num muted">{fixed(m.usual_ks, 2)}</td>
                      <td>
                        {m.worst ? (
                          <button type="button" class="link" onClick={() => pick(m.worst!)}>
                            {m.worst}
                          </button>
                        ) : m.after !== null ? (
                          `misses ${m.before === null ? "" : `${fixed(m.before, 3)} → `}${fixed(m.after, 3)}`
                        ) : (
                          "–"
                        )}
                      </td>
                      <td class="muted">
                        {AGAINST[m.against]}, {day(m.reference_from_ms)} – {day(m.reference_to_ms)}
                      </td>
                    </tr>
                  ))}
                </tbody>
              </table>
            </div>
          </>
        )}
      </Ask>
    </Panel>
  );
}

interface Drift {
  newest_close_ms: number | null;
  reference_close_ms: number | null;
  rows: number;
  reference_rows?: number;
  features: { feature: string; stability: number }[];
}

const EARLIER = [["1", "a day earlier"], ["7", "a week earlier"], ["30", "30 days earlier"], ["90", "90 days earlier"]] as const;

function Drifted({ pick }: { pick: (name: string) => void }) {
  const [days, setDays] = useState<(typeof EARLIER)[number][0]>("7");
  const asked = useAsked<Drift>(`/api/ml/pages/features/drift/${query({ days })}`, 60_000);
  const many = (d: Drift, least: number) => d.features.filter((f) => f.stability >= least).length;
  return (
    <Panel
      title="Drift by feature"
      note="Population stability index of the newest forecasts' features against those of forecasts that closed earlier. By custom: below 0.1 steady, from 0.25 on moved."
      tools={<Choice label="Against" value={days} options={EARLIER} pick={setDays} />}
    >
      <Ask asked={asked} height={200} empty={(d) => d.features.length === 0 && (d.rows ? "No forecast is stored that closed so much earlier." : "No forecasts yet.")}>
        {(d) => (
          <>
            <p>
              {whole(many(d, 0.25))} of {whole(d.features.length)} features have moved, {whole(many(d, 0.1) - many(d, 0.25))} a little: {whole(d.rows)}{" "}
              forecasts up to {time(d.newest_close_ms)} against {whole(d.reference_rows)} up to {time(d.reference_close_ms)}.
            </p>
            <ol class="choices">
              {d.features.slice(0, 15).map((f) => (
                <li key={f.feature}>
                  <button type="button" class="link" onClick={() => pick(f.feature)}>
                    {f.feature}
                  </button>{" "}
                  <span class={f.stability >= 0.25 ? "warn" : "sub"}>{fixed(f.stability, 2)}</span>
                </li>
              ))}
            </ol>
          </>
        )}
      </Ask>
    </Panel>
  );
}

function Evolution({ data }: { data: Data }) {
  const times = [...new Set(Object.values(data.evolution).flatMap((h) => h.map((p) => p.calculated_at_ms)))].sort((a, b) => a - b);
  const lines = Object.entries(data.evolution).map(([feature, history]) => {
    const at = new Map(history.map((p) => [p.calculated_at_ms, p.score]));
    return { label: feature, values: times.map((ms) => at.get(ms) ?? null) };
  });
  return <Chart label={`Importance of ${lines.map((l) => l.label).join(", ")} over ${times.length} trainings`} x={times} lines={lines} height={200} format={(v) => percent(v, 1)} legend />;
}

function Distributed(props: { feature: string; names: string[]; pick: (name: string) => void }) {
  const asked = useAsked<Distribution>(props.feature ? `/api/ml/pages/features/distribution/${query({ feature: props.feature })}` : null, 15_000);
  return (
    <Panel
      title="Live distribution"
      tools={<Choice label="Feature" value={props.feature} options={props.names.map((n) => [n, n] as const)} pick={props.pick} />}
    >
      <Ask asked={asked} height={330} empty={(d) => d.rows === 0 && "No forecasts yet: their rows are what this is drawn from."}>
        {(d) => (
          <>
            <Chart
              label={`${d.feature} over the newest ${d.rows} forecasts: median ${fixed(d.quantiles[2], 4)}`}
              plain
              x={d.counts.map((_, i) => (d.edges[i]! + d.edges[i + 1]!) / 2)}
              lines={[{ label: "forecasts", values: d.counts, kind: "bars", color: "--accent" }]}
              height={170}
              format={(v) => whole(v)}
              formatX={(v) => String(Number(v.toPrecision(4)))}
              legend={false}
            />
            <dl class="stats small">
              <Stat label="Forecasts">{whole(d.rows)}</Stat>
              <Stat label="Without a value">{whole(d.rows - d.finite)}</Stat>
              <Stat label="Median">{fixed(d.quantiles[2], 4)}</Stat>
              <Stat label="1 % – 99 %">
                {fixed(d.quantiles[0], 3)} – {fixed(d.quantiles[4], 3)}
              </Stat>
              <Stat label="Newest close">{time(d.newest_close_ms)}</Stat>
            </dl>
            {d.definition && (
              <p class="note">
                <code>{d.definition.formula}</code> {d.definition.convention}
              </p>
            )}
          </>
        )}
      </Ask>
    </Panel>
  );
}
