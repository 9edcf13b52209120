// The candle chart: TradingView's library, and on it what candlecast said: signals, their stop and take, what became of them.
import {
  CandlestickSeries,
  ColorType,
  createChart,
  createSeriesMarkers,
  type IChartApi,
  type ISeriesApi,
  type ISeriesPrimitive,
  type IPrimitivePaneView,
  type SeriesAttachedParameter,
  type SeriesMarker,
  type Time,
  type UTCTimestamp,
} from "lightweight-charts";

export interface Level {
  from: number; // ms
  to: number;
  entry: number;
  stop: number;
  take: number;
  faint: boolean; // not a signal: what would have been
  ended: "STOP" | "TAKE" | "TIME" | null;
}

export interface Mark {
  at: number; // open of the candle, ms
  side: "LONG" | "SHORT";
  text: string;
}

export interface Drawn {
  candles: number[][]; // open time, open, high, low, close, volume
  marks: Mark[];
  levels: Level[];
}

const color = (name: string) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const seconds = (ms: number) => (ms / 1000) as UTCTimestamp;

/** Draws each signal's stop and take as two lines from its close on, and its entry between them. */
class Levels implements ISeriesPrimitive<Time> {
  levels: Level[] = [];
  private chart: IChartApi | null = null;
  private series: ISeriesApi<"Candlestick"> | null = null;
  private redraw = () => {};

  attached({ chart, series, requestUpdate }: SeriesAttachedParameter<Time>) {
    this.chart = chart as IChartApi;
    this.series = series as ISeriesApi<"Candlestick">;
    this.redraw = requestUpdate;
  }

  show(levels: Level[]) {
    this.levels = levels;
    this.redraw();
  }

  paneViews(): readonly IPrimitivePaneView[] {
    return [{ zOrder: () => "bottom", renderer: () => ({ draw: (target) => this.draw(target) }) }];
  }

  private draw(target: Parameters<NonNullable<ReturnType<IPrimitivePaneView["renderer"]>>["draw"]>[0]) {
    const { chart, series } = this;
    if (!chart || !series) return;
    const long = color("--long");
    const short = color("--short");
    const muted = color("--muted");
    target.useMediaCoordinateSpace(({ context: c, mediaSize }) => {
      const scale = chart.timeScale();
      const width = scale.options().barSpacing;
      for (const level of this.levels) {
        const x0 = scale.timeToCoordinate(seconds(level.from));
        if (x0 === null) continue;
        const known = scale.timeToCoordinate(seconds(level.to));
        const x1 = known ?? Math.min(x0 + 16 * width, mediaSize.width);
        const [entry, stop, take] = [level.entry, level.stop, level.take].map((p) => series.priceToCoordinate(p));
        if (entry == null || stop == null || take == null) continue;
        c.globalAlpha = level.faint ? 0.06 : 0.12;
        c.fillStyle = long;
        c.fillRect(x0, Math.min(entry, take), x1 - x0, Math.abs(take - entry));
        c.fillStyle = short;
        c.fillRect(x0, Math.min(entry, stop), x1 - x0, Math.abs(stop - entry));
        c.globalAlpha = level.faint ? 0.5 : 0.9;
        for (const [y, stroke, dash] of [[take, long, []], [stop, short, []], [entry, muted, [3, 3]]] as const) {
          c.strokeStyle = stroke;
          c.setLineDash([...dash]);
          c.beginPath();
          c.moveTo(x0, y);
          c.lineTo(x1, y);
          c.stroke();
        }
        c.setLineDash([]);
        if (level.ended === "STOP" || level.ended === "TAKE") {
          const y = level.ended === "STOP" ? stop : take;
          c.fillStyle = level.ended === "STOP" ? short : long;
          c.beginPath();
          c.arc(x1, y, 3.5, 0, 2 * Math.PI);
          c.fill();
        }
        c.globalAlpha = 1;
      }
    });
  }
}

export class Candles {
  private chart: IChartApi;
  private series: ISeriesApi<"Candlestick">;
  private levels = new Levels();
  private markers;
  private fitted = "";
  private pointing = 0;

  constructor(box: HTMLElement, picked: (ms: number) => void) {
    this.chart = createChart(box, {
      autoSize: true,
      layout: { attributionLogo: true, fontFamily: "inherit" },
      timeScale: { timeVisible: true, secondsVisible: false, rightOffset: 4 },
      rightPriceScale: { borderVisible: false },
    });
    this.series = this.chart.addSeries(CandlestickSeries, { borderVisible: false });
    this.series.attachPrimitive(this.levels);
    this.markers = createSeriesMarkers(this.series, []);
    this.chart.subscribeClick((event) => event.time !== undefined && picked(Number(event.time) * 1000));
    this.paint();
  }

  paint() {
    const grid = { color: color("--line") };
    this.chart.applyOptions({
      layout: { background: { type: ColorType.Solid, color: "transparent" }, textColor: color("--muted") },
      grid: { vertLines: grid, horzLines: grid },
      timeScale: { borderColor: color("--line") },
    });
    const [up, down] = [color("--long"), color("--short")];
    this.series.applyOptions({ upColor: up, downColor: down, wickUpColor: up, wickDownColor: down });
  }

  show(drawn: Drawn, name: string) {
    const last = drawn.candles.at(-1)?.[4] ?? 1;
    const precision = last >= 1000 ? 2 : last >= 1 ? 4 : 8;
    this.series.applyOptions({ priceFormat: { type: "price", precision, minMove: 10 ** -precision } });
    this.series.setData(
      drawn.candles.map(([t, open, high, low, close]) => ({ time: seconds(t!), open: open!, high: high!, low: low!, close: close! })),
    );
    this.markers.setMarkers(
      drawn.marks.map(
        ({ at, side, text }): SeriesMarker<Time> => ({
          time: seconds(at),
          position: side === "LONG" ? "belowBar" : "aboveBar",
          shape: side === "LONG" ? "arrowUp" : "arrowDown",
          color: color(side === "LONG" ? "--long" : "--short"),
          text,
        }),
      ),
    );
    this.levels.show(drawn.levels);
    if (this.fitted !== name) {
      this.chart.timeScale().setVisibleLogicalRange({ from: Math.max(0, drawn.candles.length - 120), to: drawn.candles.length + 4 });
      this.fitted = name;
    }
  }

  /** Mark a candle, once the chart stands where it will. */
  point(ms: number) {
    cancelAnimationFrame(this.pointing);
    this.pointing = requestAnimationFrame(() => this.chart.setCrosshairPosition(Number.NaN, seconds(ms), this.series));
  }

  remove() {
    cancelAnimationFrame(this.pointing);
    this.chart.remove();
  }
}
