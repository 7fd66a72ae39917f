// A picture that somebody chose, dropped or pasted, as pixels: grey, or red, green and blue.
"use strict";

globalThis.picture = (() => {
  const LARGEST_FILE = 20e6; // bytes
  const LARGEST_SIDE = 1024; // a larger picture is made smaller at once, to twice what the network takes at least

  // {layers: one of grey, or three, 0 … 255, width, height, image}; raises an Error, to be shown, where the file is no
  // picture.
  async function read(file, { input, preparation }) {
    if (file.size > LARGEST_FILE) {
      throw new Error(`“${file.name}” has ${Math.round(file.size / 1e6)} MB. Choose one of at most 20.`);
    }
    let image;
    try {
      image = await createImageBitmap(file);
    } catch {
      throw new Error(`“${file.name}” is no picture that this browser can read. Choose a PNG or JPEG file.`);
    }
    const largest = Math.max(LARGEST_SIDE, 2 * input.height, 2 * input.width);
    const factor = Math.min(1, largest / Math.max(image.width, image.height));
    const [width, height] = [image.width, image.height].map((side) => Math.max(1, Math.round(side * factor)));
    const canvas = Object.assign(document.createElement("canvas"), { width, height });
    const context = canvas.getContext("2d", { willReadFrequently: true });
    context.fillStyle = preparation?.background ?? "white"; // what is transparent is paper
    context.fillRect(0, 0, width, height);
    context.imageSmoothingQuality = "high";
    context.drawImage(image, 0, 0, width, height);
    const colours = context.getImageData(0, 0, width, height).data;
    const layers = Array.from({ length: input.channels }, () => new Uint8Array(width * height));
    for (let index = 0; index < width * height; index++) {
      const [red, green, blue] = colours.subarray(4 * index, 4 * index + 3);
      const grey = () => Math.floor((red * 19595 + green * 38470 + blue * 7471 + 32768) / 65536); // as Pillow does
      const values = layers.length === 1 ? [grey()] : [red, green, blue];
      for (const [channel, layer] of layers.entries()) layer[index] = values[channel];
    }
    return { layers, width, height, image };
  }

  // Call `taken(file)` for each file that is chosen with the button, dropped on the frame or pasted.
  function offer(button, frame, taken) {
    const first = (list) => [...(list?.files ?? [])].slice(0, 1).forEach(taken);
    button.addEventListener("change", () => {
      first(button);
      button.value = ""; // the same one may be chosen again
    });
    for (const kind of ["dragover", "dragleave", "drop"]) {
      document.addEventListener(kind, (event) => {
        event.preventDefault(); // else the browser leaves the page for the picture
        frame.classList.toggle("over", kind === "dragover");
        if (kind === "drop") first(event.dataTransfer);
      });
    }
    document.addEventListener("paste", (event) => first(event.clipboardData));
  }

  return { read, offer };
})();
