"use strict";
// The viewer: scrolls through the slices of a case, with window, overlay and difference. Pixels are what the pictures
// hold, 8 bits each and without loss; everything else is made of them here.
(() => {
  const holder = document.getElementById("viewer-data");
  if (!holder) return;
  const { cases, pictures } = JSON.parse(holder.textContent);
  const [app, form, canvas, status, legend] = ["app", "form", "canvas", "status", "legend"].map((name) => document.getElementById(`viewer-${name}`));
  const input = form.elements;
  const context = canvas.getContext("2d", { willReadFrequently: true }); // pixels are only put, never drawn
  const LIMITS = { slice: [1, 1], width: [1, 100], level: [0, 100], opacity: [0, 100], gain: [1, 20] };
  const START = { width: 100, level: 50, opacity: 50, gain: 4 };
  const TRUE = [52, 199, 123], SAID = [255, 159, 28], MISSED = [255, 64, 160];
  const VIEWS = {
    image: { name: "image", layers: ["image"] },
    output: { name: "output", layers: ["output"] },
    target: { name: "target", layers: ["target"] },
    reconstruction: { name: "reconstruction", layers: ["reconstruction"] },
    marks: { name: "difference of prediction and truth", layers: ["mask", "mask_probability"] },
    "output-target": { name: "output − target", layers: ["output", "target"] },
    "image-target": { name: "input − target", layers: ["image", "target"] },
    "reconstruction-image": { name: "reconstruction − image", layers: ["reconstruction", "image"] },
  };
  const decoded = new Map();
  let current = cases[0], drawing = 0;

  // All grey values of a picture, decoded once.
  const pixels = (number) => {
    if (!decoded.has(number)) {
      decoded.set(number, (async () => {
        const image = new Image();
        image.src = `data:image/png;base64,${pictures[number]}`;
        await image.decode();
        const sheet = Object.assign(document.createElement("canvas"), { width: image.width, height: image.height });
        const paper = sheet.getContext("2d", { willReadFrequently: true });
        paper.drawImage(image, 0, 0);
        const { data } = paper.getImageData(0, 0, image.width, image.height);
        const grey = new Uint8Array(data.length / 4);
        for (let i = 0; i < grey.length; i++) grey[i] = data[4 * i];
        return { grey, width: image.width };
      })());
    }
    return decoded.get(number);
  };

  // One slice of a layer as a function of the pixel's place, 0 to 255.
  const plane = async (layer, index) => {
    const { width, height, columns } = current;
    const sheet = await pixels(current.layers[layer]);
    const found = new Uint8Array(width * height);
    const left = (index % columns) * width, top = Math.floor(index / columns) * height;
    for (let y = 0; y < height; y++) {
      const start = (top + y) * sheet.width + left;
      found.set(sheet.grey.subarray(start, start + width), y * width);
    }
    return found;
  };

  const has = (layer) => current.layers[layer] !== undefined;
  const number = (name) => Number(input[name].value);
  const blend = (colour, over, share) => colour.map((value, i) => value * share + over[i] * (1 - share));

  const draw = async () => {
    const turn = ++drawing;
    canvas.dataset.asked = turn;
    const index = number("slice") - 1;
    const view = input.view.value;
    const wanted = new Set(["image", ...VIEWS[view].layers, ...["mask", "mask_probability"].filter(has)]);
    const planes = Object.fromEntries(await Promise.all([...wanted].map(async (layer) => [layer, await plane(layer, index)])));
    if (turn !== drawing) return; // another slice has been asked for meanwhile
    const { width, height } = current;
    const low = 255 * (number("level") - number("width") / 2) / 100, span = 255 * number("width") / 100;
    const grey = (value) => { const shown = Math.min(255, Math.max(0, 255 * (value - low) / span)); return [shown, shown, shown]; };
    const share = number("opacity") / 100;
    const [first, second] = VIEWS[view].layers;
    const made = new ImageData(width, height);
    for (let i = 0; i < width * height; i++) {
      const truth = has("mask") && planes.mask[i] > 127, said = has("mask_probability") && planes.mask_probability[i] > 127;
      let colour;
      if (view === "marks") {
        colour = grey(planes.image[i]);
        if (truth || said) colour = blend(truth && said ? TRUE : truth ? MISSED : SAID, colour, share);
      } else if (second) {
        const by = Math.max(-1, Math.min(1, number("gain") * (planes[first][i] - planes[second][i]) / 255));
        colour = by > 0 ? [255, 255 * (1 - by), 255 * (1 - by)] : [255 * (1 + by), 255 * (1 + by), 255];
      } else {
        colour = grey(planes[first][i]);
        if (truth && input.truth.checked) colour = blend(TRUE, colour, share);
        if (said && input.said.checked) colour = blend(SAID, colour, share);
      }
      made.data.set([...colour, 255], 4 * i);
    }
    Object.assign(canvas, { width, height });
    context.putImageData(made, 0, 0);
    tell(index, view);
    canvas.dataset.drawn = turn;
  };

  const tell = (index, view) => {
    const { numbers, depth, probability, told } = current;
    const shown = numbers.length < depth ? `, ${numbers.length} of which are here` : "";
    const parts = [`Slice ${numbers[index]} (0 to ${depth - 1}${shown})`];
    if (probability.length) parts.push(`probability of this slice ${probability[index]}`);
    if (told.length) parts.push(told[told.length > 1 ? index : 0]);
    status.textContent = parts.filter(Boolean).join("; ") + ".";
    canvas.setAttribute("aria-label", `${VIEWS[view].name}, case ${current.case}, slice ${numbers[index]}`);
    const span = current.high - current.low;
    const [from, to] = [number("level") - number("width") / 2, number("level") + number("width") / 2].map((part) => current.low + span * part / 100);
    document.getElementById("viewer-range").textContent = `${Number(from.toPrecision(3))} to ${Number(to.toPrecision(3))}`;
    const colours = { marks: [["green", TRUE, "rightly marked"], ["pink", MISSED, "missed"], ["orange", SAID, "wrongly marked"]] }[view]
      || (VIEWS[view].layers.length > 1 ? [["red", [255, 0, 0], "higher"], ["blue", [0, 0, 255], "lower"]]
        : [["green", TRUE, "truth", "mask"], ["orange", SAID, "prediction", "mask_probability"]].filter((mark) => has(mark[3])));
    legend.replaceChildren(...colours.flatMap(([name, colour, text]) => {
      const spot = document.createElement("span");
      spot.className = "spot";
      spot.style.background = `rgb(${colour})`;
      return [spot, `${name}: ${text}  `];
    }));
  };

  const open = (one, slice) => {
    current = one;
    input.case.value = cases.indexOf(one);
    input.slice.max = one.numbers.length;
    input.slice.disabled = one.numbers.length < 2;
    const near = (z) => one.numbers.reduce((best, at, i) => (Math.abs(at - z) < Math.abs(one.numbers[best] - z) ? i : best), 0);
    input.slice.value = 1 + (slice === undefined ? one.start : near(slice));
    const before = input.view.value;
    input.view.replaceChildren(...Object.entries(VIEWS).filter(([, { layers }]) => layers.every(has)).map(([value, { name }]) => new Option(one.layers.target !== undefined && value === "image" ? "input" : name, value)));
    if (VIEWS[before] && VIEWS[before].layers.every(has)) input.view.value = before;
    for (const [name, layer] of [["truth", "mask"], ["said", "mask_probability"]]) input[name].closest("label").hidden = !has(layer);
    update();
  };

  // What has no effect in this view is not offered.
  const update = () => {
    const pair = VIEWS[input.view.value].layers.length > 1, marks = input.view.value === "marks";
    input.gain.closest("label").hidden = !pair || marks;
    input.opacity.closest("label").hidden = (pair && !marks) || !(has("mask") || has("mask_probability"));
    draw();
  };

  const set = (name, value) => {
    const highest = name === "slice" ? Number(input.slice.max) : LIMITS[name][1];
    input[name].value = Math.min(highest, Math.max(LIMITS[name][0], value));
    draw();
  };

  const step = (by) => set("slice", number("slice") + by);
  const another = (by) => open(cases[(cases.indexOf(current) + by + cases.length) % cases.length]);
  const KEYS = {
    ArrowUp: () => step(1), ArrowRight: () => step(1), ArrowDown: () => step(-1), ArrowLeft: () => step(-1),
    PageUp: () => step(5), PageDown: () => step(-5), Home: () => set("slice", 1), End: () => set("slice", Infinity),
    "+": () => set("width", number("width") + 5), "-": () => set("width", number("width") - 5),
    "]": () => set("level", number("level") + 5), "[": () => set("level", number("level") - 5),
    o: () => set("opacity", number("opacity") ? 0 : START.opacity),
    d: () => { input.view.selectedIndex = (input.view.selectedIndex + 1) % input.view.length; update(); },
    n: () => another(1), p: () => another(-1),
  };
  canvas.addEventListener("keydown", (event) => {
    if (!KEYS[event.key] || event.ctrlKey || event.altKey || event.metaKey) return;
    event.preventDefault();
    KEYS[event.key]();
  });
  canvas.addEventListener("wheel", (event) => {
    if (document.activeElement !== canvas || event.ctrlKey) return; // else the page scrolls
    event.preventDefault();
    step(event.deltaY > 0 ? -1 : 1);
  }, { passive: false });
  let held;
  canvas.addEventListener("pointerdown", (event) => {
    if (event.pointerType !== "mouse") return;
    held = { x: event.clientX, y: event.clientY, width: number("width"), level: number("level") };
    canvas.setPointerCapture(event.pointerId);
  });
  canvas.addEventListener("pointermove", (event) => {
    if (!held) return;
    set("width", held.width + (event.clientX - held.x) / 3);
    set("level", held.level + (held.y - event.clientY) / 3);
  });
  canvas.addEventListener("pointerup", () => { held = undefined; });

  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("input", (event) => {
    if (event.target.name === "case") open(cases[number("case")]);
    else if (event.target.name === "view") update();
    else draw();
  });
  input.reset.addEventListener("click", () => {
    for (const [name, value] of Object.entries(START)) input[name].value = value;
    draw();
  });

  // Cases named elsewhere in the page lead here.
  const place = (name) => { const parts = /^(.*)#(\d+)$/.exec(name); return parts ? [parts[1], Number(parts[2])] : [name]; };
  const find = ({ stage, split, case: name }) => {
    const of = (one) => cases.find((found) => found.stage === stage && found.split === split && found.case === one);
    const [whole, slice] = place(name);
    return of(name) ? [of(name)] : of(whole) ? [of(whole), slice] : undefined;
  };
  const lead = () => {
    for (const element of document.querySelectorAll("[data-case]:not(:has(button))")) {
      const found = find(element.dataset);
      if (!found) continue;
      const button = Object.assign(document.createElement("button"), { type: "button", className: "case", title: "show its slices" });
      button.append(...element.childNodes);
      button.addEventListener("click", () => { open(...found); canvas.focus(); canvas.scrollIntoView({ block: "center" }); });
      element.append(button);
    }
  };

  cases.forEach((one, i) => input.case.append(new Option(`${one.case} · ${one.stage}, ${one.split}`, i)));
  for (const [name, value] of Object.entries(START)) input[name].value = value;
  document.addEventListener("medkit:cases", lead);
  app.hidden = false;
  open(current);
  lead();
})();
