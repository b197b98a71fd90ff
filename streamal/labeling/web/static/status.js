// The status page. Figures come as server-sent events; every value goes into a text node.
"use strict";
(() => {
  const byId = (id) => document.getElementById(id);
  const percent = (v, digits = 1) => (v === null || v === undefined ? "–" : `${(100 * v).toFixed(digits)} %`);
  const whole = (v) => (v === null || v === undefined ? "–" : Math.round(v).toLocaleString("en"));
  const when = (at) => new Date(1000 * at).toLocaleString([], { dateStyle: "short", timeStyle: "medium" });
  function span(s) {
    if (s === null || s === undefined) return "–";
    if (s < 90) return `${s.toFixed(s < 10 ? 1 : 0)} s`;
    if (s < 5400) return `${(s / 60).toFixed(0)} min`;
    return s < 129600 ? `${(s / 3600).toFixed(1)} h` : `${(s / 86400).toFixed(1)} d`;
  }
  function tile(name, value, more = "") {
    const box = document.createElement("div"), dt = document.createElement("dt"), dd = document.createElement("dd");
    dt.textContent = name;
    dd.textContent = value;
    if (more) { const small = document.createElement("small"); small.textContent = more; dd.append(small); }
    box.append(dt, dd);
    return box;
  }
  function rows(table, lines) {
    table.tBodies[0].replaceChildren(...lines.map((line) => {
      const tr = document.createElement("tr");
      tr.append(...line.map((text) => { const td = document.createElement("td"); td.textContent = text; return td; }));
      return tr;
    }));
  }
  function daemonTile(daemon) {
    if (!daemon) return tile("daemon", "not reached", "admin port (section server)");
    const version = daemon.figures.streamal_model_version;
    return tile("daemon", daemon.ready ? "running" : "starting", `version ${whole(version)}, ${whole(daemon.figures.streamal_lag_events)} events wait`);
  }
  function tiles(status) {
    const f = status.figures, queue = status.queue;
    const interval = f.quality_accuracy === undefined ? "" : `95 %: ${percent(f.quality_accuracy_low)} to ${percent(f.quality_accuracy_high)}`;
    const asked = status.requests.audit + status.requests.strategy;
    const alarms = [];
    if (f.mute_partitions) alarms.push(`${f.mute_partitions} partitions mute`);
    if (f.requests_over_budget) alarms.push(`${f.requests_over_budget} requests over budget`);
    byId("tiles").replaceChildren(
      tile("accuracy", percent(f.quality_accuracy), interval),
      tile("naive, biased", percent(f.quality_accuracy_naive), "among the labels bought: do not use"),
      tile("asked", percent(f.budget_spent_ratio, 2), `of ${percent(status.budget.share, 0)} and the burst; ${whole(asked)} of ${whole(status.events)} events`),
      tile("spent", `${(f.spend ?? 0).toFixed(2)} ${status.budget.currency}`, `${(f.spend_reserved ?? 0).toFixed(2)} of it reserved`),
      tile("queue", `${whole(queue.waiting)} waiting`, `${whole(queue.leased)} leased, oldest ${span(f.oldest_open_request_seconds)}`),
      tile("label delay", span(status.delays.median), `9 of 10 within ${span(status.delays.p90)}`),
      tile("unanswered", percent(f.unanswered_ratio), "the estimate cannot see them"),
      daemonTile(status.daemon),
      tile("alarms", alarms.length ? alarms.join(", ") : "none"),
    );
  }
  function show(status) {
    byId("trouble").hidden = !status.queue.trouble;
    byId("trouble").textContent = status.queue.trouble;
    tiles(status);
    const f = status.figures, points = status.curve.map((p) => ({ ...p, x: p.labels })), last = points[points.length - 1];
    const summary = last ? `Accuracy ${percent(last.value)} after ${last.labels} labels, interval ${percent(last.low)} to ${percent(last.high)}, naive ${percent(last.naive)}` : "No labels yet";
    byId("curve").replaceChildren(chart.curve(points, status.drift.map((mark) => mark.labels), `${summary}; ${status.drift.length} changes.`));
    const share = status.budget.share, most = 1.25 * Math.max(share, f.budget_spent_ratio ?? 0);
    const budget = [{ name: "share of events", part: (f.budget_spent_ratio ?? 0) / most, limit: share / most, text: `${percent(f.budget_spent_ratio)} of ${percent(share, 0)}` }];
    for (const [name, cap] of Object.entries(status.budget.caps)) {
      const left = f[`budget_left_${name}`];
      if (left !== undefined) budget.push({ name: name.replace("requests_", "asked this ").replace("cost_", "money this "), part: 1 - left / cap, limit: 1, text: `${+(cap - left).toFixed(2)} of ${cap}` });
    }
    byId("budget").replaceChildren(chart.bars(budget, `Budget: ${budget.map((row) => `${row.name} ${row.text}`).join(", ")}`));
    const names = [...status.delays.edges.map((edge) => `≤${edge < 60 ? `${edge}s` : edge < 3600 ? `${edge / 60}m` : edge < 86400 ? `${edge / 3600}h` : `${edge / 86400}d`}`), "more"];
    byId("delays").replaceChildren(chart.columns(names, status.delays.counts, `Delays of the last labels: median ${span(status.delays.median)}`));
    byId("recalls").replaceChildren(chart.bars(
      Object.entries(status.recalls).map(([name, [value, low, high]]) => ({ name, part: value, text: `${percent(value, 0)} (${(100 * low).toFixed(0)}–${(100 * high).toFixed(0)})` })),
      "Recall by class"));
    rows(byId("annotators"), status.annotators.map((a) => [a.name, whole(a.answered), whole(a.abstained), percent(a.agreement, 0), a.seconds === null ? "–" : a.seconds.toFixed(1)]));
    rows(byId("refusals"), status.refusals.map((r) => [when(r.at), r.topic, r.place, r.reason, r.detail]));
  }
  const events = new EventSource(`${document.querySelector('meta[name="root"]').content}/api/live?status=1`);
  events.onmessage = (event) => { show(JSON.parse(event.data)); document.body.dataset.shown = "1"; };
  events.onerror = () => { byId("trouble").hidden = false; byId("trouble").textContent = "Not connected; trying again."; };
})();
