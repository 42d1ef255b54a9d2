// The drawing area: pointer, touch and keyboard. White ink on black, as the digits of the data sets are.

const PEN = 1 / 10; // of the width: as thick as the pens of the data sets
const CELLS = 14; // the keyboard's grid

export class Drawing {
  /** `onChange(drawing)` is called after every stroke and while one goes on. */
  constructor(canvas, overlay, onChange, announce) {
    this.canvas = canvas;
    this.context = canvas.getContext("2d", { willReadFrequently: true });
    this.overlay = overlay.getContext("2d");
    this.onChange = onChange;
    this.announce = announce;
    this.strokes = []; // each a list of points {x, y} in 0..1
    this.current = null;
    this.cell = { x: Math.floor(CELLS / 2), y: Math.floor(CELLS / 2) };
    canvas.addEventListener("pointerdown", (event) => this.begin(event));
    canvas.addEventListener("pointermove", (event) => this.extend(event));
    for (const name of ["pointerup", "pointercancel"]) {
      canvas.addEventListener(name, (event) => this.end(event));
    }
    canvas.addEventListener("keydown", (event) => this.key(event));
    canvas.addEventListener("focus", () => this.showCursor(canvas.matches(":focus-visible")));
    canvas.addEventListener("blur", () => this.showCursor(false));
    this.paint();
  }

  get empty() {
    return this.strokes.length === 0;
  }

  clear() {
    this.strokes = [];
    this.current = null;
    this.paint();
    this.onChange(this);
  }

  undo() {
    this.strokes.pop();
    this.paint();
    this.onChange(this);
  }

  /** The drawing as a PNG file. */
  png() {
    return new Promise((resolve, reject) => {
      this.canvas.toBlob((blob) => (blob ? resolve(blob) : reject(new Error("no picture"))), "image/png");
    });
  }

  point(event) {
    const box = this.canvas.getBoundingClientRect();
    return { x: (event.clientX - box.left) / box.width, y: (event.clientY - box.top) / box.height };
  }

  begin(event) {
    if (event.button !== 0) return;
    event.preventDefault();
    this.canvas.focus({ preventScroll: true });
    this.showCursor(false);
    this.canvas.setPointerCapture(event.pointerId);
    this.current = { pointer: event.pointerId, points: [this.point(event)] };
    this.strokes.push(this.current.points);
    this.paint();
    this.onChange(this);
  }

  extend(event) {
    if (this.current?.pointer !== event.pointerId) return;
    const events = event.getCoalescedEvents?.() ?? [];
    for (const each of events.length > 0 ? events : [event]) this.current.points.push(this.point(each));
    this.paint();
    this.onChange(this);
  }

  end(event) {
    if (this.current?.pointer !== event.pointerId) return;
    this.current = null;
    this.onChange(this);
  }

  key(event) {
    const steps = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    const step = steps[event.key];
    if (step) {
      const before = this.center();
      this.cell.x = Math.min(CELLS - 1, Math.max(0, this.cell.x + step[0]));
      this.cell.y = Math.min(CELLS - 1, Math.max(0, this.cell.y + step[1]));
      if (event.shiftKey) this.stroke([before, this.center()]);
      else this.announce(`Row ${this.cell.y + 1}, column ${this.cell.x + 1}`);
    } else if (event.key === " " || event.key === "Enter") {
      this.stroke([this.center()]);
    } else if (event.key === "Delete" || event.key === "Escape") {
      this.clear();
      this.announce("Cleared");
    } else if (event.key === "Backspace" || (event.key === "z" && (event.ctrlKey || event.metaKey))) {
      this.undo();
    } else {
      return;
    }
    event.preventDefault();
    this.showCursor(true);
  }

  center() {
    return { x: (this.cell.x + 0.5) / CELLS, y: (this.cell.y + 0.5) / CELLS };
  }

  stroke(points) {
    this.strokes.push(points);
    this.paint();
    this.onChange(this);
  }

  paint() {
    const { width, height } = this.canvas;
    const context = this.context;
    context.fillStyle = "#000";
    context.fillRect(0, 0, width, height);
    context.strokeStyle = context.fillStyle = "#fff";
    context.lineWidth = PEN * width;
    context.lineCap = context.lineJoin = "round";
    for (const points of this.strokes) {
      context.beginPath();
      context.moveTo(points[0].x * width, points[0].y * height);
      // A point alone has no length, and a line of none is not drawn everywhere.
      if (points.length === 1) context.lineTo(points[0].x * width + 0.01, points[0].y * height);
      for (let i = 1; i < points.length; i += 1) {
        const [from, to] = [points[i - 1], points[i]];
        const middle = { x: ((from.x + to.x) / 2) * width, y: ((from.y + to.y) / 2) * height };
        context.quadraticCurveTo(from.x * width, from.y * height, middle.x, middle.y);
        if (i === points.length - 1) context.lineTo(to.x * width, to.y * height);
      }
      context.stroke();
    }
  }

  showCursor(visible) {
    const { width, height } = this.overlay.canvas;
    this.overlay.clearRect(0, 0, width, height);
    if (!visible) return;
    const size = width / CELLS;
    this.overlay.strokeStyle = "rgb(255 255 255 / 7%)";
    this.overlay.lineWidth = 1;
    this.overlay.beginPath();
    for (let i = 1; i < CELLS; i += 1) {
      this.overlay.moveTo(i * size, 0);
      this.overlay.lineTo(i * size, height);
      this.overlay.moveTo(0, i * size);
      this.overlay.lineTo(width, i * size);
    }
    this.overlay.stroke();
    this.overlay.strokeStyle = "#ff8f4c";
    this.overlay.lineWidth = 3;
    this.overlay.strokeRect(this.cell.x * size + 1.5, this.cell.y * size + 1.5, size - 3, size - 3);
  }
}

/** Paints numbers of an image (rows × columns × channels, 0 to `max`) onto a new canvas of that size. */
export function thumbnail(values, { height, width, channels, max_value: max }) {
  const canvas = document.createElement("canvas");
  canvas.width = width;
  canvas.height = height;
  const image = new ImageData(width, height);
  for (let i = 0; i < width * height; i += 1) {
    for (let channel = 0; channel < 3; channel += 1) {
      const value = values[i * channels + (channels === 1 ? 0 : channel)];
      image.data[i * 4 + channel] = (value / max) * 255;
    }
    image.data[i * 4 + 3] = 255;
  }
  canvas.getContext("2d").putImageData(image, 0, 0);
  return canvas;
}
