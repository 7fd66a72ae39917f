// Which pixels spoke for an answer, by occlusion: a small square is covered with black, everywhere in turn, and what
// that takes from the logarithm of the answer's odds is shared among its pixels. (From its probability nothing can be
// taken where a network is all but certain.)
"use strict";

globalThis.occlusion = (() => {
  const SQUARE = 4;
  const STEP = 2;

  // The places [x, y] of squares that cover anything: where all is black already, covering changes nothing.
  function places(input, height, width) {
    const found = [];
    for (let y = STEP - SQUARE; y < height; y += STEP) {
      for (let x = STEP - SQUARE; x < width; x += STEP) {
        if (dots(x, y, height, width).some((index) => input[index])) found.push([x, y]);
      }
    }
    return found;
  }

  function dots(x, y, height, width) {
    const found = [];
    for (let row = Math.max(0, y); row < Math.min(height, y + SQUARE); row++) {
      for (let column = Math.max(0, x); column < Math.min(width, x + SQUARE); column++) {
        found.push(row * width + column);
      }
    }
    return found;
  }

  const log = (share) => Math.log(Math.max(share, 1e-30));

  // Of a class against all others, which are summed: 1 less its probability would be 0 where they are small.
  function logOdds({ probabilities }, chosen) {
    const others = probabilities.reduce((sum, share, index) => (index === chosen ? sum : sum + share), 0);
    return log(probabilities[chosen]) - log(others);
  }

  // For each pixel how much it holds of the log odds of class `chosen`: {pixels: Float32Array, most}. `most`: the
  // greatest loss by one square. null as soon as `wanted()` no longer holds.
  async function map(input, { height, width }, chosen, answer, { predict, atOnce }, wanted) {
    const before = logOdds(answer, chosen);
    const squares = places(input, height, width);
    const [sums, counts] = [new Float32Array(input.length), new Uint16Array(input.length)];
    let most = 0;
    for (let start = 0; start < squares.length; start += atOnce) {
      const some = squares.slice(start, start + atOnce);
      const covered = some.map(([x, y]) => {
        const one = Uint8Array.from(input);
        for (const index of dots(x, y, height, width)) one[index] = 0;
        return one;
      });
      const answers = await predict(covered);
      if (!wanted()) return null;
      for (const [place, [x, y]] of some.entries()) {
        const lost = before - logOdds(answers[place], chosen);
        most = Math.max(most, lost);
        for (const index of dots(x, y, height, width)) {
          sums[index] += lost;
          counts[index] += 1;
        }
      }
    }
    return { pixels: sums.map((sum, index) => (counts[index] ? sum / counts[index] : 0)), most };
  }

  return { SQUARE, map };
})();
