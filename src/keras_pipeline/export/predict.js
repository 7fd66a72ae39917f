"use strict";
// Runs a network that keras-pipeline exported, without any library: loadNetwork(KERAS_PIPELINE_NETWORK).predict(input).
globalThis.loadNetwork = function (description) {
  const bytes = Uint8Array.from(atob(description.weights), (sign) => sign.charCodeAt(0));
  const numbers = new Float32Array(bytes.buffer);
  const { fround } = Math, elu = (x) => (x > 0 ? x : Math.expm1(x));
  const softplus = (x) => Math.max(x, 0) + Math.log1p(Math.exp(-Math.abs(x))), sigmoid = (x) => 1 / (1 + Math.exp(-x));
  const erfc = (x) => {  // Numerical Recipes, 6.2: to 1.2e-7 of itself
    const t = 1 / (1 + 0.5 * Math.abs(x)), polynomial = [0.17087277, -0.82215223, 1.48851587, -1.13520398, 0.27886807,
      -0.18628806, 0.09678418, 0.37409196, 1.00002368, -1.26551223].reduce((sum, term) => sum * t + term);
    return x < 0 ? 2 - t * Math.exp(polynomial - x * x) : t * Math.exp(polynomial - x * x);
  };
  const functions = {
    relu: (x) => (x > 0 ? x : 0), leaky_relu: (x) => (x > 0 ? x : 0.2 * x), relu6: (x) => Math.min(Math.max(x, 0), 6),
    elu, celu: elu, selu: (x) => 1.0507009873554805 * (x > 0 ? x : 1.6732632423543772 * Math.expm1(x)),
    gelu: (x) => 0.5 * x * erfc(-x * Math.SQRT1_2), mish: (x) => x * Math.tanh(softplus(x)), softplus, sigmoid,
    silu: (x) => x * sigmoid(x), softsign: (x) => x / (1 + Math.abs(x)), tanh: Math.tanh, exponential: Math.exp,
    hard_sigmoid: (x) => Math.min(Math.max(x / 6 + 0.5, 0), 1),
  };
  // The values that are not zero, and the rows of the kernel that they are for: zeros cost nothing.
  const longest = Math.max(0, ...description.operations.map((step) => step.rows || 0)) + 3;
  const rows = new Int32Array(longest), values = new Float64Array(longest);
  // outputs, one for each column of the kernel from place on, += the sum of count values times their rows
  const addRows = (count, kernel, columns, outputs, place) => {
    rows.fill(0, count, count + 3), values.fill(0, count, count + 3);
    for (let i = 0; i < count; i += 4) {  // four at once: a sum is read and written less often
      const a = values[i], b = values[i + 1], c = values[i + 2], d = values[i + 3];
      let p = rows[i] * columns, q = rows[i + 1] * columns, r = rows[i + 2] * columns, s = rows[i + 3] * columns;
      for (let o = place; o < place + columns; o++)
        outputs[o] += a * kernel[p++] + b * kernel[q++] + c * kernel[r++] + d * kernel[s++];
    }
  };
  // For each window, visit(place of its first value in the outputs, its top, its left, and what of the input is in it).
  const windows = ({ given: [height, width], made: [tall, wide, channels], padding, strides, size }, visit) => {
    for (let place = 0; place < tall * wide; place++) {
      const top = Math.floor(place / wide) * strides - padding[0], left = (place % wide) * strides - padding[1];
      const within = [Math.max(top, 0), Math.min(top + size, height), Math.max(left, 0), Math.min(left + size, width)];
      visit(place * channels, top, left, ...within);
    }
  };
  const operations = {  // scaled in float32, as the training did it
    pixels: (step, input) =>
      new Float64Array(input).map((x) => fround(fround(x - fround(step.offset)) / fround(step.divisor))),
    columns: (step, input) => new Float64Array(input).map((x, i) => fround((x - step.offset[i]) / step.divisor[i])),
    unscale: ({ offset, divisor }, input) => input.map((x) => x * divisor + offset),
    dense: ({ kernel, bias }, input) => {
      const outputs = Float64Array.from(bias);
      let count = 0;
      for (let i = 0; i < input.length; i++) if (input[i] !== 0) { rows[count] = i; values[count++] = input[i]; }
      addRows(count, kernel, outputs.length, outputs, 0);
      return outputs;
    },
    convolution: (step, input) => {
      const [, width, channels] = step.given, [tall, wide, filters] = step.made;
      const outputs = new Float64Array(tall * wide * filters);
      windows(step, (place, top, left, y0, y1, x0, x1) => {
        let count = 0;
        for (let y = y0; y < y1; y++) {
          let i = (y * width + x0) * channels, row = ((y - top) * step.size + x0 - left) * channels;
          for (const end = i + (x1 - x0) * channels; i < end; i++, row++)
            if (input[i] !== 0) { rows[count] = row; values[count++] = input[i]; }
        }
        outputs.set(step.bias, place);
        addRows(count, step.kernel, filters, outputs, place);
      });
      return outputs;
    },
    pooling: ({ average, ...step }, input) => {
      const [, width, channels] = step.given, [tall, wide] = step.made;
      const outputs = new Float64Array(tall * wide * channels).fill(average ? 0 : -Infinity);
      windows(step, (place, top, left, y0, y1, x0, x1) => {
        const share = 1 / ((y1 - y0) * (x1 - x0));
        for (let y = y0; y < y1; y++)
          for (let x = x0; x < x1; x++)
            for (let c = 0, o = place, i = (y * width + x) * channels; c < channels; c++, o++, i++)
              outputs[o] = average ? outputs[o] + input[i] * share : Math.max(outputs[o], input[i]);
      });
      return outputs;
    },
    affine: ({ factor, shift }, input) => input.map((x, i) => x * factor[i % factor.length] + shift[i % shift.length]),
    activation: ({ name }, input) => {
      const f = functions[name];
      for (let i = 0; i < input.length; i++) input[i] = f(input[i]);
      return input;
    },
    softmax: (step, input) => {
      const most = input.reduce((a, b) => Math.max(a, b)), sum = input.reduce((all, x) => all + Math.exp(x - most), 0);
      return input.map((x) => Math.exp(x - most) / sum);
    },
  };
  const array = ([name, [start, length]]) => [name, numbers.subarray(start, start + length)];
  const steps = description.operations.map((step) =>
    ({ ...step, ...Object.fromEntries(Object.entries(step.arrays || {}).map(array)) }));
  const { length } = description;
  const predict = (input) => {
    if (input.length !== length) throw new RangeError(`got ${input.length} values; expected ${length}`);
    return Float32Array.from(steps.reduce((value, step) => operations[step.kind](step, value), input));
  };
  return { predict };
};
