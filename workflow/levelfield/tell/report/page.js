// Draws the charts one after the other, sorts tables, switches cases and the theme. Nothing leaves the page.
const { specs, config } = JSON.parse(document.getElementById("charts").textContent);
const hidden = new Set();
const views = [];
const narrow = window.innerWidth < 640;
config.axis.labelLimit = narrow ? 140 : 260;
config.legend.columns = narrow ? 2 : 4;
config.legend.labelLimit = narrow ? 120 : 300;
config.aria = false;

// Vega stands in the page compressed: without it a page has twice the bytes.
async function loadVega() {
  const packed = Uint8Array.from(atob(document.getElementById("vega").textContent), (letter) => letter.charCodeAt(0));
  const plain = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  const script = document.createElement("script");
  script.type = "module";
  const run = new Promise((done) => window.addEventListener("vega", done, { once: true }));
  script.textContent = `${await new Response(plain).text()}\nwindow.dispatchEvent(new Event("vega"));`;
  document.head.append(script);
  await run;
}

async function draw(id) {
  const { view } = await vegaEmbed(document.getElementById(id), specs[id], {
    config,
    actions: false,
    renderer: "svg",
    tooltip: { theme: "custom" },
  });
  views.push(view);
  if (hidden.size) await view.signal("hidden", [...hidden]).runAsync();
}

async function drawAll() {
  await loadVega();
  for (const id of Object.keys(specs)) {
    await draw(id);
    await new Promise((next) => setTimeout(next)); // lets the reader scroll meanwhile
  }
  document.documentElement.dataset.drawn = "true";
}

function show() {
  for (const view of views) view.signal("hidden", [...hidden]).runAsync();
}

const switches = document.querySelectorAll("#switches input");
for (const box of switches) {
  box.addEventListener("change", () => {
    box.checked ? hidden.delete(box.value) : hidden.add(box.value);
    show();
  });
}
for (const button of document.querySelectorAll("#switches button")) {
  button.addEventListener("click", () => {
    const on = button.dataset.all === "true";
    for (const box of switches) {
      box.checked = on;
      on ? hidden.delete(box.value) : hidden.add(box.value);
    }
    show();
  });
}

// A cell begins with its figure, if it has one: "94.6 ± 0.5", "1.18 [1.15, 1.21]", "3 of 3", "6.0e-08".
function figure(text) {
  const found = /^[-+−]?\d[\d,]*\.?\d*(e[-+]?\d+)?(?![\w-])/i.exec(text);
  return found ? Number(found[0].replaceAll(",", "").replace("−", "-")) : null;
}

function compare(one, other) {
  const [a, b] = [figure(one), figure(other)];
  if (a !== null && b !== null) return a - b;
  if (a !== null || b !== null) return a !== null ? -1 : 1;
  return one.localeCompare(other, "en", { numeric: true });
}

for (const table of document.querySelectorAll("table.sortable")) {
  const headings = [...table.tHead.rows[0].cells];
  headings.forEach((heading, column) => {
    heading.querySelector("button").addEventListener("click", () => {
      const down = heading.getAttribute("aria-sort") === "ascending";
      for (const other of headings) other.setAttribute("aria-sort", "none");
      heading.setAttribute("aria-sort", down ? "descending" : "ascending");
      const body = table.tBodies[0];
      const rows = [...body.rows].map((row) => [row.cells[column].textContent.trim(), row]);
      // what was not measured stays at the end, whichever way the table is sorted
      rows.sort(([a], [b]) => (a === "") - (b === "") || (down ? compare(b, a) : compare(a, b)));
      body.append(...rows.map(([, row]) => row));
    });
  });
}

const button = document.getElementById("theme");
const dark = () => (document.documentElement.dataset.theme ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";
const label = () => button.setAttribute("aria-pressed", String(dark()));
button.addEventListener("click", () => {
  document.documentElement.dataset.theme = dark() ? "light" : "dark";
  label();
});
label();

await drawAll();
