// The page: what is drawn, chosen or typed goes to the backend, and what comes back is shown.
"use strict";

(() => {
  const { byId } = view;
  let token = null;
  let running = false; // whether there is a backend, and perhaps a drawing
  let asker = newest.asker(open, run, fail, wait);

  byId("again").addEventListener("click", () => asker.again());
  byId("token").addEventListener("submit", (event) => {
    event.preventDefault();
    token = byId("token-text").value.trim();
    asker.again();
  });
  asker.ask(null);

  // The backend: the network in this folder where there is one, else the service.
  async function open() {
    const needs = (text) => new backends.Failure(`${text}: keras-pipeline page`, { again: false });
    if (globalThis.model === null) {
      if (location.protocol === "file:") throw needs("There is no network in this folder. Make one that has it");
      return backends.ofService(() => token, introduce);
    }
    await load("network.js", needs);
    await load("predict.js", needs);
    return backends.inPage(globalThis.model, globalThis.loadNetwork(globalThis.KERAS_PIPELINE_NETWORK));
  }

  function load(src, needs) {
    return new Promise((done, failed) => {
      const lacking = () => failed(needs(`${src} is missing in this folder. Make it anew`));
      document.head.append(view.element("script", { src, onload: done, onerror: lacking }));
    });
  }

  function fail(error, seconds) {
    byId("token").hidden = !error.token;
    const kept = running ? " Nothing that you have done here is lost." : "";
    view.state(`${error.message}${kept}`, seconds, error.again !== false);
  }

  function wait() {
    view.state("Waiting for the service, which is slow.", null, false);
  }

  function introduce(backend) {
    const { input, class_names: names, drawing, target } = backend.manifest;
    let title = drawing?.dark_border ? `Draw one of ${names.length}` : `Which of ${names.length} is it?`;
    if (input.kind === "table" && target !== null) title = `What is ${target}?`;
    view.introduce(backend.manifest, title, backend.origin());
  }

  function run(backend) {
    const { manifest } = backend;
    const images = manifest.input.kind === "images";
    const draws = Boolean(manifest.drawing?.dark_border); // what has a light border is no line
    const nothing = draws ? "Nothing drawn" : images ? "No picture yet" : "Numbers are missing";
    const more = details.of(backend);
    let version = 0; // counts changes of the input
    running = true;

    introduce(backend);
    view.state(null);
    byId("token").hidden = true;
    view.prepare(manifest.class_names);
    view.nothing(nothing);

    asker = newest.asker(
      async ({ input }) => {
        const [[answer], other] = await Promise.all([backend.predict([input]), backend.also(input)]);
        return { answer, other };
      },
      ({ answer, other }, about) => {
        view.state(null);
        byId("token").hidden = true;
        view.answer(manifest, answer, other);
        byId("answer").dataset.version = about.version;
        if (images && about.version === version) more.show(about.input, answer, () => about.version === version);
      },
      fail,
      wait,
    );

    // A new input; null where there is none.
    function take(input) {
      version += 1;
      if (images) more.forget();
      if (input === null) {
        asker.withdraw();
        view.state(null);
        view.nothing(nothing);
        byId("details").hidden = true;
        return;
      }
      if (images) view.seen(input, manifest);
      asker.ask({ input, version });
    }

    if (images) board(manifest, draws, take);
    else rows(manifest.input.features, take);
  }

  // The pad, or a place for pictures.
  function board(manifest, draws, take) {
    const { height, width, channels } = manifest.input;
    if (channels !== 1 && channels !== 3) {
      view.state(`The network takes images of ${channels} channels, which no picture file has.`, null, false);
      return;
    }
    const canvas = byId("pad");
    byId("board").hidden = false;
    byId("invitation").textContent = draws ? "Draw here" : "Drop a picture here";
    byId("undo").hidden = !draws;
    byId("hint").classList.toggle("keys", draws);
    byId("hint").textContent = draws
      ? "With keys: arrows move the pen, Space lowers and lifts it, Ctrl Z takes a stroke back, Delete clears."
      : "PNG or JPEG, of any size. Only the pixels that the network sees are used.";
    canvas.setAttribute("role", draws ? "application" : "img");
    canvas.setAttribute("aria-label", draws ? "Drawing pad" : "The picture");
    canvas.setAttribute("aria-describedby", "hint");

    let frame = null;
    let strokes = [];
    const invite = (empty) => (byId("invitation").hidden = !empty);
    function renew() {
      cancelAnimationFrame(frame);
      frame = null;
      take(preprocess.drawing(strokes, manifest.drawing, height, width));
    }
    const drawn = pad.on(canvas, draws, (all, finished) => {
      strokes = all;
      invite(all.length === 0);
      if (finished) renew();
      else frame ??= requestAnimationFrame(renew);
    }, view.say);
    byId("undo").addEventListener("click", drawn.undo);
    byId("clear").addEventListener("click", drawn.clear);

    picture.offer(byId("file"), byId("frame"), async (file) => {
      try {
        const chosen = await picture.read(file, manifest);
        view.state(null);
        drawn.show(chosen.image);
        invite(false);
        take(preprocess.input(chosen, manifest));
      } catch (error) {
        view.state(error.message, null, false);
      }
    });
  }

  // A field for each feature of a table.
  function rows(features, take) {
    const form = byId("table");
    form.hidden = false;
    const fields = features.map((name) => {
      const field = view.element("input", { type: "number", step: "any", required: true, autocomplete: "off" });
      form.append(view.element("label", {}, name, field));
      return field;
    });
    form.addEventListener("submit", (event) => event.preventDefault());
    form.addEventListener("input", () => {
      const complete = fields.every((field) => field.value !== "" && Number.isFinite(Math.fround(field.valueAsNumber)));
      take(complete ? Float32Array.from(fields, (field) => field.valueAsNumber) : null);
    });
  }
})();
