// What the door answers, and how a page keeps it: loading, there, out of date, or failed; always said as what it is.
import { useEffect, useRef, useState } from "preact/hooks";

export class Problem extends Error {
  constructor(
    readonly status: number,
    readonly reason: string,
    detail: string,
  ) {
    super(detail);
  }
}

export async function ask<T>(url: string, init: RequestInit = {}): Promise<T> {
  let answer: Response;
  try {
    answer = await fetch(url, init);
  } catch (error) {
    if ((error as Error).name === "AbortError") throw error;
    throw new Problem(0, "DISCONNECTED", "the dashboard's own server does not answer: is candlecast running?");
  }
  if (answer.ok) return (await answer.json()) as T;
  const said = await answer.json().catch(() => null);
  throw new Problem(answer.status, said?.reason ?? "ERROR", said?.detail ?? `HTTP ${answer.status}`);
}

export interface Asked<T> {
  data: T | null;
  problem: Problem | null; // with data beside it: the data is from before
  at: number; // when the data came, ms; 0: never
  again: () => void;
}

const WAIT_MS_MAX = 60_000;

/** Ask for a URL now, on change, and every so often; what came last stays until the next comes. */
export function useAsked<T>(url: string | null, everyMs = 30_000): Asked<T> {
  const [state, setState] = useState<{ url: string | null; data: T | null; problem: Problem | null; at: number }>({
    url: null,
    data: null,
    problem: null,
    at: 0,
  });
  const [count, setCount] = useState(0);
  const failures = useRef(0);
  useEffect(() => {
    if (url === null) return;
    const stop = new AbortController();
    let timer = 0;
    const run = async () => {
      try {
        const data = await ask<T>(url, { signal: stop.signal });
        failures.current = 0;
        setState({ url, data, problem: null, at: Date.now() });
      } catch (error) {
        if (stop.signal.aborted) return;
        failures.current += 1;
        const problem = error instanceof Problem ? error : new Problem(0, "ERROR", String(error));
        setState((s) => ({ ...s, url, data: s.url === url ? s.data : null, problem }));
      }
      const pause = failures.current ? Math.min(1000 * 2 ** failures.current, WAIT_MS_MAX) : everyMs;
      timer = setTimeout(() => (document.hidden ? (timer = setTimeout(run, pause)) : run()), pause);
    };
    run();
    return () => {
      stop.abort();
      clearTimeout(timer);
    };
  }, [url, everyMs, count]);
  return { data: state.data, problem: state.problem, at: state.at, again: () => setCount((n) => n + 1) };
}

/** A query string of what is given. */
export function query(values: Record<string, string | number | null | undefined>): string {
  const given = Object.entries(values).filter(([, v]) => v !== null && v !== undefined && v !== "");
  return given.length ? `?${new URLSearchParams(given.map(([k, v]) => [k, String(v)]))}` : "";
}

const TOKEN = "candlecast-admin";
/** The admin's token, kept for this tab alone. */
export const token = {
  get: () => sessionStorage.getItem(TOKEN) ?? "",
  set: (text: string) => sessionStorage.setItem(TOKEN, text),
};

export function send<T>(method: string, url: string, body?: unknown): Promise<T> {
  return ask<T>(url, {
    method,
    headers: { "Content-Type": "application/json", Authorization: `Bearer ${token.get()}` },
    body: body === undefined ? null : JSON.stringify(body),
  });
}
