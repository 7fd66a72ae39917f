// Where answers come from: the network in this page, or the service that the page comes from. Both are
//   manifest            export.json of the network
//   origin()            a line on where the answers come from
//   predict(inputs)     raw inputs, one or many: an answer for each, {probabilities} of the classes, or {value}
//   also(input)         {own, name, answer}: what the candidate says, and how both are called; null where there is none
//   neighbours, keep    functions where the service has them, else null
//   atOnce              so many inputs `predict` takes in a moment
"use strict";

globalThis.backends = (() => {
  const PATIENCE = 10_000; // milliseconds

  // A question that was not answered. `again`: whether the same one may be answered later; `after`: in how many
  // seconds; `token`: whether the service wants to know its token.
  class Failure extends Error {
    constructor(message, { again = true, after = null, token = false } = {}) {
      super(message);
      Object.assign(this, { again, after, token });
    }
  }

  // The network that stands in network.js.
  function inPage(manifest, network) {
    const pause = () => new Promise((go) => setTimeout(go));

    // Of two classes a network gives one number, the probability of the second.
    function answer(outputs) {
      if (manifest.task === "regression") return { value: outputs[0] };
      return { probabilities: manifest.task === "binary" ? [1 - outputs[0], outputs[0]] : Array.from(outputs) };
    }

    async function predict(inputs) {
      if (inputs.length > 1) await pause();
      return inputs.map((input) => answer(network.predict(input)));
    }

    const origin = () =>
      "Computed in this page, by the exported network: nothing leaves it. The nearest training images, what a candidate " +
      "would say, and keeping drawings need the service: keras-pipeline serve.";
    return { manifest, origin, predict, also: async () => null, neighbours: null, keep: null, atOnce: 4 };
  }

  // The service at the address of this page. `token()`: what it wants to be told, or null. `changed(backend)` is told
  // when another network answers than before.
  async function ofService(token, changed) {
    let about = check(await request("model"), isAbout);
    const { manifest } = about.model;
    const { height, width } = manifest.input;

    async function request(path, body, kind) {
      const headers = { ...(kind && { "Content-Type": kind }), ...(token() && { Authorization: `Bearer ${token()}` }) };
      const options = { method: body ? "POST" : "GET", body, headers, cache: "no-store", credentials: "omit", redirect: "error" };
      let response;
      let text;
      try {
        response = await fetch(path, { ...options, signal: AbortSignal.timeout(PATIENCE) });
        text = await response.text();
      } catch (fault) {
        throw new Failure(fault.name === "TimeoutError" ? `The service has not answered for ${PATIENCE / 1000} s.` : "The service does not answer.");
      }
      const value = parse(text);
      if (response.ok) return value;
      const said = typeof value?.error === "string" ? ` ${value.error}` : "";
      const { status } = response;
      if (status === 401) throw new Failure("The service wants its token.", { again: false, token: true });
      if (status === 503 || status === 429) {
        const after = Number(response.headers.get("Retry-After") || NaN);
        throw new Failure("The service is busy.", { after: Number.isFinite(after) ? Math.min(Math.max(after, 1), 60) : null });
      }
      throw new Failure(`The service refused (${status}).${said}`, { again: status >= 500 });
    }

    const raw = (path, inputs) => request(path, new Blob(inputs), "application/octet-stream");

    async function predict(inputs) {
      const { predictions, model } = check(await raw("predict", inputs), isAnswers(manifest, inputs.length));
      if (model?.run !== about.model.run || model?.version !== about.model.version) await renew();
      return predictions;
    }

    // Another network answers now: what is it? Of other inputs or classes it is another page.
    async function renew() {
      about = check(await request("model"), isAbout);
      const same = (key) => JSON.stringify(about.model.manifest[key]) === JSON.stringify(manifest[key]);
      if (!["input", "class_names", "dataset", "task"].every(same)) {
        throw new Failure("The service has a network for something else now. Load this page again.", { again: false });
      }
      changed({ manifest: about.model.manifest, origin });
    }

    async function also(input) {
      if (!about.candidate) return null;
      try {
        const { predictions } = check(await raw("predict?model=candidate", [input]), isAnswers(manifest, 1));
        return { own: called("champion", about.model), name: called("candidate", about.candidate), answer: predictions[0] };
      } catch {
        return null; // it is gone, or was made champion
      }
    }

    const called = (role, { version }) => `${role} (${version})`;

    async function neighbours(input) {
      return check(await raw("neighbours", [input]), isNeighbours(height * width)).neighbours;
    }

    // The picture with its label, kept where the service is: how many there are then.
    async function keep(input, label) {
      const pixels = Array.from({ length: height }, (_, row) => Array.from(input.subarray(row * width, (row + 1) * width)));
      return (await request("drawn", JSON.stringify({ pixels, label, consent: true }), "application/json"))?.drawn;
    }

    const origin = () =>
      `Answered by ${about.model.name}, version ${about.model.version}, of the service at ${location.host}.${about.problem ? ` ${about.problem}` : ""}`;
    return {
      manifest, origin, predict, also, atOnce: 64,
      neighbours: about.neighbours === true ? neighbours : null,
      keep: about.drawn === true ? keep : null,
    };
  }

  function parse(text) {
    try {
      return JSON.parse(text);
    } catch {
      return undefined;
    }
  }

  function check(value, kind) {
    if (!kind(value)) throw new Failure("The service answered something else than this page expects.");
    return value;
  }

  const isAbout = (value) =>
    typeof value?.model?.manifest?.run === "string" &&
    Array.isArray(value.model.manifest.class_names) &&
    ["images", "table"].includes(value.model.manifest.input?.kind);
  const areShares = (values, length) =>
    Array.isArray(values) && values.length === length && values.every((share) => share >= 0 && share <= 1);
  const isAnswers = ({ task, class_names: names }, length) => (value) =>
    Array.isArray(value?.predictions) &&
    value.predictions.length === length &&
    value.predictions.every((one) => (task === "regression" ? Number.isFinite(one?.value) : areShares(one?.probabilities, names.length)));
  const isNeighbours = (size) => (value) =>
    Array.isArray(value?.neighbours) &&
    value.neighbours.every(({ label, pixels }) => typeof label === "string" && Array.isArray(pixels) && pixels.flat().length === size);

  return { Failure, inPage, ofService };
})();
