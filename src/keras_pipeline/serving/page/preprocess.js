// From a drawing or a picture to the pixels that the network sees, in the form of the images that it was trained on.
//
// Whole numbers throughout, so that page/pictures.py gives the same bytes; tests hold both against the same vectors.
// `form`: how the training images were made, `drawing` of the manifest: what is on them is light on black, its longer side
// `box` pixels, its centre of mass or that of its box (`centre`) in the middle, on some a light border (not `dark_border`).
"use strict";

globalThis.preprocess = (() => {
  const INK = 51; // a fifth of the whole: less is the paper's grain
  const LEAST_CONTRAST = 32;
  const HALF = 127; // a lighter border is paper
  const FINE = 8; // so many dots a pixel, each way, is a drawing made of before it is made smaller
  const SMALLEST = 0.06; // of the pad: a drawing that is smaller, such as a dot, is not enlarged further

  // The width of a drawn line, in pixels.
  const penOf = ({ box }) => (box * 7) / 50;

  // Strokes, each [x, y, x, y, …] with the pad from 0 to 1, as pixels (height × width); null where there are none.
  // The line is as wide however large the drawing is and whatever screen it was made on.
  function drawing(strokes, form, height, width) {
    const pen = penOf(form);
    const points = strokes.flat();
    if (points.length === 0) return null;
    const xs = points.filter((_, index) => index % 2 === 0);
    const ys = points.filter((_, index) => index % 2 === 1);
    const [left, right, top, bottom] = [smallest(xs), largest(xs), smallest(ys), largest(ys)];
    const scale = (form.box - pen) / Math.max(right - left, bottom - top, SMALLEST);
    const columns = Math.min(width, Math.ceil((right - left) * scale + pen - 1e-9));
    const rows = Math.min(height, Math.ceil((bottom - top) * scale + pen - 1e-9));
    const ink = { pixels: new Uint8Array(columns * rows * FINE * FINE), width: columns * FINE, height: rows * FINE };
    const place = (value, low, high, size) => (size / 2 + (value - (low + high) / 2) * scale) * FINE;
    for (const stroke of strokes) {
      let [x, y] = [place(stroke[0], left, right, columns), place(stroke[1], top, bottom, rows)];
      line(ink, x, y, x, y, (pen * FINE) / 2);
      for (let index = 2; index < stroke.length; index += 2) {
        const nextX = place(stroke[index], left, right, columns);
        const nextY = place(stroke[index + 1], top, bottom, rows);
        if ((nextX - x) ** 2 + (nextY - y) ** 2 < 0.25 && index + 2 < stroke.length) continue;
        line(ink, x, y, nextX, nextY, (pen * FINE) / 2);
        [x, y] = [nextX, nextY];
      }
    }
    return placed(smaller(ink, columns, rows), form.centre, height, width);
  }

  // A picture {layers: of grey, or of red, green and blue, 0 … 255, width, height} as the pixels that the network of this
  // manifest takes (height × width × layers); null where nothing is on it.
  function input({ layers, width, height }, { input: wanted, drawing: form, preparation }) {
    const made = layers.map((pixels) =>
      picture({ pixels, width, height }, form, wanted.height, wanted.width, preparation));
    if (made.length === 1 || made.includes(null)) return made[0];
    const whole = new Uint8Array(made.length * made[0].length);
    for (const [channel, values] of made.entries()) {
      values.forEach((value, index) => (whole[index * made.length + channel] = value));
    }
    return whole;
  }

  // One layer of it. One that has this size already is taken as it is, unless it is dark on light and the training
  // images are not. `preparation`: as pictures were prepared for the training, or null.
  function picture(grey, form, height, width, preparation = null) {
    const fits = grey.width === width && grey.height === height;
    if (fits && !(form?.dark_border && borderMedian(grey) > HALF)) return Uint8Array.from(grey.pixels);
    if (form === null && preparation !== null) return fitted(grey, preparation, height, width);
    if (form === null) {
      const factor = Math.min(width / grey.width, height / grey.height);
      const columns = Math.max(1, Math.floor(grey.width * factor + 0.5));
      const rows = Math.max(1, Math.floor(grey.height * factor + 0.5));
      return placed(smaller(grey, columns, rows), "box", height, width, borderMedian(grey));
    }
    const ink = onBlack(grey);
    if (ink === null) return null;
    const box = cut(ink);
    const longer = Math.max(box.width, box.height);
    const size = (side) => Math.max(1, Math.floor((2 * side * form.box + longer) / (2 * longer)));
    return placed(smaller(box, size(box.width), size(box.height)), form.centre, height, width);
  }

  // As `fit` says: cut to the shape around its middle, all of it with a background at two sides, or out of shape.
  function fitted(grey, { fit, background }, height, width) {
    if (fit === "stretch") return smaller(grey, width, height).pixels;
    const choose = fit === "crop" ? Math.max : Math.min;
    const factor = choose(width / grey.width, height / grey.height);
    if (fit === "crop") {
      const [columns, rows] = [width, height].map((side) => Math.max(1, Math.round(side / factor)));
      const [left, top] = [Math.floor((grey.width - columns) / 2), Math.floor((grey.height - rows) / 2)];
      return smaller(part(grey, left, left + columns, top, top + rows), width, height).pixels;
    }
    const [columns, rows] = [grey.width, grey.height].map((side) => Math.max(1, Math.floor(side * factor + 0.5)));
    return placed(smaller(grey, columns, rows), "box", height, width, background === "white" ? 255 : 0);
  }

  // Light on black, from 0 to 255: the border tells what is paper. null where all is paper.
  function onBlack(grey) {
    const paper = borderMedian(grey);
    const flip = paper > HALF;
    const low = flip ? 255 - paper : paper;
    const values = grey.pixels.map((value) => (flip ? 255 - value : value));
    const range = largest(values) - low;
    if (range < LEAST_CONTRAST) return null;
    const stretched = (value) => (value <= low ? 0 : Math.floor(((value - low) * 510 + range) / (2 * range)));
    return { pixels: values.map(stretched), width: grey.width, height: grey.height };
  }

  function borderMedian({ pixels, width, height }) {
    const counts = new Uint32Array(256);
    let total = 0;
    for (let y = 0; y < height; y++) {
      const step = y === 0 || y === height - 1 ? 1 : Math.max(1, width - 1);
      for (let x = 0; x < width; x += step, total++) counts[pixels[y * width + x]]++;
    }
    let below = 0;
    return counts.findIndex((count) => 2 * (below += count) >= total);
  }

  // The part that has ink on it; there is some.
  function cut({ pixels, width, height }) {
    let [left, right, top, bottom] = [width, 0, height, 0];
    for (let y = 0; y < height; y++) {
      for (let x = 0; x < width; x++) {
        if (pixels[y * width + x] < INK) continue;
        [left, right] = [Math.min(left, x), Math.max(right, x + 1)];
        [top, bottom] = [Math.min(top, y), Math.max(bottom, y + 1)];
      }
    }
    return part({ pixels, width }, left, right, top, bottom);
  }

  function part({ pixels, width }, left, right, top, bottom) {
    const cut = new Uint8Array((right - left) * (bottom - top));
    for (let y = top; y < bottom; y++) {
      cut.set(pixels.subarray(y * width + left, y * width + right), (y - top) * (right - left));
    }
    return { pixels: cut, width: right - left, height: bottom - top };
  }

  // Another size by area: each new pixel is the mean of what it covers.
  function smaller({ pixels, width, height }, columns, rows) {
    const across = overlaps(width, columns);
    const down = overlaps(height, rows);
    const narrow = new Float64Array(height * columns);
    for (let y = 0; y < height; y++) {
      for (let column = 0; column < columns; column++) {
        let sum = 0;
        for (const [x, share] of across[column]) sum += share * pixels[y * width + x];
        narrow[y * columns + column] = sum;
      }
    }
    const whole = width * height;
    const result = new Uint8Array(columns * rows);
    for (let row = 0; row < rows; row++) {
      for (let column = 0; column < columns; column++) {
        let sum = 0;
        for (const [y, share] of down[row]) sum += share * narrow[y * columns + column];
        result[row * columns + column] = Math.floor((2 * sum + whole) / (2 * whole));
      }
    }
    return { pixels: result, width: columns, height: rows };
  }

  // For each of `parts` equal parts of `size` pixels: which pixels it covers, [[index, share], …], in parts of a pixel.
  function overlaps(size, parts) {
    return Array.from({ length: parts }, (_, part) => {
      const covered = [];
      for (let index = Math.floor((part * size) / parts); index * parts < (part + 1) * size; index++) {
        const share = Math.min((part + 1) * size, (index + 1) * parts) - Math.max(part * size, index * parts);
        if (share > 0) covered.push([index, share]);
      }
      return covered;
    });
  }

  // On a field of its own: its centre of mass in the middle, or the middle of its box; nothing is cut off.
  function placed({ pixels, width: columns, height: rows }, centre, height, width, background = 0) {
    let [mass, across, down] = [0, 0, 0];
    for (let y = 0; y < rows; y++) {
      for (let x = 0; x < columns; x++) {
        const value = pixels[y * columns + x];
        [mass, across, down] = [mass + value, across + value * (2 * x + 1), down + value * (2 * y + 1)];
      }
    }
    const shift = (side, size, moment) => {
      if (centre === "box" || mass === 0) return Math.floor((side - size) / 2);
      const middle = Math.floor(((side + 2) * mass - moment) / (2 * mass)); // to the middle of a pixel
      return Math.min(Math.max(middle, 0), side - size);
    };
    const [left, top] = [shift(width, columns, across), shift(height, rows, down)];
    const field = new Uint8Array(width * height).fill(background);
    for (let y = 0; y < rows; y++) {
      field.set(pixels.subarray(y * columns, (y + 1) * columns), (top + y) * width + left);
    }
    return field;
  }

  // Every dot within `radius` of the line from (x, y) to (endX, endY).
  function line({ pixels, width, height }, x, y, endX, endY, radius) {
    const [alongX, alongY] = [endX - x, endY - y];
    const square = alongX * alongX + alongY * alongY;
    const first = (low, high) => Math.max(0, Math.floor(Math.min(low, high) - radius));
    const last = (low, high, size) => Math.min(size, Math.ceil(Math.max(low, high) + radius));
    for (let row = first(y, endY); row < last(y, endY, height); row++) {
      for (let column = first(x, endX); column < last(x, endX, width); column++) {
        const [fromX, fromY] = [column + 0.5 - x, row + 0.5 - y];
        const part = square && Math.min(1, Math.max(0, (fromX * alongX + fromY * alongY) / square));
        const [apartX, apartY] = [fromX - part * alongX, fromY - part * alongY];
        if (apartX * apartX + apartY * apartY <= radius * radius) pixels[row * width + column] = 255;
      }
    }
  }

  const smallest = (values) => values.reduce((found, value) => Math.min(found, value), Infinity);
  const largest = (values) => values.reduce((found, value) => Math.max(found, value), -Infinity);

  return { drawing, input };
})();
