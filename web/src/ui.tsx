// The pieces every page is made of. A panel says what state its data is in: coming, empty, out of date, or failed.
import type { AnchorHTMLAttributes, ComponentChildren } from "preact";
import type { Asked, Problem } from "./api";
import { clock } from "./format";

export function go(path: string) {
  history.pushState(null, "", path);
  dispatchEvent(new PopStateEvent("popstate"));
}

export function Link(props: AnchorHTMLAttributes & { href: string }) {
  const { href, ...rest } = props;
  const follow = (event: MouseEvent) => {
    if (event.metaKey || event.ctrlKey || event.shiftKey || event.button !== 0) return;
    event.preventDefault();
    go(href);
  };
  return <a href={href} onClick={follow} {...rest} />;
}

export const symbolPath = (symbol: string) => `/ml/symbol?symbol=${encodeURIComponent(symbol)}`;

export function Panel(props: {
  title: string;
  note?: ComponentChildren;
  tools?: ComponentChildren;
  class?: string;
  children: ComponentChildren;
}) {
  return (
    <section class={`panel ${props.class ?? ""}`} aria-label={props.title}>
      <header>
        <h2>{props.title}</h2>
        {props.tools}
      </header>
      {props.note && <p class="note">{props.note}</p>}
      {props.children}
    </section>
  );
}

/** What was asked for, once it is there; else what is in its place, of the same height. */
export function Ask<T>(props: {
  asked: Asked<T>;
  height?: number;
  empty?: (data: T) => ComponentChildren | null | false | undefined;
  children: (data: T) => ComponentChildren;
}) {
  const { asked, height = 160 } = props;
  const style = { minHeight: `${height}px` };
  if (asked.data === null) {
    return (
      <div style={style} class="hold">
        {asked.problem ? <Trouble problem={asked.problem} again={asked.again} /> : <Loading />}
      </div>
    );
  }
  const empty = props.empty?.(asked.data);
  return (
    <div style={style}>
      {asked.problem && <Stale asked={asked} />}
      {empty ? <Empty>{empty}</Empty> : props.children(asked.data)}
    </div>
  );
}

export const Loading = () => (
  <p class="loading" role="status">
    Loading…
  </p>
);

export const Empty = (props: { children: ComponentChildren }) => <div class="empty">{props.children}</div>;

export function Trouble(props: { problem: Problem; again?: () => void }) {
  return (
    <div class="trouble" role="alert">
      <strong>{props.problem.reason.replaceAll("_", " ").toLowerCase()}</strong>
      <p>{props.problem.message}</p>
      {props.again && (
        <button type="button" onClick={props.again}>
          Try again
        </button>
      )}
    </div>
  );
}

export const Stale = (props: { asked: Asked<unknown> }) => (
  <p class="stale" role="status">
    As of {clock(props.asked.at)} UTC; asking again fails: {props.asked.problem?.message}
  </p>
);

export function Stat(props: { label: string; children: ComponentChildren; tone?: string | undefined; note?: ComponentChildren }) {
  return (
    <div class="stat">
      <dt>{props.label}</dt>
      <dd class={props.tone ?? ""}>{props.children}</dd>
      {props.note !== undefined && <dd class="sub">{props.note}</dd>}
    </div>
  );
}

const MARKS: Record<string, string> = { LONG: "▲", SHORT: "▼", NEUTRAL: "◆" };

/** A direction by sign, word and colour: never by colour alone. */
export const Side = (props: { side: string; strength?: string }) => (
  <span class={`side ${props.side.toLowerCase()}`}>
    <span aria-hidden="true">{MARKS[props.side] ?? "◆"}</span> {props.side}
    {props.strength === "STRONG" && <span class="strong"> STRONG</span>}
  </span>
);

export const tone = (x: number | null | undefined) => (x === null || x === undefined || x === 0 ? "" : x > 0 ? "long" : "short");

export const Bar = (props: { share: number; tone?: string }) => (
  <span class="bar" aria-hidden="true">
    <span class={props.tone ?? ""} style={{ width: `${Math.max(0, Math.min(1, props.share)) * 100}%` }} />
  </span>
);

export function Choice<T extends string>(props: {
  label: string;
  value: T;
  options: readonly (readonly [T, string])[];
  pick: (value: T) => void;
}) {
  return (
    <label class="choice">
      <span>{props.label}</span>
      <select value={props.value} onChange={(e) => props.pick(e.currentTarget.value as T)}>
        {props.options.map(([value, text]) => (
          <option key={value} value={value}>
            {text}
          </option>
        ))}
      </select>
    </label>
  );
}

export function Pager(props: { offset: number; limit: number; total: number; move: (offset: number) => void }) {
  const { offset, limit, total } = props;
  const last = Math.min(offset + limit, total);
  return (
    <nav class="pager" aria-label="Pages of the table">
      <button type="button" disabled={offset === 0} onClick={() => props.move(Math.max(0, offset - limit))}>
        ‹ Previous
      </button>
      <span>
        {total ? offset + 1 : 0}–{last} of {total.toLocaleString("en-US")}
      </span>
      <button type="button" disabled={last >= total} onClick={() => props.move(offset + limit)}>
        Next ›
      </button>
    </nav>
  );
}
