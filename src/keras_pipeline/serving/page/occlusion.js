// Which pixels spoke for an answer, by occlusion: a small square is covered with black, everywhere in turn, and what
// that takes from the logarithm of the answer's odds is shared among its pixels. (From its probability nothing can be
// taken where a network is all but certain.)
"use strict";

globalThis.occlusion = (() => {
  // The side of a square: a seventh of the image's smaller one, however large it is; and the step to the next one.
  const squareOf = ({ height, width }) => Math.max(2, 2 * Math.round(Math.min(height, width) / 14));

  // The places [x, y] of squares that cover anything: where all is black already, covering changes nothing.
  function places(input, square, shape) {
    const found = [];
    const step = square / 2;
    for (let y = step - square; y < shape.height; y += step) {
      for (let x = step - square; x < shape.width; x += step) {
        if (values(dots(x, y, square, shape), shape).some((index) => input[index])) found.push([x, y]);
      }
    }
    return found;
  }

  function dots(x, y, square, { height, width }) {
    const found = [];
    for (let row = Math.max(0, y); row < Math.min(height, y + square); row++) {
      for (let column = Math.max(0, x); column < Math.min(width, x + square); column++) {
        found.push(row * width + column);
      }
    }
    return found;
  }

  // Where in an input the channels of these pixels are.
  const values = (pixels, { channels }) =>
    pixels.flatMap((pixel) => Array.from({ length: channels }, (_, channel) => pixel * channels + channel));

  const log = (share) => Math.log(Math.max(share, 1e-30));

  // Of a class against all others, which are summed: 1 less its probability would be 0 where they are small.
  function logOdds({ probabilities }, chosen) {
    const others = probabilities.reduce((sum, share, index) => (index === chosen ? sum : sum + share), 0);
    return log(probabilities[chosen]) - log(others);
  }

  // For each pixel how much it holds of the log odds of class `chosen`: {pixels: Float32Array, most, square}. `most`: the
  // greatest loss by one square; `square`: its side. null as soon as `wanted()` no longer holds.
  async function map(input, shape, chosen, answer, { predict, atOnce }, wanted) {
    const before = logOdds(answer, chosen);
    const square = squareOf(shape);
    const squares = places(input, square, shape);
    const size = shape.height * shape.width;
    const [sums, counts] = [new Float32Array(size), new Uint16Array(size)];
    let most = 0;
    for (let start = 0; start < squares.length; start += atOnce) {
      const some = squares.slice(start, start + atOnce);
      const covered = some.map(([x, y]) => {
        const one = Uint8Array.from(input);
        for (const index of values(dots(x, y, square, shape), shape)) one[index] = 0;
        return one;
      });
      const answers = await predict(covered);
      if (!wanted()) return null;
      for (const [place, [x, y]] of some.entries()) {
        const lost = before - logOdds(answers[place], chosen);
        most = Math.max(most, lost);
        for (const index of dots(x, y, square, shape)) {
          sums[index] += lost;
          counts[index] += 1;
        }
      }
    }
    return { pixels: sums.map((sum, index) => (counts[index] ? sum / counts[index] : 0)), most, square };
  }

  return { map };
})();
