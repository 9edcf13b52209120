// The frame: navigation, how the parts are, theme, keys; and which page the address names.
import { render, type ComponentType } from "preact";
import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import { duration, time } from "./format";
import { begin, useLink, type Link as State } from "./live";
import { Now } from "./pages/now";
import { go, Link, Loading, Trouble } from "./ui";
import { Problem } from "./api";

const PAGES = [
  ["", "Now", () => Promise.resolve({ Page: Now })],
  ["symbol", "Symbol", () => import("./pages/symbol")],
  ["accuracy", "Accuracy", () => import("./pages/accuracy")],
  ["strategies", "Strategies", () => import("./pages/strategies")],
  ["models", "Models", () => import("./pages/models")],
  ["features", "Features", () => import("./pages/features")],
  ["system", "System", () => import("./pages/system")],
] as const satisfies readonly (readonly [string, string, () => Promise<{ Page: ComponentType }>])[];

const here = () => location.pathname.replace(/^\/ml\/?/, "").replace(/\/$/, "");

function useAddress() {
  const [address, setAddress] = useState(here() + location.search);
  useLayoutEffect(() => {
    const moved = () => setAddress(here() + location.search);
    addEventListener("popstate", moved);
    return () => removeEventListener("popstate", moved);
  }, []);
  return address;
}

/** In one word and one sentence how things are; the worst first. */
function judged({ open, status }: State): [string, string, string] {
  if (!open || !status) return status ? ["bad", "Disconnected", "The dashboard's server does not answer; trying again."] : ["", "Connecting", ""];
  if (status.database === "AWAY") return ["bad", "Database away", status.trouble ?? ""];
  if (status.server === "UNREACHABLE") return ["bad", "Server away", "The forecasting server does not answer: no new forecasts come."];
  if (status.server === "NOT_SERVING") return ["bad", "Server not ready", "Its canary forecast fails: no new forecasts come."];
  if (status.feed === "DOWN") return ["bad", "Feed down", status.trouble ?? ""];
  if (status.newest_close_ms === null) return ["warn", "No forecasts yet", "Send candles, for example by candlecast replay."];
  const age = (status.time_ms - status.newest_close_ms) / 1000;
  if (age > 1800 && status.per_minute === 0) return ["warn", "Quiet", `The newest candle closed ${duration(age)} ago (${time(status.newest_close_ms)} UTC).`];
  return ["good", "Live", `${status.per_minute.toLocaleString("en-US")} forecasts in the last minute.`];
}

function Health() {
  const link = useLink();
  const [kind, word, why] = judged(link);
  return (
    <div class={`health ${kind}`} role="status" title={why}>
      <span class="dot" aria-hidden="true" /> {word}
      {kind === "bad" && <span class="why">{why}</span>}
    </div>
  );
}

function toggleTheme() {
  const root = document.documentElement;
  root.dataset.theme = root.dataset.theme === "dark" ? "light" : "dark";
  localStorage.setItem("theme", root.dataset.theme);
  dispatchEvent(new Event("theme"));
}

function useKeys(help: { current: HTMLDialogElement | null }) {
  useLayoutEffect(() => {
    const pressed = (event: KeyboardEvent) => {
      const target = event.target as HTMLElement;
      if (event.metaKey || event.ctrlKey || event.altKey) return;
      if (/^(INPUT|SELECT|TEXTAREA)$/.test(target.tagName)) {
        if (event.key === "Escape") target.blur();
        return;
      }
      const number = Number(event.key);
      if (number >= 1 && number <= PAGES.length) go(`/ml/${PAGES[number - 1]![0]}`);
      else if (event.key === "/") document.querySelector<HTMLInputElement>("input[type=search]")?.focus();
      else if (event.key === "t") toggleTheme();
      else if (event.key === "?") help.current?.showModal();
      else return;
      event.preventDefault();
    };
    addEventListener("keydown", pressed);
    return () => removeEventListener("keydown", pressed);
  }, []);
}

const PATIENCE_MS = 600;

/** Show a page once its first answers are there, all at once, so that nothing jumps; or what there is, after a while. */
function reveal(main: HTMLElement) {
  const begun = performance.now();
  let frame = 0;
  main.classList.add("settling");
  const look = () => {
    if (main.querySelector(".loading") && performance.now() - begun < PATIENCE_MS) frame = requestAnimationFrame(look);
    else main.classList.remove("settling");
  };
  frame = requestAnimationFrame(look);
  return () => cancelAnimationFrame(frame);
}

function App() {
  const address = useAddress();
  const name = address.split("?")[0]!;
  const help = useRef<HTMLDialogElement>(null);
  const [loaded, setLoaded] = useState<{ name: string; Page: ComponentType } | null>(name === "" ? { name: "", Page: Now } : null);
  const [problem, setProblem] = useState<Problem | null>(null);
  const main = useRef<HTMLElement>(null);
  useKeys(help);
  useLayoutEffect(() => reveal(main.current!), [loaded, problem]);
  useEffect(() => {
    const page = PAGES.find(([path]) => path === name);
    document.title = `${page?.[1] ?? "Not found"} · candlecast`;
    setProblem(null);
    if (!page) {
      setProblem(new Problem(404, "NOT_FOUND", "There is no such page."));
      return;
    }
    page[2]().then(
      ({ Page }) => setLoaded({ name, Page }),
      () => setProblem(new Problem(0, "DISCONNECTED", "This page could not be loaded: reload when candlecast runs.")),
    );
  }, [name]);
  return (
    <>
      <a class="skip" href="#main">
        Skip to the page
      </a>
      <header class="top">
        <Link class="brand" href="/ml/">
          candlecast
        </Link>
        <nav aria-label="Pages">
          {PAGES.map(([path, title]) => (
            <Link key={path} href={`/ml/${path}`} aria-current={path === name ? "page" : undefined}>
              {title}
            </Link>
          ))}
        </nav>
        <Health />
        <button type="button" class="plain" onClick={toggleTheme} aria-label="Dark or light" title="Dark or light (t)">
          ◐
        </button>
        <button type="button" class="plain" onClick={() => help.current?.showModal()} aria-label="Keys" title="Keys (?)">
          ?
        </button>
      </header>
      <main id="main" tabIndex={-1} ref={main}>
        {problem ? <Trouble problem={problem} /> : loaded?.name === name ? <loaded.Page /> : <Loading />}
      </main>
      <footer>
        Times are UTC. Charts: <a href="https://www.tradingview.com/">TradingView</a> Lightweight Charts™ and uPlot ·{" "}
        <a href="/ml/static/licenses.txt">licences</a> · <a href="/docs">API</a>
      </footer>
      <dialog ref={help} aria-label="Keys">
        <h2>Keys</h2>
        <table>
          <tbody>
            {[
              ["1 – 7", "the pages, in their order"],
              ["/", "search"],
              ["← →", "on Symbol: the forecast before, the one after"],
              ["t", "dark or light"],
              ["Esc", "leave a field, close this"],
            ].map(([key, what]) => (
              <tr key={key}>
                <th scope="row">
                  <kbd>{key}</kbd>
                </th>
                <td>{what}</td>
              </tr>
            ))}
          </tbody>
        </table>
        <form method="dialog">
          <button>Close</button>
        </form>
      </dialog>
    </>
  );
}

begin();
render(<App />, document.getElementById("app")!);
