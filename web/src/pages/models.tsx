// Models: versions and where they stand, trainings and how far they are. Who has the admin's token may change something.
import { useState } from "preact/hooks";
import { Problem, query, send, token, useAsked } from "../api";
import { day, duration, fixed, time, whole } from "../format";
import { Ask, Bar, Empty, Pager, Panel, tone, Trouble } from "../ui";

interface Stands {
  model: string;
  version: number;
  state: string;
  since_ms: number;
  who: string;
  why: string;
}

interface Model {
  model: string;
  version: number;
  bundle_sha256: string;
  family: string;
  target: string;
  state: string;
  symbol_count: number;
  data_from_ms: number;
  data_to_ms: number;
  created_at_ms: number;
}

interface Training {
  id: string;
  model: string;
  version: number;
  family: string;
  status: string;
  phase: string | null;
  step: number | null;
  steps: number | null;
  loss: number | null;
  validation_loss: number | null;
  started_at_ms: number;
  duration_s: number | null;
  error: string | null;
}

interface Data {
  states: Stands[];
  models: Model[];
  total: number;
  skill: { model: string; version: number; source: string; horizon: string; skill: number | null; low: number | null; high: number | null }[];
  trainings: Training[];
  history: { at_ms: number; model: string; version: number; from_state: string | null; to_state: string; who: string; why: string }[];
}

const LIMIT = 20;

export function Page() {
  const [offset, setOffset] = useState(0);
  const [said, setSaid] = useState<Problem | string | null>(null);
  const asked = useAsked<Data>(`/api/ml/pages/models/${query({ offset, limit: LIMIT })}`, 2_000);
  const act = async (what: string, method: string, url: string, body?: unknown) => {
    setSaid(null);
    try {
      await send(method, url, body);
      setSaid(`${what}: done.`);
      asked.again();
    } catch (error) {
      setSaid(error instanceof Problem ? error : new Problem(0, "ERROR", String(error)));
    }
  };
  return (
    <>
      <h1>Models</h1>
      <Token />
      {said && (typeof said === "string" ? <p role="status" class="said">{said}</p> : <Trouble problem={said} />)}
      <Panel title="In traffic" note="Who answers: the champion; a challenger for a share of the symbols; a shadow hears every burst and is not heard.">
        <Ask asked={asked} height={150} empty={(d) => d.states.length === 0 && "No version has moved yet: the server says so when it loads one."}>
          {(d) => (
            <div class="scroll" tabIndex={0}>
              <table>
                <thead>
                  <tr>
                    <th scope="col">Version</th>
                    <th scope="col">State</th>
                    <th scope="col">Since</th>
                    <th scope="col" class="num">Skill in tests</th>
                    <th scope="col">By</th>
                    <th scope="col">Why</th>
                    <th scope="col">Change</th>
                  </tr>
                </thead>
                <tbody>
                  {d.states.map((m) => {
                    const skill = meanSkill(d, m);
                    return (
                      <tr key={`${m.model}${m.version}`}>
                        <th scope="row">
                          {m.model} v{m.version}
                        </th>
                        <td>
                          <span class={`state ${m.state.toLowerCase()}`}>{m.state.toLowerCase()}</span>
                        </td>
                        <td>{time(m.since_ms)}</td>
                        <td class={`num ${tone(skill)}`}>{fixed(skill, 4)}</td>
                        <td>{m.who}</td>
                        <td class="why">{m.why}</td>
                        <td>
                          <Actions stands={m} act={act} />
                        </td>
                      </tr>
                    );
                  })}
                </tbody>
              </table>
            </div>
          )}
        </Ask>
      </Panel>
      <div class="halves">
        <Panel title="Trainings" note="Wherever they were begun; each says how far it is.">
          <Ask asked={asked} height={200} empty={(d) => d.trainings.length === 0 && "No training is on record."}>
            {(d) => (
              <ul class="trainings">
                {d.trainings.map((t) => (
                  <li key={t.id}>
                    <strong>
                      {t.model} v{t.version}
                    </strong>{" "}
                    <span class={`state ${t.status}`}>{t.status}</span>
                    <span class="sub">
                      {" "}
                      {time(t.started_at_ms)} · {duration(t.duration_s)}
                    </span>
                    {t.status === "running" && (
                      <>
                        <progress max={t.steps ?? 1} value={t.step ?? 0} aria-label={`Progress of ${t.model} v${t.version}`} />
                        <span class="sub">
                          {t.phase ?? "begins"} {t.step !== null && `${whole(t.step)} of ${whole(t.steps)}`} · loss {fixed(t.loss, 4)} · validation{" "}
                          {fixed(t.validation_loss, 4)}
                        </span>
                        <button type="button" onClick={() => act(`Stop ${t.model} v${t.version}`, "DELETE", `/api/ml/trainings/${t.id}`)}>
                          Stop
                        </button>
                      </>
                    )}
                    {t.error && <p class="sub">{t.error}</p>}
                  </li>
                ))}
              </ul>
            )}
          </Ask>
        </Panel>
        <Train act={act} />
      </div>
      <Panel title="Trained models" note="Skill: log-loss against the base rate's in walk-forward tests, mean of horizons; above 0 is better than knowing the frequencies.">
        <Ask asked={asked} height={200} empty={(d) => d.total === 0 && "No bundle is on record. One trained with a database is."}>
          {(d) => (
            <>
              <div class="scroll" tabIndex={0}>
                <table>
                  <thead>
                    <tr>
                      <th scope="col">Model</th>
                      <th scope="col">State</th>
                      <th scope="col">Answers</th>
                      <th scope="col" class="num">Skill</th>
                      <th scope="col" class="num">Symbols</th>
                      <th scope="col">Data</th>
                      <th scope="col">Trained</th>
                      <th scope="col">Bundle</th>
                    </tr>
                  </thead>
                  <tbody>
                    {d.models.map((m) => {
                      const skill = meanSkill(d, m);
                      return (
                        <tr key={m.bundle_sha256}>
                          <th scope="row">
                            {m.model} v{m.version}
                          </th>
                          <td>{m.state.toLowerCase()}</td>
                          <td>{m.target === "forecast" ? "20 outputs" : m.target}</td>
                          <td class={`num ${tone(skill)}`}>
                            <Bar share={Math.max(0, skill ?? 0) * 10} tone="accent" /> {fixed(skill, 4)}
                          </td>
                          <td class="num">{whole(m.symbol_count)}</td>
                          <td>
                            {day(m.data_from_ms)} – {day(m.data_to_ms)}
                          </td>
                          <td>{time(m.created_at_ms)}</td>
                          <td>
                            <code title={m.bundle_sha256}>{m.bundle_sha256.slice(0, 10)}</code>
                          </td>
                        </tr>
                      );
                    })}
                  </tbody>
                </table>
              </div>
              <Pager offset={offset} limit={LIMIT} total={d.total} move={setOffset} />
            </>
          )}
        </Ask>
      </Panel>
      {asked.data && asked.data.history.length > 0 && (
        <Panel title="What happened" note="Every step of every version: who, when, why.">
          <div class="scroll tall" tabIndex={0}>
            <table>
              <tbody>
                {asked.data.history.map((e) => (
                  <tr key={`${e.at_ms}${e.version}${e.to_state}`}>
                    <td>{time(e.at_ms)}</td>
                    <th scope="row">
                      {e.model} v{e.version}
                    </th>
                    <td>
                      {e.from_state?.toLowerCase() ?? "new"} → {e.to_state.toLowerCase()}
                    </td>
                    <td>{e.who}</td>
                    <td>{e.why}</td>
                  </tr>
                ))}
              </tbody>
            </table>
          </div>
        </Panel>
      )}
    </>
  );
}

function meanSkill(data: Data, m: { model: string; version: number }): number | null {
  const mine = data.skill.filter((s) => s.model === m.model && s.version === m.version && s.source === "walk_forward" && s.skill !== null);
  return mine.length ? mine.reduce((sum, s) => sum + s.skill!, 0) / mine.length : null;
}

type Act = (what: string, method: string, url: string, body?: unknown) => Promise<void>;

function Actions({ stands: m, act }: { stands: Stands; act: Act }) {
  const alias = (to: string) => {
    const what = `Make ${m.model} v${m.version} ${to}`;
    if (confirm(`${what}?`)) act(what, "POST", `/api/ml/models/${m.version}/alias`, { alias: to, why: "from the dashboard" });
  };
  if (m.state === "CHAMPION") {
    return (
      <button
        type="button"
        onClick={() => confirm("Make the former champion answer again?") && act("Roll back", "POST", "/api/ml/models/rollback", { why: "from the dashboard" })}
      >
        Roll back
      </button>
    );
  }
  if (m.state === "REFUSED") return <span class="sub">refused</span>;
  return (
    <span class="tools">
      {m.state !== "SHADOW" && (
        <button type="button" onClick={() => alias("SHADOW")}>
          Shadow
        </button>
      )}
      <button type="button" onClick={() => alias("CHAMPION")}>
        Promote
      </button>
    </span>
  );
}

function Token() {
  const [text, setText] = useState(token.get());
  return (
    <label class="choice token">
      <span>Admin token</span>
      <input
        type="password"
        autocomplete="off"
        value={text}
        placeholder="only to change something"
        onInput={(e) => (setText(e.currentTarget.value), token.set(e.currentTarget.value))}
      />
    </label>
  );
}

const FAMILIES = ["patchtst", "lstm", "xgboost", "lightgbm"] as const;

function Train({ act }: { act: Act }) {
  const [family, setFamily] = useState<(typeof FAMILIES)[number]>("lightgbm");
  const [symbols, setSymbols] = useState("");
  const [folds, setFolds] = useState("3");
  const [stride, setStride] = useState("4");
  const begin = (event: Event) => {
    event.preventDefault();
    const names = symbols.toUpperCase().split(/[\s,]+/).filter(Boolean);
    act(`Train ${family}`, "POST", "/api/ml/models/", {
      family,
      folds: Number(folds),
      stride: Number(stride),
      ...(names.length ? { symbols: names } : {}),
    });
  };
  return (
    <Panel title="Begin a training" note="On the candles of the database, at low priority, in a process of its own. The bundle is not served by that: push and promote it.">
      <form class="train" onSubmit={begin}>
        <label class="choice">
          <span>Model</span>
          <select value={family} onChange={(e) => setFamily(e.currentTarget.value as (typeof FAMILIES)[number])}>
            {FAMILIES.map((f) => (
              <option key={f}>{f}</option>
            ))}
          </select>
        </label>
        <label class="choice">
          <span>Symbols</span>
          <input value={symbols} placeholder="all" onInput={(e) => setSymbols(e.currentTarget.value)} />
        </label>
        <label class="choice">
          <span>Folds</span>
          <input type="number" min="1" max="20" value={folds} onInput={(e) => setFolds(e.currentTarget.value)} />
        </label>
        <label class="choice">
          <span>Every n-th candle</span>
          <input type="number" min="1" max="10000" value={stride} onInput={(e) => setStride(e.currentTarget.value)} />
        </label>
        <button type="submit">Train</button>
      </form>
      {!token.get() && <Empty>Needs the admin's token.</Empty>}
    </Panel>
  );
}
