// Series over time or over anything else, by uPlot: colours of the theme, its own height, a sentence for who sees no picture.
import { useEffect, useRef } from "preact/hooks";
import uPlot from "uplot";
import { time } from "./format";

export interface Line {
  label: string;
  values: (number | null)[];
  color?: string; // a custom property of the style, such as --long
  kind?: "line" | "bars" | "points";
  dash?: number[];
  width?: number;
  fill?: boolean;
}

const COLORS = ["--c1", "--c2", "--c3", "--c4", "--c5", "--c6", "--c7", "--c8"];
const color = (name: string) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

/** How a time reads on an axis with so many seconds between ticks; UTC, 24 hours. */
const moment = (step: number) => (seconds: number) => {
  const text = new Date(seconds * 1000).toISOString();
  if (step >= 86_400 * 28) return text.slice(0, 7);
  return step >= 86_400 || text.slice(11, 16) === "00:00" ? text.slice(5, 10) : text.slice(11, 16);
};

export function Chart(props: {
  label: string; // what it shows, in a sentence
  x: number[]; // ms, or numbers when plain
  lines: Line[];
  height?: number;
  plain?: boolean;
  range?: [number, number];
  xRange?: [number, number];
  format?: (value: number) => string;
  formatX?: (value: number) => string;
  legend?: boolean;
}) {
  const box = useRef<HTMLDivElement>(null);
  const { height = 220, plain = false } = props;
  const format = props.format ?? ((v: number) => String(Math.round(v * 1000) / 1000));
  const key = JSON.stringify([props.x, props.lines, props.range, props.xRange, plain, height]);
  useEffect(() => {
    const element = box.current!;
    let plot: uPlot | null = null;
    const draw = () => {
      plot?.destroy();
      const axis = { stroke: color("--muted"), grid: { stroke: color("--line"), width: 1 }, ticks: { stroke: color("--line"), width: 1 } };
      const formatX = props.formatX;
      // A single moment has no range of its own: an hour to either side.
      const alone = !plain && props.x.length === 1 ? props.x[0]! / 1000 : null;
      const xRange: [number, number] | undefined = props.xRange ?? (alone === null ? undefined : [alone - 3600, alone + 3600]);
      const options: uPlot.Options = {
        width: element.clientWidth,
        height,
        tzDate: (s) => uPlot.tzDate(new Date(s * 1000), "UTC"),
        legend: { show: props.legend ?? props.lines.length > 1, live: true },
        cursor: { points: { size: 6 } },
        scales: {
          x: { time: !plain, ...(xRange ? { range: () => xRange } : {}) },
          y: props.range ? { range: () => props.range! } : {},
        },
        axes: [
          { ...axis, space: plain ? 50 : 70, values: (_: uPlot, ticks: number[], __: number, ___: number, step: number) => ticks.map(plain ? (formatX ?? String) : moment(step)) },
          { ...axis, size: 64, values: (_: uPlot, ticks: number[]) => ticks.map(format) },
        ],
        series: [
          { value: (_: uPlot, v: number | null) => (v === null ? "–" : plain ? (formatX?.(v) ?? String(v)) : time(v * 1000)) },
          ...props.lines.map((line, i): uPlot.Series => {
            const stroke = color(line.color ?? COLORS[i % COLORS.length]!);
            return {
              label: line.label,
              stroke,
              width: line.kind === "points" ? 0 : (line.width ?? 1.5),
              ...(line.dash ? { dash: line.dash } : {}),
              ...(line.fill || line.kind === "bars" ? { fill: `${stroke}40` } : {}),
              ...(line.kind === "bars" ? { paths: uPlot.paths.bars!({ size: [0.8, 60] }) } : {}),
              points: { show: line.kind === "points" || (line.kind !== "bars" && props.x.length < 3), size: 7, fill: stroke },
              value: (_: uPlot, v: number | null) => (v === null || v === undefined ? "–" : format(v)),
            };
          }),
        ],
      };
      const x = plain ? props.x : props.x.map((ms) => ms / 1000);
      plot = new uPlot(options, [x, ...props.lines.map((line) => line.values)] as uPlot.AlignedData, element);
    };
    draw();
    const sized = new ResizeObserver(() => plot && element.clientWidth !== plot.width && plot.setSize({ width: element.clientWidth, height }));
    sized.observe(element);
    addEventListener("theme", draw);
    return () => {
      sized.disconnect();
      removeEventListener("theme", draw);
      plot?.destroy();
    };
  }, [key]);
  const legend = props.legend ?? props.lines.length > 1;
  return <div ref={box} class="chart" role="img" aria-label={props.label} style={{ minHeight: `${height + (legend ? 28 : 0)}px` }} />;
}
