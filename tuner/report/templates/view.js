const main = document.getElementById("view");
const given = JSON.parse(main.dataset.given);
const element = id => document.getElementById(id);
const canvas = element("canvas"), context = canvas.getContext("2d");
const values = {}, boxes = {};
let frame = 0, picture = null, peaks = [], before = null;
let sight = {x: 0, y: 0, scale: 1};

async function ask(path, question) {
  const answer = await fetch(path, {
    method: "POST", headers: {"X-Secret": given.secret}, body: JSON.stringify(question)});
  const said = await answer.json();
  if (!answer.ok) throw new Error(said.error || answer.statusText);
  return said;
}

// Of many questions of a kind the last one counts: the others are not asked, or not listened to.
function latest(work) {
  let running = false, again = false;
  return async function run() {
    if (running) { again = true; return; }
    running = true;
    do {
      again = false;
      try { await work(); } catch (error) { element("said").textContent = error.message; }
    } while (again);
    running = false;
  };
}

const showPicture = latest(async () => {
  const asked = frame;
  const found = await ask("/picture", {frame: asked});
  const image = new Image();
  image.src = "data:image/png;base64," + found.png;
  await image.decode();
  const off = new OffscreenCanvas(image.width, image.height);
  const pixels = off.getContext("2d", {willReadFrequently: true});
  pixels.drawImage(image, 0, 0);
  const fresh = picture === null;
  picture = {...found, frame: asked, off, pixels,
             grey: pixels.getImageData(0, 0, image.width, image.height)};
  shade();
  if (fresh) whole();
  draw();
});

const showPeaks = latest(async () => {
  const asked = frame;
  const found = await ask("/peaks", {frame: asked, settings: values});
  if (asked !== frame) return;
  peaks = found.peaks;
  element("found").textContent = `${found.n} peak${found.n === 1 ? "" : "s"}, ${found.hit ? "a hit" : "no hit"}.`;
  draw();
});

const share = (part, of) => of ? `${(100 * part / of).toFixed(1)} %` : "–";

function tell(effect) {
  element("hits").textContent = `${effect.hits} of ${effect.n} frames are hits`;
  element("rate").textContent = effect.rate === null ? "no rate predicted yet"
    : `${(100 * effect.rate).toFixed(1)} ± ${(100 * effect.sd).toFixed(1)} % indexed, predicted`;
  element("stage").textContent = effect.stage + (effect.far ? "; the run is unlike those that the map was fitted to" : "");
  const then = before && `${given.recommended ? "recommended" : "usual"}: ${before.hits} hits` +
    (before.rate === null ? "" : `, ${(100 * before.rate).toFixed(1)} %`);
  element("hits-then").textContent = `median ${effect.median} peaks` + (then ? `; ${then}` : "");
}

const showEffect = latest(async () => {
  before = await ask("/effect", {settings: {}});
  tell(await ask("/effect", {settings: values}));
});

function shade() {
  const most = Number(element("grey").value), [dark, bright] = [-2, 30];
  const table = new Uint8ClampedArray(256);
  for (let i = 0; i < 255; i++) {
    const sigma = dark + (bright - dark) * i / 254;
    table[i] = 255 * (1 - Math.sqrt(Math.min(Math.max((sigma - 1) / (most - 1), 0), 1)));
  }
  const shown = new ImageData(picture.grey.width, picture.grey.height);
  for (let i = 0; i < shown.data.length; i += 4) {
    const value = picture.grey.data[i];
    if (value === 255) {
      shown.data[i] = 205; shown.data[i + 1] = 215; shown.data[i + 2] = 230;
    } else {
      shown.data[i] = shown.data[i + 1] = shown.data[i + 2] = table[value];
    }
    shown.data[i + 3] = 255;
  }
  picture.pixels.putImageData(shown, 0, 0);
}

function whole() {
  const scale = canvas.width / Math.max(picture.width, picture.height);
  sight = {scale, x: (canvas.width / scale - picture.width) / 2, y: (canvas.height / scale - picture.height) / 2};
}

function draw() {
  if (!picture) return;
  context.setTransform(1, 0, 0, 1, 0, 0);
  context.fillStyle = "#cdd7e6";
  context.fillRect(0, 0, canvas.width, canvas.height);
  const {scale, x, y} = sight, [bx, by] = picture.beam, [ox, oy] = picture.origin;
  context.imageSmoothingEnabled = scale * picture.step < 1;
  context.drawImage(picture.off, x * scale, y * scale, picture.off.width * picture.step * scale, picture.off.height * picture.step * scale);
  const dot = devicePixelRatio || 1;
  context.lineWidth = dot;
  context.font = `${12 * dot}px system-ui`;
  if (element("rings").checked) {
    context.strokeStyle = context.fillStyle = "#00785a";
    for (const [d, radius] of picture.rings) {
      context.beginPath();
      context.arc((bx + x) * scale, (by + y) * scale, radius * scale, 0, 7);
      context.stroke();
      context.fillText(`${d} Å`, (bx + x + radius * 0.7072) * scale + 3, (by + y - radius * 0.7072) * scale);
    }
    context.beginPath();
    context.moveTo((bx + x) * scale - 8 * dot, (by + y) * scale); context.lineTo((bx + x) * scale + 8 * dot, (by + y) * scale);
    context.moveTo((bx + x) * scale, (by + y) * scale - 8 * dot); context.lineTo((bx + x) * scale, (by + y) * scale + 8 * dot);
    context.stroke();
  }
  if (picture.frame === frame) {
    context.strokeStyle = "#c04a00";
    const size = Math.max(6 * dot, 4 * scale);
    for (const [px, py] of peaks) {
      context.strokeRect((ox + px + x) * scale - size / 2, (oy - py + y) * scale - size / 2, size, size);
    }
  }
}

function fit() {
  const width = Math.round(canvas.clientWidth * (devicePixelRatio || 1));
  if (width && width !== canvas.width) {
    const grown = width / (canvas.width || width);
    canvas.width = canvas.height = width;
    sight.scale *= grown;
    draw();
  }
}

function turn(by) {
  frame = (frame + by + given.frames.length) % given.frames.length;
  element("name").textContent = `${given.frames[frame]} (${frame + 1} of ${given.frames.length}):`;
  element("found").textContent = "";
  peaks = [];
  showPicture();
  showPeaks();
}

async function nextHit() {
  for (let i = 1; i <= given.frames.length; i++) {
    const place = (frame + i) % given.frames.length;
    if ((await ask("/peaks", {frame: place, settings: values})).hit) { turn(i); return; }
  }
  element("said").textContent = "no frame of the sample is a hit";
}

function set(name, value) {
  values[name] = value;
  const {slider, about} = boxes[name];
  slider.value = about.log ? Math.log(value) : value;
  show(name);
}

function show(name) {
  const {shown, about} = boxes[name], value = values[name];
  shown.textContent = value === 0 && about.zero ? about.zero : `${Number(value.toPrecision(4))} ${about.unit}`;
  shown.classList.toggle("moved", value !== about.value);
}

function changed() {
  element("said").textContent = "";
  showPeaks();
  showEffect();
}

for (const about of given.sliders) {
  const label = document.createElement("label"), line = document.createElement("span");
  const slider = document.createElement("input"), shown = document.createElement("b");
  label.className = "slider";
  line.append(about.label, shown);
  label.title = about.name;
  Object.assign(slider, {type: "range", id: about.name,
    min: about.log ? Math.log(about.low) : about.low, max: about.log ? Math.log(about.high) : about.high,
    step: about.whole && !about.log ? 1 : "any"});
  label.append(line, slider);
  element("sliders").append(label);
  boxes[about.name] = {slider, shown, about};
  set(about.name, about.value);
  slider.addEventListener("input", () => {
    let value = about.log ? Math.exp(Number(slider.value)) : Number(slider.value);
    value = about.whole ? Math.round(value) : Number(value.toPrecision(3));
    values[about.name] = value;
    // So that they remain a set: no fewer pixels at most than at least.
    if (values.max_pix_count < values.min_pix_count) {
      set(about.name === "max_pix_count" ? "min_pix_count" : "max_pix_count", value);
    }
    show(about.name);
    changed();
  });
}

element("recommended").textContent = given.recommended ? "recommended" : "as it was";
element("recommended").onclick = () => { for (const about of given.sliders) set(about.name, about.value); changed(); };
element("use").onclick = async () => {
  try { element("said").textContent = (await ask("/use", {settings: values})).said; }
  catch (error) { element("said").textContent = error.message; }
};
element("back").onclick = () => turn(-1);
element("on").onclick = () => turn(1);
element("hit").onclick = nextHit;
element("whole").onclick = () => { if (picture) { whole(); draw(); } };
element("rings").onchange = draw;
element("grey").oninput = () => { if (picture) { shade(); draw(); } };
document.addEventListener("keydown", event => {
  if (event.target.tagName === "INPUT" || event.ctrlKey || event.metaKey || event.altKey) return;
  const does = {ArrowLeft: () => turn(-1), ArrowRight: () => turn(1), h: nextHit, 0: element("whole").onclick};
  if (does[event.key]) does[event.key]();
});

const fingers = new Map();
function zoom(at, factor) {
  const box = canvas.getBoundingClientRect(), ratio = canvas.width / box.width;
  const x = (at[0] - box.left) * ratio, y = (at[1] - box.top) * ratio;
  sight.x += x / (sight.scale * factor) - x / sight.scale;
  sight.y += y / (sight.scale * factor) - y / sight.scale;
  sight.scale *= factor;
  draw();
}
canvas.addEventListener("wheel", event => {
  event.preventDefault();
  zoom([event.clientX, event.clientY], Math.exp(-event.deltaY / 400));
}, {passive: false});
canvas.addEventListener("pointerdown", event => {
  canvas.setPointerCapture(event.pointerId);
  fingers.set(event.pointerId, [event.clientX, event.clientY]);
});
canvas.addEventListener("pointermove", event => {
  const was = fingers.get(event.pointerId);
  if (!was) return;
  const now = [event.clientX, event.clientY];
  fingers.set(event.pointerId, now);
  if (fingers.size === 1) {
    const ratio = canvas.width / canvas.getBoundingClientRect().width / sight.scale;
    sight.x += (now[0] - was[0]) * ratio;
    sight.y += (now[1] - was[1]) * ratio;
    draw();
  } else {
    const other = [...fingers].find(([id]) => id !== event.pointerId)[1];
    const length = at => Math.hypot(at[0] - other[0], at[1] - other[1]);
    zoom([(now[0] + other[0]) / 2, (now[1] + other[1]) / 2], length(now) / Math.max(length(was), 1));
  }
});
for (const end of ["pointerup", "pointercancel"]) {
  canvas.addEventListener(end, event => fingers.delete(event.pointerId));
}

new ResizeObserver(fit).observe(canvas);
fit();
turn(0);
showEffect();
// The lattices come one after the other.
setInterval(() => { if (!document.hidden) showEffect(); }, 5000);
