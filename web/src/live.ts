// One WebSocket for a tab: the forecasts a page wants, and how the parts are. SSE would be simpler, but browsers allow six
// of those for a site, over all tabs. A hidden tab lets go after a while and comes back when it is looked at.
import { useEffect, useState } from "preact/hooks";

export interface Row {
  symbol: string;
  interval_ms: number;
  close_time_ms: number;
  model: string;
  version: number;
  state: string;
  gap_filled: boolean;
  degraded: boolean;
  direction: "LONG" | "SHORT" | "NEUTRAL";
  strength: string;
  confidence: number | null;
  quality: number | null;
  edge: number | null;
  stop_loss: number | null;
  take_profit: number | null;
  reasons: string[];
  gate_probability: number | null;
  gate_approved: boolean | null;
  returns: (number | null)[];
  risks: (number | null)[];
  stages_us: number[];
}

export interface Status {
  time_ms: number;
  server: "SERVING" | "NOT_SERVING" | "UNREACHABLE" | "UNKNOWN";
  database: "OK" | "AWAY";
  feed: "LIVE" | "RESTING" | "DOWN";
  trouble: string | null;
  symbols: number;
  newest_close_ms: number | null;
  per_minute: number;
}

export interface Filter {
  symbol?: string[];
  direction?: string[];
  min_confidence?: number;
}

export interface Link {
  open: boolean;
  status: Status | null;
}

const SILENT_MS = 8_000; // the door speaks every 2 s
const HIDDEN_MS = 60_000;
const RETRY_MS_MAX = 10_000;

let socket: WebSocket | null = null;
let filters: Filter[] = [];
let link: Link = { open: false, status: null };
let retries = 0;
let heard = 0;
let retryTimer = 0;
const lookers = new Set<(link: Link) => void>();
const takers = new Set<(rows: Row[]) => void>();

function say(next: Partial<Link>) {
  link = { ...link, ...next };
  for (const looker of lookers) looker(link);
}

function connect() {
  clearTimeout(retryTimer);
  const mine = new WebSocket(`${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/api/ml/live/ws`);
  socket = mine;
  heard = Date.now();
  mine.onopen = () => {
    retries = 0;
    mine.send(JSON.stringify({ any: filters }));
  };
  mine.onmessage = (message) => {
    heard = Date.now();
    const { event, data } = JSON.parse(message.data as string);
    if (event === "status") say({ open: true, status: data as Status });
    else for (const taker of takers) taker(data as Row[]);
  };
  mine.onclose = () => {
    if (socket !== mine) return;
    socket = null;
    say({ open: false });
    if (!document.hidden) retryTimer = setTimeout(connect, Math.min(500 * 2 ** retries++, RETRY_MS_MAX));
  };
}

function drop() {
  const mine = socket;
  socket = null;
  mine?.close();
}

/** Begin; once for a tab. */
export function begin() {
  connect();
  setInterval(() => {
    if (socket && Date.now() - heard > SILENT_MS) {
      drop();
      say({ open: false });
      connect();
    }
  }, 1000);
  let hiding = 0;
  document.addEventListener("visibilitychange", () => {
    clearTimeout(hiding);
    if (document.hidden) hiding = setTimeout(drop, HIDDEN_MS);
    else if (!socket) connect();
  });
}

/** How the connection and the parts are. */
export function useLink(): Link {
  const [state, setState] = useState(link);
  useEffect(() => {
    setState(link);
    lookers.add(setState);
    return () => void lookers.delete(setState);
  }, []);
  return state;
}

/** Have the forecasts that any of the filters takes, while the component is there. */
export function useLive(wanted: Filter[], take: (rows: Row[]) => void) {
  const key = JSON.stringify(wanted);
  useEffect(() => {
    filters = wanted;
    if (socket?.readyState === WebSocket.OPEN) socket.send(JSON.stringify({ any: filters }));
    takers.add(take);
    return () => {
      takers.delete(take);
      filters = [];
    };
  }, [key, take]);
}
