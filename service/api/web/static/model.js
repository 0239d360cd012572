// Shows the model card of the served model.

const NAMES = { cer: "Wrong characters", exact_match: "Read without an error" };
const CARD = ["name", "version", "alphabet", "width", "height", "channels", "training_run",
  "data_digest", "min_confidence", "blank_index", "figures"];

/** Opens the dialog with the model card. */
export async function showModel(dialog) {
  const response = await fetch("model").catch(() => null);
  const card = response?.ok ? await response.json() : null;
  const rows = card ? rowsOf(card) : [["Model", "No model is ready."]];
  dialog.querySelector("dl").replaceChildren(...rows.flatMap(([name, value]) => {
    const term = document.createElement("dt");
    const description = document.createElement("dd");
    term.textContent = name;
    description.textContent = value;
    return [term, description];
  }));
  dialog.showModal();
}

function rowsOf(card) {
  const least = card.min_confidence;
  const others = Object.entries(card).filter(([name]) => !CARD.includes(name));
  return [
    ["Name", card.name],
    ["Version", card.version],
    ["Reads the characters", card.alphabet],
    ["Sees", `${card.width} × ${card.height} pixels, ${card.channels === 1 ? "gray" : "in colour"}`],
    ["Accepts", least ? `texts of at least ${share(least)}` : "every text"],
    ["Trained in the run", card.training_run],
    ["On the pictures", `SHA-256 ${card.data_digest.slice(0, 12)}…`],
    ...others.map(([name, value]) => [worded(name), String(value)]),
    ...figureRows(card.figures),
  ];
}

/** Rows for measured figures; figures of a subset of the pictures are nested in them. */
function figureRows({ split, pictures, exact, exact_match_interval: interval, ...figures }, of = "") {
  const rows = [];
  const set = of || (split ? `${split} pictures` : "");
  const named = (name) => (set ? `${name}, ${set}` : name);
  if (pictures !== undefined && exact !== undefined) {
    const range = interval ? `; 95 % interval ${share(interval[0])} to ${share(interval[1])}` : "";
    rows.push([named(NAMES.exact_match), `${exact} of ${pictures}${range}`]);
    delete figures.exact_match;
  }
  for (const [name, value] of Object.entries(figures)) {
    if (value && typeof value === "object" && !Array.isArray(value)) {
      rows.push(...figureRows(value, worded(name).toLowerCase()));
    } else {
      const isShare = name in NAMES && typeof value === "number";
      rows.push([named(NAMES[name] ?? worded(name)), isShare ? share(value) : String(value)]);
    }
  }
  return rows;
}

const share = (value) => `${(100 * value).toFixed(1)} %`;

const worded = (name) => {
  const words = name.replaceAll("_", " ");
  return words[0].toUpperCase() + words.slice(1);
};
