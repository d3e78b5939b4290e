// The table of what happens, for administrators: fed by server-sent events, bounded, newest first.
const most = 200;
const rows = document.getElementById("events");
const halt = document.getElementById("halt");
const held = [];

const two = (n) => String(n).padStart(2, "0");
function clock(text) {
  const t = new Date(text);
  return `${two(t.getHours())}:${two(t.getMinutes())}:${two(t.getSeconds())}`;
}

// row makes text of whatever came: nothing is ever read as markup.
function row(...texts) {
  const tr = document.createElement("tr");
  for (const text of texts) {
    const td = document.createElement("td");
    td.textContent = text ?? "";
    tr.append(td);
  }
  return tr;
}

function show(tr) {
  rows.prepend(tr);
  while (rows.rows.length > most) rows.deleteRow(-1);
}

function add(tr) {
  if (halt.getAttribute("aria-pressed") === "false") return show(tr);
  held.push(tr);
  if (held.length > most) held.shift();
}

halt.hidden = false;
halt.addEventListener("click", () => {
  const now = halt.getAttribute("aria-pressed") === "false";
  halt.setAttribute("aria-pressed", String(now));
  if (!now) held.splice(0).forEach(show);
});

const stream = new EventSource(document.getElementById("feed").dataset.events);
stream.addEventListener("happened", (e) => {
  const v = JSON.parse(e.data);
  const what = v.kind === "status" ? `status ${v.status ?? "offline"}` : v.kind;
  add(row(clock(v.time), what, v.email, v.device, v.appid, v.detail, v.by));
});
stream.addEventListener("lost", (e) => add(row("", `${e.data} more, not shown`)));
