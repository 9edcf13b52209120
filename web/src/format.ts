// Numbers and times as people read them. The API has fractions and milliseconds.
export const DASH = "–";

export const percent = (x: number | null | undefined, digits = 2): string =>
  x === null || x === undefined ? DASH : `${(100 * x).toFixed(digits)} %`;

export const signed = (x: number | null | undefined, digits = 2): string =>
  x === null || x === undefined ? DASH : `${x > 0 ? "+" : x < 0 ? "−" : ""}${Math.abs(100 * x).toFixed(digits)} %`;

export const fixed = (x: number | null | undefined, digits = 3): string =>
  x === null || x === undefined ? DASH : x.toFixed(digits).replace("-", "−");

export const whole = (x: number | null | undefined): string =>
  x === null || x === undefined ? DASH : Math.round(x).toLocaleString("en-US");

export const money = (x: number | null | undefined): string => {
  if (x === null || x === undefined) return DASH;
  const digits = x !== 0 && Math.abs(x) < 10 ? 4 : 2;
  return `${x < 0 ? "−" : ""}${Math.abs(x).toLocaleString("en-US", { maximumFractionDigits: digits, minimumFractionDigits: digits })}`;
};

export const price = (x: number | null | undefined): string => {
  if (x === null || x === undefined) return DASH;
  const digits = x >= 1000 ? 2 : x >= 1 ? 4 : 8;
  return x.toLocaleString("en-US", { maximumFractionDigits: digits });
};

export const micros = (us: number | null | undefined): string => {
  if (us === null || us === undefined) return DASH;
  return us < 1000 ? `${Math.round(us)} µs` : us < 1e6 ? `${(us / 1000).toFixed(1)} ms` : `${(us / 1e6).toFixed(1)} s`;
};

export const interval = (ms: number): string => {
  const minutes = ms / 60_000;
  if (minutes < 1) return `${ms / 1000}s`;
  return minutes < 60 ? `${minutes}m` : minutes < 1440 ? `${minutes / 60}h` : `${minutes / 1440}d`;
};

/** Times are UTC everywhere in candlecast, and here. */
export const time = (ms: number | null | undefined): string =>
  ms === null || ms === undefined ? DASH : new Date(ms).toISOString().slice(0, 16).replace("T", " ");

export const day = (ms: number | null | undefined): string => (ms ? new Date(ms).toISOString().slice(0, 10) : DASH);

export const clock = (ms: number): string => new Date(ms).toISOString().slice(11, 19);

export const duration = (seconds: number | null | undefined): string => {
  if (seconds === null || seconds === undefined) return DASH;
  const s = Math.max(0, Math.round(seconds));
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min`;
  if (s < 172_800) return `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min`;
  return s < 63_072_000 ? `${Math.floor(s / 86_400)} days` : `${Math.floor(s / 31_536_000)} years`;
};
