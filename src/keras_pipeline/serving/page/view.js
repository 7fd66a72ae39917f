// What is shown. All text that comes from elsewhere is set as text.
"use strict";

globalThis.view = (() => {
  const FEW = 12; // classes: all are shown, in their order; else the best ten
  const BEST = 10;
  const byId = (id) => document.getElementById(id);
  const percent = (share) => (share > 0.9995 && share < 1 ? "> 99.9 %" : `${(100 * share).toFixed(1)} %`);
  const number = new Intl.NumberFormat("en", { maximumSignificantDigits: 5, useGrouping: false });
  let spoken = null;

  function element(name, properties = {}, ...children) {
    const made = Object.assign(document.createElement(name), properties);
    made.append(...children);
    return made;
  }

  // Read aloud when nothing has changed for a moment.
  function say(text, delay = 0) {
    const speak = () => (byId("spoken").textContent = text);
    clearTimeout(spoken);
    if (delay === 0) speak();
    else spoken = setTimeout(speak, delay);
  }

  // What the page is about. `origin`: a line on where the answers come from.
  function introduce(manifest, title, origin) {
    document.title = `${title} · keras-pipeline`;
    byId("title").textContent = title;
    byId("about").textContent = [
      `${manifest.architecture} with ${manifest.parameters.toLocaleString("en")} parameters`,
      `trained on ${manifest.dataset}`,
      `run ${manifest.run.slice(0, 8)}`,
    ].join(" · ");
    byId("where").textContent = origin;
    byId("main").hidden = false;
  }

  function nothing(text) {
    byId("label").textContent = text;
    byId("label").className = "empty";
    byId("share").textContent = "";
    byId("answer").classList.remove("old");
    byId("compared").hidden = true;
    for (const bar of byId("bars").children) bar.replaceWith(bare(bar));
    say(text, 300);
  }

  function bare(bar) {
    bar.className = "";
    bar.querySelector(".number").textContent = "";
    for (const part of bar.querySelectorAll("i")) part.style.setProperty("--part", 0);
    return bar;
  }

  // The answer; `other`: {name, names, answer} of a second model, shown beside it, or null.
  function answer(manifest, { probabilities, value }, other) {
    byId("answer").classList.remove("old");
    if (value !== undefined) {
      byId("label").className = "words";
      byId("label").textContent = number.format(value);
      byId("share").textContent = manifest.target ?? "";
      say(`${manifest.target ?? ""} ${number.format(value)}`, 700);
      return;
    }
    const names = manifest.class_names;
    const chosen = best(probabilities);
    byId("label").className = names.every((name) => name.length < 3) ? "" : "words";
    byId("label").textContent = names[chosen];
    byId("share").textContent = `${percent(probabilities[chosen])} sure`;
    bars(names, probabilities, other?.answer.probabilities ?? null, chosen);
    compare(other, names, chosen);
    say(`${names[chosen]}, ${Math.round(100 * probabilities[chosen])} percent`, 700);
  }

  const best = (values) => values.reduce((found, value, index) => (value > values[found] ? index : found), 0);

  function bars(names, probabilities, others, chosen) {
    let shown = names.map((_, index) => index);
    if (names.length > FEW) {
      shown.sort((one, two) => probabilities[two] - probabilities[one] || one - two);
      shown = shown.slice(0, BEST);
    }
    const list = byId("bars");
    list.className = names.every((name) => name.length < 3) ? "" : "named";
    while (list.children.length < shown.length) list.append(bar());
    for (const [place, index] of shown.entries()) {
      const row = list.children[place];
      row.className = index === chosen ? "first" : "";
      row.querySelector(".name").textContent = names[index];
      row.querySelector(".number").textContent = percent(probabilities[index]);
      row.querySelector(".own i").style.setProperty("--part", probabilities[index]);
      row.querySelector(".other").hidden = others === null;
      row.querySelector(".other i").style.setProperty("--part", others?.[index] ?? 0);
    }
  }

  function bar() {
    const groove = (kind) => element("span", { className: kind }, element("i"));
    const track = element("span", { className: "track" }, groove("own"), groove("other"));
    track.lastChild.hidden = true;
    track.setAttribute("aria-hidden", "true");
    return element("li", {}, element("span", { className: "name" }), track, element("span", { className: "number" }));
  }

  // Empty bars for all classes, so that nothing moves when the first answer comes.
  function prepare(names) {
    bars(names, names.map(() => 0), null, -1);
    [...byId("bars").children].forEach(bare);
  }

  function compare(other, names, chosen) {
    byId("compared").hidden = other === null;
    if (other === null) return;
    const second = best(other.answer.probabilities);
    byId("compared").replaceChildren(
      element("b", { textContent: other.own }), `: ${names[chosen]} · `,
      element("b", { textContent: other.name }), `: ${names[second]}, ${percent(other.answer.probabilities[second])}`,
    );
  }

  // Pixels on a canvas that has as many dots: `colour(index)` gives red, green and blue of each.
  function pixels(canvas, height, width, colour) {
    [canvas.width, canvas.height] = [width, height];
    const context = canvas.getContext("2d");
    const picture = context.createImageData(width, height);
    for (let index = 0; index < height * width; index++) picture.data.set([...colour(index), 255], 4 * index);
    context.putImageData(picture, 0, 0);
  }

  // The colour of a pixel: of one channel, grey.
  const colourOf = (values, channels) => (index) =>
    channels === 3 ? values.slice(3 * index, 3 * index + 3) : Array(3).fill(values[channels * index]);

  const FITS = {
    crop: "cut to this shape around its middle",
    pad: "all of it, with a border at two sides",
    stretch: "stretched to this shape",
  };

  function seen(input, { input: { height, width, channels }, drawing: form, preparation }) {
    byId("details").hidden = false;
    Object.assign(byId("spoke"), { width, height }); // so that nothing moves when it is filled
    pixels(byId("seen"), height, width, colourOf(input, channels));
    byId("seen").setAttribute("aria-label", `The picture that the network sees, ${width} by ${height} pixels`);
    let brought = preparation ? `, ${FITS[preparation.fit] ?? ""}` : "";
    if (form) {
      brought =
        `, in the form of the training images: light on black, the longer side ${form.box} pixels, ` +
        `the ${form.centre === "mass" ? "centre of mass" : "whole"} in the middle`;
    }
    byId("seen-text").textContent = `${width} × ${height} pixels${brought}.`;
  }

  // What each pixel holds of the odds of the answer, over the picture: orange for it, blue against it.
  function spoke(input, { pixels: held, most, square }, name, { height, width, channels }) {
    const reach = held.reduce((most, one) => Math.max(most, Math.abs(one)), 0.1);
    byId("spoke-title").textContent = `What spoke for “${name}”`;
    const colour = colourOf(input, channels);
    pixels(byId("spoke"), height, width, (index) => {
      const part = Math.sqrt(Math.abs(held[index]) / reach);
      const [red, green, blue] = held[index] > 0 ? [255, 140, 40] : [70, 140, 255];
      const grey = (colour(index).reduce((sum, one) => sum + one, 0) / 3) * 0.35;
      return [grey + (red - grey) * part, grey + (green - grey) * part, grey + (blue - grey) * part];
    });
    const times = Math.exp(most);
    const greatest = times < 1e4 ? `up to ${number.format(Number(times.toPrecision(2)))}` : "more than 10000";
    byId("spoke-text").textContent =
      `Occlusion: a square of ${square} × ${square} pixels is covered with black, everywhere in turn. ` +
      (times < 1.05
        ? "None of them takes anything from the answer."
        : `Orange: the odds of the answer become smaller, ${greatest} times. Blue: larger.`);
  }

  function neighbours(found, { height, width, channels }) {
    const items = found.map(({ label, pixels: values }) => {
      const canvas = element("canvas", { className: "pixels" });
      canvas.setAttribute("role", "img");
      canvas.setAttribute("aria-label", `A training image, ${label}`);
      pixels(canvas, height, width, colourOf(values.flat(2), channels));
      return element("li", {}, canvas, label);
    });
    byId("nearest").replaceChildren(...items);
  }

  function spokeNot() {
    const canvas = byId("spoke");
    byId("spoke-title").textContent = "What spoke for it";
    byId("spoke-text").textContent = "Shown as soon as you pause.";
    canvas.getContext("2d").clearRect(0, 0, canvas.width, canvas.height);
  }

  // The page's state where something does not go as it should; null where all is well. `seconds`: until it goes on.
  function state(text, seconds = null, again = true) {
    byId("state").hidden = text === null;
    byId("again").hidden = !again;
    if (text === null) return;
    byId("answer").classList.add("old"); // until there is a newer one
    const next = seconds === null ? "" : ` Asking again in ${Math.ceil(seconds)} s.`;
    byId("state-text").textContent = `${text}${next}`;
  }

  return {
    byId, element, say, introduce, nothing, answer, prepare, best, seen, spoke, spokeNot, neighbours, state,
  };
})();
