"use strict";

// Asks the router every second, and shows its answer. Text from the answer is set as text only.

const TABLES = {
  backends: {
    empty: "no backend has answered yet",
    rows: (status) => status.backends.flatMap(replicas),
    columns: [
      ["Backend", (r) => r.backend],
      ["Replica", (r) => r.address],
      ["State", (r) => r.state, "", (r) => (r.state === "serving" ? "good" : "bad")],
      ["In flight", (r) => (r.state === "unreachable" ? "–" : count(r.in_flight)), "number"],
      // The router itself counts the calls that wait for a replica.
      ["Waiting", (r) => (r.state === "unreachable" && !r.waiting ? "–" : count(r.waiting)), "number"],
      ["", (r) => r.detail],
    ],
  },
  models: {
    empty: "no model was called since the router started",
    rows: (status) => status.models,
    columns: [
      ["Model", (m) => m.model],
      ["In flight", (m) => count(m.in_flight), "number"],
      ["Calls/s", (m) => rate(m.calls_per_s), "number"],
      ["p50", (m) => seconds(m.p50_s), "number"],
      ["p99", (m) => seconds(m.p99_s), "number"],
      ["Tokens in/s", (m) => rate(m.input_per_s), "number"],
      ["Tokens out/s", (m) => rate(m.output_per_s), "number"],
      ["Calls", (m) => count(m.calls), "number"],
      ["Failed", (m) => count(m.failed), "number", (m) => (m.failed ? "bad" : "")],
      ["Cost", (m) => dollars(m.cost_usd), "number"],
    ],
  },
  clients: {
    empty: "no calls with a token",
    rows: (status) => status.clients,
    columns: [
      ["Token", (c) => c.client],
      ["Calls/s", (c) => rate(c.calls_per_s), "number"],
      ["Calls", (c) => count(c.calls), "number"],
      ["Tokens", (c) => count(c.tokens), "number"],
      ["Cost", (c) => dollars(c.cost_usd), "number"],
    ],
  },
};

function replicas(backend) {
  const all = backend.replicas.length;
  const name = all > 1 ? `${backend.backend} (${backend.serving} of ${all})` : backend.backend;
  return backend.replicas.map((replica, place) => ({ ...replica, backend: place ? "" : name }));
}

const count = (n) => Math.round(n).toLocaleString("en");
const rate = (n) => (n ? n.toLocaleString("en", { maximumSignificantDigits: 3 }) : "0");
// As format_dollars of arena_llm.prices does.
const dollars = (n) => "$" + n.toLocaleString("en", n && n < 0.0995
  ? { maximumSignificantDigits: 2 } : { minimumFractionDigits: 2, maximumFractionDigits: 2 });
const seconds = (n) => (n === null ? "–" : n < 1 ? `${Math.round(n * 1000)} ms` : `${n.toFixed(1)} s`);

function cell(tag, text, kind) {
  const element = document.createElement(tag);
  element.textContent = text;
  if (kind) element.className = kind;
  return element;
}

function row(cells) {
  const element = document.createElement("tr");
  element.append(...cells);
  return element;
}

function draw(status) {
  for (const [id, table] of Object.entries(TABLES)) {
    const rows = table.rows(status).map((item) =>
      row(table.columns.map(([, text, kind, mark]) =>
        cell("td", text(item), [kind, mark?.(item)].filter(Boolean).join(" ")))));
    const head = row(table.columns.map(([name, , kind]) => cell("th", name, kind)));
    if (!rows.length) rows.push(row([cell("td", table.empty, "empty")]));
    document.getElementById(id).replaceChildren(head, ...rows);
  }
  const out = status.models.reduce((sum, model) => sum + model.output_per_s, 0);
  const calls = status.models.reduce((sum, model) => sum + model.calls_per_s, 0);
  say(`${count(status.in_flight)} calls in flight · ${rate(calls)} calls/s · ` +
    `${rate(out)} tokens out/s · ${dollars(status.cost_usd)} since the router started`, "");
  const minutes = count(status.uptime_s / 60);
  document.getElementById("note").textContent =
    `Rates and quantiles of the last ${count(status.seconds)} s; sums since the router started, ` +
    `${minutes} ${minutes === "1" ? "minute" : "minutes"} ago.`;
}

function say(text, kind) {
  const summary = document.getElementById("summary");
  summary.textContent = text;
  summary.className = kind;
}

async function refresh() {
  try {
    const answer = await fetch("status.json");
    if (!answer.ok) throw new Error(`it answers ${answer.status}`);
    draw(await answer.json());
  } catch (error) {
    say(`The router cannot be reached: ${error.message}. The figures below are old.`, "lost");
  }
  setTimeout(refresh, document.hidden ? 5000 : 1000);
}

refresh();
