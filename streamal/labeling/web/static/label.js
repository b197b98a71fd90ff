// The label page. Every value of an event goes into a text node, never into HTML.
"use strict";
(() => {
  const meta = (name) => document.querySelector(`meta[name="${name}"]`).content;
  const byId = (id) => document.getElementById(id);
  const root = meta("root"), csrf = meta("csrf"), undoMs = 1000 * Number(meta("undo-s")), store = `streamal-unsent:${root}${meta("person")}`;
  const KEYS = [...meta("class-keys")], FIND = meta("find-key"), MANY = 12;
  const RENEW_MS = 30000;

  let current = null;      // the question on the screen: {item, shownAt, workedMs}
  let prefetched = null;   // the next item, fetched while the annotator reads the current question
  let pending = null;      // the last answer, which undo can still drop: {answer, question, timer}
  let outbox = load();     // answers to send; they outlive a reload and an outage of the server
  let sending = false, asking = false, again = false, classes = [], classesShown = "", pace = [];

  function load() {
    try { return JSON.parse(localStorage.getItem(store)) || []; } catch { return []; }
  }
  function save() {
    try {
      localStorage.setItem(store, JSON.stringify(pending ? [...outbox, pending.answer] : outbox));
    } catch { /* private mode: answers live as long as the page */ }
  }
  async function post(path, body, keepalive = false) {
    const answer = await fetch(root + path, {
      method: "POST", body: JSON.stringify(body), keepalive,
      headers: { "Content-Type": "application/json", "X-CSRF-Token": csrf },
    });
    const result = await answer.json().catch(() => ({}));
    if (answer.status === 401) { location.assign(`${root}/login`); }
    if (answer.status === 403) { reloadOnce(); }
    return { status: answer.status, result };
  }
  function reloadOnce() { // after a new login the page needs the new CSRF token
    const last = Number(sessionStorage.getItem("streamal-reloaded") || 0);
    if (Date.now() - last > 10000) { sessionStorage.setItem("streamal-reloaded", String(Date.now())); location.reload(); }
  }
  const say = (text) => { byId("said").textContent = text; };
  function trouble(text) {
    byId("trouble").hidden = !text;
    if (byId("trouble").textContent !== text) byId("trouble").textContent = text;
  }
  const identity = () => [...crypto.getRandomValues(new Uint8Array(12))].map((b) => b.toString(16).padStart(2, "0")).join("");

  // questions

  const busy = () => [
    ...outbox.map((answer) => answer.request), ...(pending ? [pending.answer.request] : []),
  ];
  async function fetchNext(without) {
    const { status, result } = await post("/api/next", { without: without.slice(-10) });
    if (status !== 200) throw new Error(result.error || `the server answered ${status}`);
    showSurroundings(result);
    return result.item;
  }
  // One call at a time fetches questions; a call that comes meanwhile makes the loop run once more.
  async function advance() {
    if (asking) { again = true; return; }
    asking = true;
    try {
      do {
        again = false;
        if (!current) {
          const item = prefetched || await fetchNext(busy());
          prefetched = null;
          show(item && !busy().includes(item.request) ? { item, workedMs: 0 } : null);
        }
        if (current && !prefetched) {
          const item = await fetchNext([...busy(), current.item.request]);
          const taken = [...busy(), ...(current ? [current.item.request] : [])];
          prefetched = item && !taken.includes(item.request) ? item : null;
        }
      } while (again);
    } catch (error) { trouble(`Not connected: ${error.message}`); setTimeout(advance, 2000); } finally { asking = false; }
  }
  function show(question) {
    current = question;
    byId("question").hidden = byId("answers").hidden = !question;
    byId("nothing").hidden = Boolean(question);
    if (!question) return;
    question.shownAt = performance.now();
    const { item } = question;
    const facts = [`event ${item.request}`];
    if (item.id !== null) facts.push(`id ${item.id}`);
    if (item.time !== null) facts.push(`time ${item.time}`);
    if (item.guess) facts.push(`the model predicts ${item.guess}`);
    byId("facts").textContent = facts.join(" · ");
    byId("parts").replaceChildren(...item.parts.map(part));
    byId("features").hidden = !item.table.length;
    byId("features").tBodies[0].replaceChildren(...item.table.map(row));
  }
  function part({ name, kind, text }) {
    const box = document.createElement("div"), title = document.createElement("h3");
    box.className = "part";
    title.textContent = name;
    let body;
    if (kind === "image") {
      body = document.createElement("img");
      body.alt = name;
      body.referrerPolicy = "no-referrer";
      body.src = text;
    } else {
      body = document.createElement("p");
      body.tabIndex = text.length > 1500 ? 0 : -1; // a text that scrolls has to be reachable by keyboard
      if (kind === "link") {
        const link = document.createElement("a");
        link.href = text;
        link.rel = "noopener noreferrer";
        link.target = "_blank";
        link.textContent = text;
        body.append(link);
      } else body.textContent = text;
    }
    box.append(title, body);
    return box;
  }
  function row([name, value]) {
    const line = document.createElement("tr"), head = document.createElement("th"), cell = document.createElement("td");
    head.scope = "row";
    head.textContent = name;
    cell.textContent = value;
    line.append(head, cell);
    return line;
  }

  // answers

  function decide(what, name) {
    if (!current) return;
    const answer = { request: current.item.request, ...what, seconds: Math.round(worked() / 100) / 10, reply: identity() };
    pace = [...pace.slice(-49), answer.seconds];
    if (pending) sendPending();
    pending = { answer, question: current, timer: 0 };
    if (undoMs) {
      pending.timer = setTimeout(sendPending, undoMs);
      say(`${name}. Undo with U.`);
    } else say(`${name}.`);
    byId("undo").disabled = !undoMs;
    save();
    clearFind();
    if (!undoMs) sendPending();
    show(null);
    advance();
  }
  function sendPending() { // move the pending answer to the outbox
    if (!pending) return;
    clearTimeout(pending.timer);
    outbox.push(pending.answer);
    pending = null;
    byId("undo").disabled = true;
    save();
    send();
  }
  async function send() {
    if (sending) return;
    sending = true;
    let wait = 500;
    while (outbox.length) {
      const answer = outbox[0];
      try {
        const { status, result } = await post("/api/labels", answer);
        if (status === 503 || status === 401 || status === 403 || status === 429) throw new Error(result.error);
        outbox.shift();
        save();
        wait = 500;
        trouble("");
        if (status !== 200) say(`Refused: ${result.error || status}`);
        else if (result.agrees !== null && result.guess !== null) say(result.agrees ? `The model agrees: ${result.guess}.` : `The model predicted ${result.guess}.`);
      } catch (error) {
        trouble(`Not connected; ${outbox.length} of your answers wait here and will be sent. ${error.message}`);
        await new Promise((resolve) => setTimeout(resolve, wait));
        wait = Math.min(2 * wait, 15000);
      }
    }
    sending = false;
  }
  function undo() {
    if (!pending) { say("The last answer is sent already."); return; }
    clearTimeout(pending.timer);
    if (current) prefetched = current.item;
    const question = pending.question;
    pending = null;
    byId("undo").disabled = true;
    save();
    show(question);
    say("Undone: answer again.");
  }
  async function skip() {
    if (!current) return;
    const { request } = current.item;
    show(null);
    say("Skipped.");
    try { await post("/api/skip", { request }); } catch { /* the lease ends by itself */ }
    advance();
  }
  const worked = () => current.workedMs + (document.hidden ? 0 : performance.now() - current.shownAt);

  // what the page shows around the question

  function showSurroundings(surroundings) {
    trouble(surroundings.trouble);
    classes = surroundings.classes;
    const { mine, budget } = surroundings;
    byId("waiting").textContent = surroundings.waiting.toLocaleString("en");
    byId("answered").textContent = (mine.answered + mine.abstained).toLocaleString("en");
    const middle = [...pace].sort((a, b) => a - b)[Math.floor(pace.length / 2)] ?? mine.seconds;
    byId("pace").textContent = middle === null || middle === undefined ? "–" : `${middle.toFixed(1)} s each`;
    byId("agreement").textContent = mine.agreement === null ? "–" : `${(100 * mine.agreement).toFixed(0)} %`;
    byId("budget").textContent = budget.spent === null ? "–" : `${(100 * budget.spent).toFixed(1)} of ${(100 * budget.share).toFixed(0)} %`;
    byId("new-class").hidden = !surroundings.new_classes;
    const key = JSON.stringify(classes);
    if (key !== classesShown) { classesShown = key; showClasses(); }
  }
  function showClasses() {
    byId("classes").replaceChildren(...classes.map(classButton));
    const many = classes.length > MANY;
    byId("find-class").hidden = !many;
    byId("main").classList.toggle("many", many);
    filterClasses();
  }
  // The classes of the buttons that are left: those with the typed text in their name.
  function filterClasses() {
    const typed = byId("find").value.trim().toLowerCase(), left = [];
    [...byId("classes").children].forEach((button, index) => {
      button.hidden = !classes[index].toLowerCase().includes(typed);
      if (!button.hidden) left.push(classes[index]);
    });
    byId("found").textContent = typed ? `${left.length} of ${classes.length}` : "";
    return left;
  }
  function clearFind() {
    byId("find").value = "";
    byId("find").blur();
    filterClasses();
  }
  function chooseFound() { // the class of that very name, else the first that begins with it, else the first
    const typed = byId("find").value.trim().toLowerCase(), left = filterClasses();
    const chosen = left.find((name) => name.toLowerCase() === typed) ?? left.find((name) => name.toLowerCase().startsWith(typed)) ?? left[0];
    if (!typed || chosen === undefined) return;
    decide({ label: chosen }, chosen);
  }
  function classButton(name, index) {
    const button = document.createElement("button");
    const text = document.createElement("span");
    text.textContent = name;
    button.append(text);
    if (index < KEYS.length) {
      const key = document.createElement("kbd");
      key.textContent = KEYS[index].toUpperCase();
      button.append(key);
      button.setAttribute("aria-keyshortcuts", KEYS[index]);
    }
    button.addEventListener("click", () => decide({ label: name }, name));
    return button;
  }
  function key(event) {
    if (event.ctrlKey || event.altKey || event.metaKey || event.repeat) return;
    if (event.target.closest("input, textarea, select")) return;
    const pressed = event.key.toLowerCase();
    const index = KEYS.indexOf(pressed);
    if (pressed === "s") skip();
    else if (pressed === "x") decide({ abstain: true }, "Cannot tell");
    else if (pressed === "u") undo();
    else if (pressed === FIND) { if (!byId("find-class").hidden) byId("find").focus(); }
    else if (pressed === "g") { const pane = byId("guidelines"); if (pane) pane.open = !pane.open; }
    else if (index >= 0 && index < classes.length) decide({ label: classes[index] }, classes[index]);
    else return;
    event.preventDefault();
  }
  async function renewLease() { // renew the lease of somebody who thinks for long, and notice when the question is closed
    if (!current || document.hidden || asking) return;
    asking = true;
    try {
      const { request } = current.item;
      const item = await fetchNext([...busy(), ...(prefetched ? [prefetched.request] : [])]);
      if (current && current.item.request === request && (!item || item.request !== request)) {
        say("The question was closed meanwhile.");
        show(item ? { item, workedMs: 0 } : null);
      }
      if (prefetched && current) prefetched = await fetchNext([...busy(), current.item.request]);
    } catch { /* the event stream shows the trouble */ } finally { asking = false; }
    if (again) advance();
  }

  document.addEventListener("keydown", key);
  byId("skip").addEventListener("click", skip);
  byId("unsure").addEventListener("click", () => decide({ abstain: true }, "Cannot tell"));
  byId("undo").addEventListener("click", undo);
  byId("find").addEventListener("input", filterClasses);
  byId("find").addEventListener("keydown", (event) => { if (event.key === "Escape") clearFind(); });
  byId("find-class").addEventListener("submit", (event) => { event.preventDefault(); chooseFound(); });
  byId("new-class").addEventListener("submit", (event) => {
    event.preventDefault();
    const name = byId("another").value.trim();
    if (!name) return;
    byId("another").value = "";
    byId("another").blur();
    decide({ label: name }, name);
  });
  document.addEventListener("visibilitychange", () => {
    if (!current) return;
    if (document.hidden) current.workedMs += performance.now() - current.shownAt;
    else current.shownAt = performance.now();
  });
  addEventListener("pagehide", () => {
    if (pending) post("/api/labels", pending.answer, true).catch(() => {}); // it is stored as well, and sent again if this request is lost
  });
  const events = new EventSource(`${root}/api/live`);
  events.onmessage = (event) => {
    const surroundings = JSON.parse(event.data);
    showSurroundings(surroundings);
    if (!current && surroundings.waiting) advance();
  };
  events.onerror = () => { trouble("Not connected; trying again."); };
  setInterval(renewLease, RENEW_MS);
  if (outbox.length) send();
  advance();
})();
