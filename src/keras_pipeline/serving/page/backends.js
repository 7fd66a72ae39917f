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

  // Pixels from 0 to 255 in the type and the range that the network takes; the rows of a table as they are.
  function raw(input, { kind, dtype, low, high }) {
    if (kind !== "images" || (dtype === "|u1" && low === 0 && high === 255)) return input;
    const values = Float64Array.from(input, (value) => low + (value * (high - low)) / 255);
    if (dtype === "<f4") return Float32Array.from(values);
    return (dtype === "|u1" ? Uint8Array : Uint16Array).from(values, Math.round);
  }

  // The network that stands in network.js.
  function inPage(manifest, network) {
    const pause = () => new Promise((go) => setTimeout(go));

    // Of two classes a network gives one number, the probability of the second.
    function answer(outputs) {
      if (!outputs.every(Number.isFinite)) {
        throw new Failure("The network gives no finite number for this.", { again: false });
      }
      if (manifest.task === "regression") return { value: outputs[0] };
      return { probabilities: manifest.task === "binary" ? [1 - outputs[0], outputs[0]] : Array.from(outputs) };
    }

    async function predict(inputs) {
      if (inputs.length > 1) await pause();
      return inputs.map((input) => answer(network.predict(raw(input, manifest.input))));
    }

    const origin = () =>
      "Computed in this page, by the exported network: nothing leaves it. " +
      (manifest.input.kind === "images" ? "The nearest training images, keeping drawings, and w" : "W") +
      "hat a candidate would say need the service: keras-pipeline serve.";
    return { manifest, origin, predict, also: async () => null, neighbours: null, keep: null, atOnce: 4 };
  }

  // The service at the address of this page. `token()`: what it wants to be told, or null. `changed(backend)` is told
  // when another network answers than before.
  async function ofService(token, changed) {
    let about = check(await request("model"), isAbout);
    const { manifest } = about.model;
    const { height, width, channels } = manifest.input;

    async function request(path, body, kind) {
      const headers = { ...(kind && { "Content-Type": kind }), ...(token() && { Authorization: `Bearer ${token()}` }) };
      const own = { cache: "no-store", credentials: "omit", redirect: "error", signal: AbortSignal.timeout(PATIENCE) };
      let response;
      let text;
      try {
        response = await fetch(path, { method: body ? "POST" : "GET", body, headers, ...own });
        text = await response.text();
      } catch (fault) {
        const late = fault.name === "TimeoutError";
        throw new Failure(`The service ${late ? `has not answered for ${PATIENCE / 1000} s` : "does not answer"}.`);
      }
      const value = parse(text);
      if (response.ok) return value;
      const said = typeof value?.error === "string" ? ` ${value.error}` : "";
      const { status } = response;
      if (status === 401) throw new Failure("The service wants its token.", { again: false, token: true });
      if (status === 503 || status === 429) {
        const seconds = Number(response.headers.get("Retry-After") || NaN);
        const after = Number.isFinite(seconds) ? Math.min(Math.max(seconds, 1), 60) : null;
        throw new Failure("The service is busy.", { after });
      }
      throw new Failure(`The service refused (${status}).${said}`, { again: status >= 500 });
    }

    const asked = (path, inputs) =>
      request(path, new Blob(inputs.map((input) => raw(input, manifest.input))), "application/octet-stream");

    async function predict(inputs) {
      const { predictions, model } = check(await asked("predict", inputs), isAnswers(manifest, inputs.length));
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
        const { predictions } = check(await asked("predict?model=candidate", [input]), isAnswers(manifest, 1));
        const [own, name] = [called("champion", about.model), called("candidate", about.candidate)];
        return { own, name, answer: predictions[0] };
      } catch {
        return null; // it is gone, or was made champion
      }
    }

    const called = (role, { version }) => `${role} (${version})`;

    async function neighbours(input) {
      return check(await asked("neighbours", [input]), isNeighbours(height * width * channels)).neighbours;
    }

    // The picture with its label, kept where the service is: how many there are then.
    async function keep(input, label) {
      const values = Array.from(raw(input, manifest.input));
      const pixels = channels === 1 ? values : cut(values, channels);
      const said = { pixels: cut(pixels, width), label, consent: true };
      return (await request("drawn", JSON.stringify(said), "application/json"))?.drawn;
    }

    function origin() {
      const { name, version } = about.model;
      return `Answered by ${name}, version ${version}, of the service at ${location.host}. ${about.problem ?? ""}`;
    }

    return {
      manifest, origin, predict, also, atOnce: 64,
      neighbours: about.neighbours === true ? neighbours : null,
      keep: about.drawn === true ? keep : null,
    };
  }

  const cut = (list, length) =>
    Array.from({ length: list.length / length }, (_, part) => list.slice(part * length, (part + 1) * length));

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
  const isAnswer = ({ task, class_names: names }) => (one) =>
    task === "regression" ? Number.isFinite(one?.value) : areShares(one?.probabilities, names.length);
  const isAnswers = (manifest, length) => (value) =>
    value?.predictions?.length === length && Array.from(value.predictions).every(isAnswer(manifest));
  const isNeighbour = (size) => (one) =>
    typeof one?.label === "string" && Array.isArray(one.pixels) && one.pixels.flat(2).length === size;
  const isNeighbours = (size) => (value) =>
    Array.isArray(value?.neighbours) && value.neighbours.every(isNeighbour(size));

  return { Failure, inPage, ofService };
})();
