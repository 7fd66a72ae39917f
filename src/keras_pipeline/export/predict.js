"use strict";
// Runs a network that keras-pipeline exported, without any library: loadNetwork(KERAS_PIPELINE_NETWORK).predict(input).
globalThis.loadNetwork = function (description) {
  const bytes = Uint8Array.from(atob(description.weights), (sign) => sign.charCodeAt(0));
  const numbers = new Float32Array(bytes.buffer);  // little-endian, as all that browsers run on
  const array = ([start, length]) => numbers.subarray(start, start + length);
  const elu = (x) => (x > 0 ? x : Math.expm1(x));
  const softplus = (x) => Math.max(x, 0) + Math.log1p(Math.exp(-Math.abs(x)));
  const sigmoid = (x) => 1 / (1 + Math.exp(-x));
  const erfc = (x) => {  // Numerical Recipes, 6.2: to 1.2e-7 of itself
    const t = 1 / (1 + 0.5 * Math.abs(x));
    const terms = [0.17087277, -0.82215223, 1.48851587, -1.13520398, 0.27886807, -0.18628806, 0.09678418, 0.37409196,
      1.00002368, -1.26551223];
    const value = t * Math.exp(terms.reduce((sum, term) => sum * t + term) - x * x);
    return x < 0 ? 2 - value : value;
  };
  const functions = {
    relu: (x) => (x > 0 ? x : 0), leaky_relu: (x) => (x > 0 ? x : 0.2 * x), relu6: (x) => Math.min(Math.max(x, 0), 6),
    elu, celu: elu, selu: (x) => 1.0507009873554805 * (x > 0 ? x : 1.6732632423543772 * Math.expm1(x)),
    gelu: (x) => 0.5 * x * erfc(-x * Math.SQRT1_2), silu: (x) => x * sigmoid(x), mish: (x) => x * Math.tanh(softplus(x)),
    softplus, softsign: (x) => x / (1 + Math.abs(x)), tanh: Math.tanh, sigmoid, exponential: Math.exp,
    hard_sigmoid: (x) => Math.min(Math.max(x / 6 + 0.5, 0), 1),
  };
  let rows = new Int32Array(0), values = new Float64Array(0);
  // outputs (from place on, one for each column) += the sum of count values times their rows of the kernel
  const addRows = (count, kernel, columns, outputs, place) => {
    let i = 0;
    for (; i + 3 < count; i += 4) {  // four at once: a sum is read and written less often
      const a = values[i], b = values[i + 1], c = values[i + 2], d = values[i + 3];
      let p = rows[i] * columns, q = rows[i + 1] * columns, r = rows[i + 2] * columns, s = rows[i + 3] * columns;
      for (let o = place; o < place + columns; o++) {
        outputs[o] += a * kernel[p++] + b * kernel[q++] + c * kernel[r++] + d * kernel[s++];
      }
    }
    for (; i < count; i++) {
      for (let o = place, p = rows[i] * columns; o < place + columns; o++) outputs[o] += values[i] * kernel[p++];
    }
  };
  // visit(y, x, place of the window's first value in the output, rows and columns of the input within the window)
  const windows = (step, visit) => {
    const [height, width] = step.given, [tall, wide, channels] = step.made, [top, left] = step.padding;
    for (let y = 0; y < tall; y++) {
      for (let x = 0; x < wide; x++) {
        const above = y * step.strides - top, before = x * step.strides - left;
        visit((y * wide + x) * channels, above, before, Math.max(above, 0), Math.min(above + step.size, height),
          Math.max(before, 0), Math.min(before + step.size, width));
      }
    }
  };
  const operations = {
    pixels: (step, input) => Float64Array.from(input, (x) =>  // in float32, as the training did it
      Math.fround(Math.fround(x - Math.fround(step.offset)) / Math.fround(step.divisor))),
    columns: (step, input) => Float64Array.from(input, (x, i) => Math.fround((x - step.offset[i]) / step.divisor[i])),
    unscale: (step, input) => input.map((x) => x * step.divisor + step.offset),
    dense: (step, input) => {
      const outputs = Float64Array.from(step.bias);
      let count = 0;
      for (let i = 0; i < input.length; i++) {
        if (input[i] !== 0) { rows[count] = i; values[count++] = input[i]; }  // zeros cost nothing
      }
      addRows(count, step.kernel, outputs.length, outputs, 0);
      return outputs;
    },
    convolution: (step, input) => {
      const [, width, channels] = step.given, filters = step.made[2];
      const outputs = new Float64Array(step.made[0] * step.made[1] * filters);
      windows(step, (place, above, before, y0, y1, x0, x1) => {
        outputs.set(step.bias, place);
        let count = 0;
        for (let y = y0; y < y1; y++) {
          let i = (y * width + x0) * channels, row = ((y - above) * step.size + x0 - before) * channels;
          for (const end = i + (x1 - x0) * channels; i < end; i++, row++) {
            if (input[i] !== 0) { rows[count] = row; values[count++] = input[i]; }
          }
        }
        addRows(count, step.kernel, filters, outputs, place);
      });
      return outputs;
    },
    pooling: (step, input) => {
      const [, width, channels] = step.given;
      const outputs = new Float64Array(step.made[0] * step.made[1] * channels).fill(step.average ? 0 : -Infinity);
      windows(step, (place, above, before, y0, y1, x0, x1) => {
        const share = 1 / ((y1 - y0) * (x1 - x0));
        for (let y = y0; y < y1; y++) {
          for (let i = (y * width + x0) * channels, o = 0; i < (y * width + x1) * channels; i++, o = (o + 1) % channels) {
            if (step.average) outputs[place + o] += input[i] * share;
            else if (input[i] > outputs[place + o]) outputs[place + o] = input[i];
          }
        }
      });
      return outputs;
    },
    average: (step, input) => {
      const outputs = new Float64Array(step.made[0]), share = outputs.length / input.length;
      for (let i = 0; i < input.length; i++) outputs[i % outputs.length] += input[i] * share;
      return outputs;
    },
    affine: (step, input) => input.map((x, i) =>
      x * step.factor[i % step.factor.length] + step.shift[i % step.shift.length]),
    activation: (step, input) => input.map(functions[step.name]),
    softmax: (step, input) => {
      const most = Math.max(...input), outputs = input.map((x) => Math.exp(x - most));
      const sum = outputs.reduce((all, x) => all + x, 0);
      return outputs.map((x) => x / sum);
    },
  };
  const steps = description.operations.map((step) => {
    const own = { ...step };
    for (const name of ["kernel", "bias", "factor", "shift"]) if (name in step) own[name] = array(step[name]);
    return own;
  });
  const longest = Math.max(...steps.map((step) => step.rows || 0));
  rows = new Int32Array(longest);
  values = new Float64Array(longest);
  return {
    predict(input) {
      if (input.length !== description.length) {
        throw new RangeError(`got ${input.length} values; expected ${description.length}`);
      }
      return Float32Array.from(steps.reduce((value, step) => operations[step.kind](step, value), input));
    },
  };
};
