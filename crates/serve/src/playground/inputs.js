// What a person gives: a drawing, a picture, a row of a table, or numbers. Each pane makes a request
// {body, type, sample} and hands it to `send`; `sample` is the JSON input for the curl line, if any.

import { Drawing, thumbnail } from "./canvas.js";

const $ = (id) => document.getElementById(id);

const json = (input) => ({ body: JSON.stringify({ input }), type: "application/json", sample: input });

export class Inputs {
  constructor({ send, reset, announce, fail }) {
    this.send = send;
    this.reset = reset;
    this.fail = fail;
    this.model = null;
    this.next = 0; // the example that the button fills in next
    this.drawing = new Drawing($("canvas"), $("cursor"), () => this.drawn(), announce);
    $("undo").addEventListener("click", () => this.drawing.undo());
    $("clear").addEventListener("click", () => this.drawing.clear());
    for (const radio of document.querySelectorAll("input[name=mode]")) {
      radio.addEventListener("change", () => this.mode(radio.value));
    }
    this.bindPicture();
    this.bindTable();
    this.bindNumbers();
  }

  /** Shows the panes that suit a model's description. */
  show(model) {
    const same = this.model && this.model.name === model.name && JSON.stringify(this.model.input) === JSON.stringify(model.input);
    this.model = model;
    if (same) {
      this.again();
      return;
    }
    this.last = null;
    this.next = 0;
    const { kind, channels } = model.input;
    const draws = kind === "image" && channels === 1;
    $("modes").hidden = !draws;
    for (const pane of ["draw", "picture", "table", "numbers"]) $(`${pane}-pane`).hidden = true;
    $("examples").hidden = true;
    this.drawing.strokes = [];
    this.drawing.paint();
    this.forgetPicture();
    if (kind === "image") {
      const mode = draws ? "draw" : "picture";
      document.querySelector(`input[name=mode][value=${mode}]`).checked = true;
      this.mode(mode);
      this.thumbs();
    } else if (kind === "table") {
      this.form();
      $("table-pane").hidden = false;
      this.reset("Fill in the row, or use an example.");
    } else {
      $("numbers-label").textContent = model.input.expects;
      $("numbers").value = "";
      $("numbers-pane").hidden = false;
      $("numbers-example").hidden = model.samples.length === 0;
      this.reset("Enter the numbers, or use an example.");
    }
  }

  /** Sends the latest request again, after another version was chosen. */
  again() {
    if (this.last) this.send(this.last);
  }

  submit(request) {
    this.last = request;
    this.send(request);
  }

  mode(mode) {
    $("draw-pane").hidden = mode !== "draw";
    $("picture-pane").hidden = mode !== "picture";
    if (mode === "draw") this.drawn();
    else if (this.picture) this.submit(this.picture);
    else this.reset("Choose a picture, or one of the examples.");
  }

  // Drawing

  async drawn() {
    const empty = this.drawing.empty;
    $("undo").disabled = $("clear").disabled = empty;
    $("sheet-hint").hidden = !empty;
    if (empty) {
      this.last = null;
      this.reset("Draw something: the answer follows the pen.");
      return;
    }
    // While a stroke goes on, there is an answer only as fast as the server gives them.
    if (this.encoding) {
      this.stale = true;
      return;
    }
    this.encoding = true;
    try {
      do {
        this.stale = false;
        const body = await this.drawing.png();
        this.last = { body, type: "image/png" };
        if (!this.drawing.empty) await this.send(this.last);
      } while (this.stale && !this.drawing.empty);
    } finally {
      this.encoding = false;
    }
  }

  // Pictures

  bindPicture() {
    const drop = $("drop");
    $("file").addEventListener("change", () => {
      if ($("file").files.length > 0) this.choose($("file").files[0]);
      $("file").value = "";
    });
    drop.addEventListener("dragover", (event) => {
      event.preventDefault();
      drop.classList.add("over");
    });
    drop.addEventListener("dragleave", () => drop.classList.remove("over"));
    // A file dropped beside the frame must not replace the page.
    window.addEventListener("dragover", (event) => event.preventDefault());
    window.addEventListener("drop", (event) => {
      event.preventDefault();
      drop.classList.remove("over");
      const file = event.dataTransfer?.files[0];
      if (file && this.model?.input.kind === "image") this.choose(file);
    });
  }

  choose(file) {
    if (!["image/png", "image/jpeg"].includes(file.type)) {
      this.fail(`${file.name} is not a PNG or JPEG picture.`);
      return;
    }
    this.showPicture(URL.createObjectURL(file), file.name);
    this.picture = { body: file, type: file.type, file: file.name };
    this.toPicture();
  }

  /** Turns to the picture pane and asks about what is in it. */
  toPicture() {
    document.querySelector("input[name=mode][value=picture]").checked = true;
    this.mode("picture");
  }

  showPicture(url, name, tiny = false) {
    this.forgetPicture();
    const image = $("preview");
    this.url = url;
    image.src = url;
    image.alt = name;
    image.classList.toggle("tiny", tiny);
    image.hidden = false;
    $("drop-text").firstElementChild.textContent = "Choose another picture";
  }

  forgetPicture() {
    if (this.url?.startsWith("blob:")) URL.revokeObjectURL(this.url);
    this.url = null;
    this.picture = null;
    $("preview").hidden = true;
    $("preview").removeAttribute("src");
    $("drop-text").firstElementChild.textContent = "Choose a picture";
    for (const button of document.querySelectorAll(".thumb")) button.setAttribute("aria-pressed", "false");
  }

  thumbs() {
    const items = this.model.samples.map((sample, index) => {
      const button = document.createElement("button");
      button.type = "button";
      button.className = "thumb";
      button.setAttribute("aria-label", `Example ${index + 1}`);
      button.setAttribute("aria-pressed", "false");
      const isFile = typeof sample === "string";
      const url = isFile ? dataUrl(sample) : thumbnail(sample.flat(3), this.model.input).toDataURL();
      const image = document.createElement("img");
      image.src = url;
      image.alt = "";
      button.append(image);
      button.addEventListener("click", () => {
        this.showPicture(url, `Example ${index + 1}`, !isFile);
        button.setAttribute("aria-pressed", "true");
        this.picture = json(sample);
        this.toPicture();
      });
      const item = document.createElement("li");
      item.append(button);
      return item;
    });
    $("thumbs").replaceChildren(...items);
    $("examples").hidden = items.length === 0;
  }

  // Tables

  bindTable() {
    $("table-pane").addEventListener("submit", (event) => {
      event.preventDefault();
      const row = this.row();
      if (row) this.submit(json(row));
    });
    $("table-pane").addEventListener("reset", () => {
      for (const field of document.querySelectorAll("#columns [aria-invalid]")) field.removeAttribute("aria-invalid");
      this.last = null;
      this.reset("Fill in the row, or use an example.");
    });
    $("table-example").addEventListener("click", () => {
      const sample = this.sample();
      for (const field of document.querySelectorAll("#columns [data-column]")) {
        field.value = sample[field.dataset.column] ?? "";
        field.removeAttribute("aria-invalid");
      }
      this.submit(json(sample));
    });
  }

  sample() {
    const { samples } = this.model;
    this.next += 1;
    return samples[(this.next - 1) % samples.length];
  }

  form() {
    const fields = this.model.input.columns.map((column) => {
      const label = document.createElement("label");
      label.className = "field";
      const name = document.createElement("span");
      name.textContent = column.name.replaceAll("_", " ");
      const control = document.createElement(column.kind === "categorical" ? "select" : "input");
      if (column.kind === "categorical") {
        control.append(new Option("", ""), ...column.categories.map((category) => new Option(category, category)));
      } else {
        control.inputMode = "decimal";
        control.autocomplete = "off";
      }
      control.dataset.column = column.name;
      control.dataset.kind = column.kind;
      if (!column.optional) control.setAttribute("aria-required", "true");
      label.append(name, control);
      return label;
    });
    $("columns").replaceChildren(...fields);
    $("table-example").hidden = this.model.samples.length === 0;
  }

  /** The row in the form, or nothing after marking what is wrong in it. */
  row() {
    const row = {};
    const wrong = [];
    for (const field of document.querySelectorAll("#columns [data-column]")) {
      const text = field.value.trim();
      const number = Number(text.replace(",", "."));
      const numeric = field.dataset.kind === "numeric";
      const missing = text === "" && field.getAttribute("aria-required") === "true";
      if (missing || (numeric && text !== "" && !Number.isFinite(number))) wrong.push(field);
      else field.removeAttribute("aria-invalid");
      row[field.dataset.column] = text === "" ? null : numeric ? number : text;
    }
    if (wrong.length === 0) return row;
    for (const field of wrong) field.setAttribute("aria-invalid", "true");
    wrong[0].focus();
    const names = wrong.slice(0, 4).map((field) => field.dataset.column.replaceAll("_", " "));
    const more = wrong.length > names.length ? ` and ${wrong.length - names.length} more` : "";
    this.fail(`Please give a value for ${names.join(", ")}${more}.`);
    return null;
  }

  // Numbers

  bindNumbers() {
    $("numbers-pane").addEventListener("submit", (event) => {
      event.preventDefault();
      const text = $("numbers").value.trim();
      const values = text.replace(/[[\]\s,;]+/g, " ").trim().split(" ").map(Number);
      if (text === "" || values.some((value) => !Number.isFinite(value))) this.fail("Please enter numbers, separated by commas or spaces.");
      else this.submit(json(values));
    });
    $("numbers-example").addEventListener("click", () => {
      const sample = this.sample();
      $("numbers").value = sample.join(", ");
      this.submit(json(sample));
    });
  }
}

/** A base64 PNG or JPEG file as a URL. */
function dataUrl(base64) {
  return `data:${base64.startsWith("/9j/") ? "image/jpeg" : "image/png"};base64,${base64}`;
}
