// What is shown of a picture when nothing has changed for a moment: which pixels spoke for the answer, and where the
// service has them the nearest training images, and the labels under which it can be kept.
"use strict";

globalThis.details = (() => {
  const CALM = 250; // milliseconds
  const MOST_BUTTONS = 30;
  const { byId, element } = view;

  // `show(input, answer, wanted)`; `forget()` what was shown. `wanted()`: whether the input is still the newest.
  function of(backend) {
    const { manifest } = backend;
    let timer = null;
    let shown = null; // the input whose label is asked for
    byId("neighbours").hidden = backend.neighbours === null;
    byId("keep").hidden = backend.keep === null;
    if (backend.keep) offerLabels();

    function show(input, answer, wanted) {
      clearTimeout(timer);
      timer = setTimeout(async () => {
        if (!wanted()) return;
        shown = input;
        allow();
        byId("kept").textContent = "";
        await Promise.all([spoke(input, answer, wanted), near(input, wanted)]).catch(() => {
          // The service is gone; the next question says so.
        });
      }, CALM);
    }

    async function spoke(input, answer, wanted) {
      const chosen = view.best(answer.probabilities);
      const found = await occlusion.map(input, manifest.input, chosen, answer, backend, wanted);
      if (found) view.spoke(input, found, manifest.class_names[chosen], manifest.input);
    }

    async function near(input, wanted) {
      if (backend.neighbours === null) return;
      const found = await backend.neighbours(input);
      if (wanted()) view.neighbours(found, manifest.input);
    }

    function forget() {
      clearTimeout(timer);
      shown = null;
      view.spokeNot();
    }

    // A label is given to what is shown, and only with consent: by a button each, or of many classes by a list.
    function offerLabels() {
      const names = manifest.class_names;
      if (names.length > MOST_BUTTONS) {
        const options = names.map((name) => element("option", { textContent: name, value: name }));
        const list = element("select", {}, element("option", { textContent: "Choose a class", value: "" }), ...options);
        list.setAttribute("aria-labelledby", "keep-title");
        list.addEventListener("change", () => {
          if (list.value !== "") keep(list.value);
          list.value = "";
        });
        byId("classes").replaceChildren(list);
      } else {
        const buttons = names.map((name) => element("button", { type: "button", textContent: name }));
        for (const button of buttons) button.addEventListener("click", () => keep(button.textContent));
        byId("classes").replaceChildren(...buttons);
      }
      byId("consent").addEventListener("change", allow);
      allow();
    }

    function allow() {
      for (const button of byId("classes").children) button.disabled = !byId("consent").checked || shown === null;
    }

    async function keep(label) {
      const input = shown;
      shown = null; // once
      allow();
      try {
        const count = await backend.keep(input, label);
        byId("kept").textContent = `Kept as “${label}”.${Number.isInteger(count) ? ` ${count} kept in all.` : ""}`;
      } catch (error) {
        byId("kept").textContent = `Not kept. ${error.message}`;
        shown = input;
        allow();
      }
    }

    return { show, forget };
  }

  return { of };
})();
