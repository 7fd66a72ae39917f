// The pad: strokes by mouse, finger, pen or keys. Each is [x, y, x, y, …] from 0 to 1, whatever the screen is.
"use strict";

globalThis.pad = (() => {
  const PEN = 0.07; // of the pad's side
  const STEP = 1 / 32;
  const DIRECTIONS = {
    ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1],
    Home: [-1, -1], PageUp: [1, -1], End: [-1, 1], PageDown: [1, 1],
  };

  // On a canvas; `draws`: whether one can draw on it, else it only shows pictures. `changed(strokes, finished)` is told
  // of every change, `say(text)` what keys have done.
  function on(canvas, draws, changed, say) {
    const context = canvas.getContext("2d");
    let strokes = [];
    let drawing = null; // the pointer whose stroke is the last one
    let pen = null; // of the keys: {x, y, down}
    let picture = null; // shown instead of strokes

    function draw() {
      const side = canvas.width;
      const colours = getComputedStyle(canvas);
      context.clearRect(0, 0, side, side);
      if (picture) {
        const factor = Math.min(side / picture.width, side / picture.height);
        const [width, height] = [picture.width * factor, picture.height * factor];
        context.drawImage(picture, (side - width) / 2, (side - height) / 2, width, height);
      }
      context.strokeStyle = context.fillStyle = colours.color;
      [context.lineWidth, context.lineCap, context.lineJoin] = [PEN * side, "round", "round"];
      for (const stroke of strokes) {
        context.beginPath();
        context.moveTo(stroke[0] * side, stroke[1] * side);
        for (let index = 0; index < stroke.length; index += 2) {
          context.lineTo(stroke[index] * side, stroke[index + 1] * side);
        }
        context.stroke();
      }
      if (pen && document.activeElement === canvas) {
        context.beginPath();
        context.arc(pen.x * side, pen.y * side, (PEN * side) / 2 + 2, 0, 2 * Math.PI);
        context.lineWidth = side / 150;
        context.strokeStyle = colours.accentColor;
        context.stroke();
      }
    }

    // The canvas has as many dots as the screen; the strokes are drawn anew.
    function fit() {
      const side = Math.max(1, Math.round(canvas.clientWidth * (globalThis.devicePixelRatio || 1)));
      if (canvas.width !== side) [canvas.width, canvas.height] = [side, side];
      draw();
    }

    function tell(finished) {
      draw();
      changed(strokes, finished);
    }

    function begin(...point) {
      picture = null;
      strokes.push(point);
    }

    const within = (value) => Math.min(1, Math.max(0, Math.round(value * 1e5) / 1e5));

    function add(event) {
      const { left, top, width, height } = canvas.getBoundingClientRect();
      strokes.at(-1).push(within((event.clientX - left) / width), within((event.clientY - top) / height));
    }

    canvas.classList.toggle("draws", draws);
    if (draws) {
      canvas.tabIndex = 0;
      listen();
    }
    new ResizeObserver(fit).observe(canvas);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
    fit();
    return { clear, undo, show };

    function listen() {
      canvas.addEventListener("pointerdown", (event) => {
        if (drawing !== null || event.button !== 0) return;
        drawing = event.pointerId;
        pen = null;
        canvas.setPointerCapture(drawing);
        begin();
        add(event);
        tell(false);
      });
      canvas.addEventListener("pointermove", (event) => {
        if (event.pointerId !== drawing) return;
        const between = event.getCoalescedEvents?.() ?? [];
        for (const one of between.length ? between : [event]) add(one);
        tell(false);
      });
      for (const end of ["pointerup", "pointercancel", "lostpointercapture"]) {
        canvas.addEventListener(end, (event) => {
          if (event.pointerId !== drawing) return;
          drawing = null;
          tell(true);
        });
      }
      canvas.addEventListener("contextmenu", (event) => event.preventDefault()); // of a finger that rests
      canvas.addEventListener("touchmove", (event) => event.preventDefault(), { passive: false });

      canvas.addEventListener("keydown", (event) => {
        const direction = DIRECTIONS[event.key];
        if (event.altKey || ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() !== "z")) return;
        if (direction) {
          const step = event.shiftKey ? STEP / 4 : STEP;
          pen = pen ?? { x: 0.5, y: 0.25, down: false };
          pen = { ...pen, x: within(pen.x + step * direction[0]), y: within(pen.y + step * direction[1]) };
          if (pen.down) strokes.at(-1).push(pen.x, pen.y);
          if (pen.down) tell(false);
          else draw();
        } else if (event.key === " " || event.key === "Enter") {
          pen = pen ?? { x: 0.5, y: 0.25, down: false };
          pen.down = !pen.down;
          say(pen.down ? "Pen down" : "Pen up");
          if (pen.down) begin(pen.x, pen.y);
          tell(!pen.down);
        } else if (event.key === "Delete" || event.key === "Backspace" || event.key === "Escape") {
          clear();
        } else if ((event.ctrlKey || event.metaKey) && !event.shiftKey) {
          undo();
        } else {
          return;
        }
        event.preventDefault();
      });
      canvas.addEventListener("focus", draw);
      canvas.addEventListener("blur", () => {
        if (pen?.down) tell(true);
        pen = pen && { ...pen, down: false };
        draw();
      });
      }

      function clear() {
        [strokes, picture, drawing] = [[], null, null];
        pen = pen && { ...pen, down: false };
        tell(true);
      }

      function undo() {
        if (picture) return clear();
        if (drawing === null) strokes.pop();
        pen = pen && { ...pen, down: false };
        tell(true);
      }

      // A picture in place of the strokes.
      function show(image) {
        [strokes, picture, drawing] = [[], image, null];
        draw();
      }
    }

    return { on };
  })();
