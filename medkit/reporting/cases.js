"use strict";
// The table of every case: filtered, sorted, shown page by page, and downloaded.
(() => {
  const holder = document.getElementById("cases-data");
  if (!holder) return;
  const { columns, rows, file } = JSON.parse(holder.textContent);
  const SHOWN = 50;
  const [table, controls, pages, status] = ["table", "controls", "pages", "status"].map((name) => document.getElementById(`cases-${name}`));
  const stage = columns.indexOf("stage"), split = columns.indexOf("split"), name = columns.indexOf("case");
  const texts = rows.map((row) => row.join("\t").toLowerCase());
  const numeric = columns.map((_, i) => rows.every((row) => row[i] === "" || Number.isFinite(Number(row[i]))));
  const state = { column: -1, down: false, first: 0, found: rows.map((_, i) => i) };

  const element = (tag, text, attributes = {}) => {
    const made = document.createElement(tag);
    if (text !== undefined) made.textContent = text;
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    return made;
  };

  const shown = (text, i) => {
    if (!numeric[i] || text === "") return text;
    const value = Number(text);
    return Number.isInteger(value) ? String(value) : String(Number(value.toPrecision(4)));
  };

  // A word of the filter as a test of a row: COLUMN<NUMBER and its like, or text that the row holds.
  const asks = (word) => {
    const parts = /^(.+?)(<=|>=|<|>|=)(-?[\d.]+(?:e-?\d+)?)$/i.exec(word);
    const at = parts ? columns.findIndex((column) => column.toLowerCase() === parts[1].toLowerCase()) : -1;
    if (at < 0) return (i) => texts[i].includes(word.toLowerCase());
    const bound = Number(parts[3]);
    const holds = { "<": (x) => x < bound, ">": (x) => x > bound, "<=": (x) => x <= bound, ">=": (x) => x >= bound, "=": (x) => x === bound }[parts[2]];
    return (i) => rows[i][at] !== "" && holds(Number(rows[i][at]));
  };

  const filter = () => {
    const wanted = controls.elements.filter.value.split(/\s+/).filter(Boolean).map(asks);
    for (const [at, control] of [[stage, controls.elements.stage], [split, controls.elements.split]]) {
      if (control.value) wanted.push((i) => rows[i][at] === control.value);
    }
    state.found = rows.map((_, i) => i).filter((i) => wanted.every((test) => test(i)));
    state.first = 0;
    sort();
  };

  const sort = () => {
    const { column, down } = state;
    const compare = numeric[column] ? (a, b) => Number(a) - Number(b) : (a, b) => a.localeCompare(b, "en", { numeric: true });
    state.found.sort((i, j) => {
      if (column < 0) return i - j;
      const a = rows[i][column], b = rows[j][column];
      if (a === "" || b === "") return (a === "") - (b === "") || i - j; // what has no value comes last
      return (down ? -compare(a, b) : compare(a, b)) || i - j;
    });
    draw();
  };

  const draw = () => {
    const last = Math.min(state.first + SHOWN, state.found.length);
    table.tBodies[0].replaceChildren(...state.found.slice(state.first, last).map((i) => {
      const line = element("tr");
      rows[i].forEach((text, at) => {
        const cell = at === name ? element("th", text, { scope: "row" }) : element("td", shown(text, at));
        if (at === name) Object.assign(cell.dataset, { stage: rows[i][stage], split: rows[i][split], case: text });
        line.append(cell);
      });
      return line;
    }));
    table.tHead.querySelectorAll("th").forEach((head, i) => {
      if (i === state.column) head.setAttribute("aria-sort", state.down ? "descending" : "ascending");
      else head.removeAttribute("aria-sort");
    });
    status.textContent = state.found.length
      ? `Rows ${state.first + 1} to ${last} of ${state.found.length}${state.found.length < rows.length ? `, filtered from ${rows.length}` : ""}.`
      : `No row of ${rows.length} is left by the filter.`;
    pages.hidden = state.found.length <= SHOWN;
    pages.children.previous.disabled = state.first === 0;
    pages.children.next.disabled = last === state.found.length;
    document.dispatchEvent(new Event("medkit:cases"));
  };

  // No text may be taken for a formula by a spreadsheet.
  const cell = (text) => {
    const safe = /^[=+\-@\t\r]/.test(text) && !Number.isFinite(Number(text)) ? `'${text}` : text;
    return /[",\r\n]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
  };

  const download = () => {
    const lines = [columns, ...state.found.map((i) => rows[i])].map((row) => row.map(cell).join(",") + "\n");
    const link = element("a", undefined, { href: URL.createObjectURL(new Blob(lines, { type: "text/csv" })), download: file });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  };

  const heads = element("tr");
  columns.forEach((column, i) => {
    const head = element("th", undefined, { scope: "col" });
    const button = element("button", column, { type: "button" });
    button.addEventListener("click", () => {
      state.down = state.column === i && !state.down;
      state.column = i;
      state.first = 0;
      sort();
    });
    head.append(button);
    heads.append(head);
  });
  table.tHead.append(heads);
  for (const [at, control] of [[stage, controls.elements.stage], [split, controls.elements.split]]) {
    for (const value of new Set(rows.map((row) => row[at]))) control.append(element("option", value, { value }));
    control.addEventListener("change", filter);
  }
  controls.elements.filter.addEventListener("input", filter);
  controls.addEventListener("submit", (event) => event.preventDefault());
  controls.elements.download.addEventListener("click", download);
  for (const [button, step] of [["previous", -SHOWN], ["next", SHOWN]]) {
    pages.children[button].addEventListener("click", () => { state.first += step; draw(); });
  }
  controls.hidden = false;
  draw();
})();
