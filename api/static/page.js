"use strict";

const GPU_GIB = [8, 12, 16, 24, 32, 48, 80, 141];
const GIB = 2 ** 30;
const EXAMPLE = {
  architectures: ["LlamaForCausalLM"], model_type: "llama", torch_dtype: "bfloat16", num_hidden_layers: 32, hidden_size: 4096,
  num_attention_heads: 32, num_key_value_heads: 8, intermediate_size: 14336, vocab_size: 128256, tie_word_embeddings: false,
};
const CONFIDENCE = {
  in_domain: "This model lies within what the predictor was trained on.",
  extrapolating: "This model lies outside what the predictor was trained on, so its probabilities are extrapolated.",
};
const QUANTIZED = ["int8", "int4", "ternary"];

const $ = (id) => document.getElementById(id);
let plan = null;

/** An element with attributes and children; text never becomes markup. */
function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

function size(bytes) {
  let value = bytes, unit = "B";
  for (const larger of ["KiB", "MiB", "GiB", "TiB"]) {
    if (value < 1024) break;
    value /= 1024;
    unit = larger;
  }
  return `${unit === "B" ? value : value.toFixed(2)} ${unit}`;
}

const count = (number) => number.toLocaleString("en");
const percent = (share) => `${(100 * share).toFixed(1)} %`;
const plural = (number, word) => `${count(number)} ${word}${number === 1 ? "" : "s"}`;
const colour = (precision) => (QUANTIZED.includes(precision) ? precision : "kept");

// ---- asking the service ----

class Problem extends Error {
  constructor({ message, hint, request_id }) {
    super(message);
    this.hint = hint;
    this.requestId = request_id;
  }
}

async function call(path, body) {
  const headers = { "Content-Type": "application/json" };
  if ($("key").value) headers.Authorization = `Bearer ${$("key").value}`;
  let response;
  try {
    response = await fetch(path, body === undefined ? { headers } : { method: "POST", headers, body });
  } catch {
    throw new Problem({ message: "The service cannot be reached.", hint: "Check the connection and try again." });
  }
  const version = response.headers.get("X-Predictor-Version");
  if (version) $("predictor").textContent = `predictor ${version}`;
  const document = await response.json();
  if (response.status === 401) $("key-field").hidden = false;
  if (!response.ok) throw new Problem(document.error);
  return document;
}

function show(problem) {
  const box = $("problem");
  box.hidden = problem === null;
  box.replaceChildren();
  if (problem === null) return;
  const id = problem.requestId ? `request ${problem.requestId}` : "";
  box.append(problem.message, element("small", {}, problem.hint ?? ""), element("small", {}, id));
  box.scrollIntoView({ block: "nearest" });
}

/** Run a task of a button: no second click meanwhile, and errors shown in words. */
async function busy(button, task) {
  button.disabled = true;
  show(null);
  try {
    await task();
  } catch (problem) {
    if (!(problem instanceof Problem)) console.error(problem);
    show(problem);
  } finally {
    button.disabled = false;
  }
}

/** The body of a request. The config goes in as it was typed: the service reads some values that JSON.parse does not. */
function requestBody() {
  const options = { policy: $("policy").value };
  if ($("objective").value) options.objective = $("objective").value;
  if ($("memory").value.trim()) options.memory = $("memory").value.trim();
  const model = $("model").value.trim(), config = $("config").value.trim();
  if (model) options.model = model;
  if (!config && !model) throw new Problem({ message: "There is no model yet.", hint: "Paste a config.json, or name a model." });
  const text = JSON.stringify(options);
  return config ? `${text.slice(0, -1)},"config":${config}}` : text;
}

async function makePlan() {
  $("result").hidden = true;
  plan = await call("v1/plans", requestBody());
  render();
  $("result").hidden = false;
  $("name").focus({ preventScroll: true });
  $("result").scrollIntoView();
}

// ---- showing a plan ----

function render() {
  const { model, totals } = plan;
  $("name").textContent = model.id ?? model.model_type;
  const facts = {
    parameters: count(model.parameters),
    "as stored": `${size(totals.raw_bytes)} (${model.quantization ?? model.dtype})`,
    planned: size(totals.bytes),
    saved: percent(totals.saved_fraction),
    "bits per weight": totals.bits_per_weight.toFixed(2),
    ...(plan.predictor.objective ? { "predicted from": plan.predictor.objective } : {}),
  };
  $("totals").replaceChildren(
    ...Object.entries(facts).map(([name, value]) => element("div", {}, element("dt", {}, name), element("dd", {}, value))),
  );
  $("confidence").textContent = CONFIDENCE[plan.confidence] ?? plan.confidence;
  $("warnings").replaceChildren(...plan.warnings.map((warning) => element("li", {}, warning)));
  $("exported").replaceChildren();
  renderBlocks();
  renderOther();
  renderMemory();
}

function renderBlocks() {
  const blocks = plan.stacks.flatMap((stack) => stack.blocks);
  const found = [...new Set(blocks.map((block) => block.precision))];
  $("legend").replaceChildren(
    ...found.map((precision) => {
      const number = blocks.filter((block) => block.precision === precision).length;
      const name = colour(precision) === "kept" ? `${precision}, kept` : precision;
      return element("li", {}, element("span", { class: `swatch ${colour(precision)}` }), `${name}: ${plural(number, "block")}`);
    }),
    element("li", {}, "height: probability that the block can be quantized"),
  );
  $("stacks").replaceChildren(...plan.stacks.map(renderStack));
  $("detail").textContent = "Point at a block, or walk with the arrow keys.";
}

function renderStack(stack) {
  const strip = element("div", { class: "strip", role: "group", "aria-label": `Blocks of the ${stack.name}` });
  strip.append(...stack.blocks.map((block, position) => renderBlock(block, position === 0)));
  strip.style.setProperty("--blocks", stack.blocks.length);
  strip.addEventListener("keydown", walk);
  const bytes = stack.blocks.reduce((sum, block) => sum + block.bytes, 0);
  const title = `${stack.name}: ${plural(stack.blocks.length, "block")}, ${size(bytes)}`;
  return element("div", { class: "stack" }, element("h4", {}, title), strip);
}

/** A block is a button, so that it can be focused; of each strip only one is a tab stop, the arrow keys reach the rest. */
function renderBlock(block, first) {
  const words = `${block.path}: ${block.precision}, probability ${block.p_quantize.toFixed(2)}, ` +
    `${plural(block.parameters, "parameter")}, ${size(block.bytes)}, ${block.kind}`;
  const fill = element("span");
  fill.style.height = `${Math.max(6, 100 * block.p_quantize)}%`;
  const made = element("button", { type: "button", class: `block ${colour(block.precision)}`, "aria-label": words, title: words, tabindex: first ? 0 : -1 }, fill);
  for (const event of ["focus", "mouseenter", "click"]) made.addEventListener(event, () => { $("detail").textContent = words; });
  return made;
}

function walk(event) {
  const blocks = [...event.currentTarget.children];
  const at = blocks.indexOf(document.activeElement);
  const to = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: blocks.length - 1 }[event.key];
  if (to === undefined || !blocks[to]) return;
  event.preventDefault();
  blocks[at].tabIndex = -1;
  blocks[to].tabIndex = 0;
  blocks[to].focus();
}

function renderOther() {
  $("other").parentElement.tabIndex = plan.other.length > 10 ? 0 : -1; // what scrolls must do so by keyboard too
  $("other").tBodies[0].replaceChildren(
    ...plan.other.map((group) => {
      const cells = [group.path, count(group.parameters), group.precision, size(group.bytes)];
      return element("tr", {}, ...cells.map((cell) => element("td", {}, cell)));
    }),
  );
}

function renderMemory() {
  $("memory-bars").replaceChildren(
    ...GPU_GIB.map((gib) => {
      const share = plan.totals.bytes / (gib * GIB);
      const verdict = share <= 1 ? `${percent(share)} used` : `needs ${Math.ceil(share)} of them`;
      const bar = element("meter", { min: 0, max: 1, high: 0.9, optimum: 0, value: Math.min(share, 1), "aria-label": `${gib} GiB: ${verdict}` });
      return element("div", { class: "gpu" }, element("span", {}, `${gib} GiB`), bar, element("span", {}, verdict));
    }),
  );
}

// ---- exports ----

async function listTools() {
  const { tools } = await call("v1/exports");
  $("tool").replaceChildren(...tools.map((tool) => element("option", { value: tool.name }, tool.name)));
}

async function showExport() {
  if (!$("tool").options.length) await listTools();
  const made = await call(`v1/exports/${$("tool").value}`, JSON.stringify({ plan, nearest: true }));
  const notes = [...made.warnings, ...made.differences.map((d) => `${d.path}: ${d.exported} instead of ${d.planned}, since ${d.reason}`)];
  $("exported").replaceChildren(
    element("p", {}, `${size(made.bytes)} for ${made.tool}; checked: ${made.verified}`),
    element("ul", {}, ...notes.slice(0, 20).map((note) => element("li", {}, note))),
    renderFile("How to use it", made.usage),
    ...made.files.map((file) => renderFile(file.name, file.content)),
  );
}

function renderFile(name, content) {
  const button = element("button", { type: "button", class: "small" }, "Copy");
  button.addEventListener("click", () => copy(content, button));
  return element("article", {}, element("strong", {}, name), " ", button, element("pre", { tabindex: 0 }, content));
}

async function copy(text, button) {
  const label = button.textContent;
  try {
    await navigator.clipboard.writeText(text);
    button.textContent = "Copied";
  } catch {
    button.textContent = "Select and copy by hand";
  }
  setTimeout(() => { button.textContent = label; }, 2000);
}

// ---- events ----

$("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  busy($("plan"), makePlan);
});
$("ask").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) $("ask").requestSubmit();
});
$("example").addEventListener("click", () => { $("config").value = JSON.stringify(EXAMPLE, null, 2); });
$("file").addEventListener("change", async () => { $("config").value = await $("file").files[0].text(); });
$("export").addEventListener("click", () => busy($("export"), showExport));
$("copy-plan").addEventListener("click", () => copy(JSON.stringify(plan, null, 2), $("copy-plan")));
listTools().catch(() => {}); // a service that asks for a key answers later
