// What is known of the texts: a form with the query parameters of /predict.

const SHOWN_ALTERNATIVES = 3;

/** What the form has, without what it leaves to the service. */
const given = (form) =>
  [...form.elements].filter(({ name, value }) => name && value);

/** Takes fields and types of pictures from the API document. */
export async function makeFields(form, files) {
  const response = await fetch("openapi.json").catch(() => null);
  if (!response?.ok) return;
  const { parameters, ...operation } = (await response.json()).paths["/predict"].post;
  files.accept = operation["x-picture-types"];
  const fields = parameters
    // A region is of one picture, which has a button for it.
    .filter(({ name, schema }) => schema.type !== "boolean" && name !== "region")
    .map(fieldOf);
  form.prepend(...fields);
}

function fieldOf({ name, schema }) {
  const label = document.createElement("label");
  const input = document.createElement("input");
  const type = schema.anyOf[0];
  input.name = name;
  input.title = schema.description;
  input.autocapitalize = "none";
  if (type.type !== "string") {
    input.type = "number";
    input.min = type.minimum;
    input.max = type.maximum;
    input.step = type.type === "integer" ? 1 : "any";
  }
  input.placeholder = (schema.examples ?? []).join(", or ");
  if (name === "alternatives") input.value = SHOWN_ALTERNATIVES;
  label.append(`${schema.title} `, input);
  return label;
}

/** The query for pictures that are handed over now; before there are fields, the page's own. */
export function queryOf(form) {
  const fields = given(form).map(({ name, value }) => [name, value]);
  const query = new URLSearchParams([...fields, ["matrix", true]]);
  if (!form.elements.alternatives) query.set("alternatives", SHOWN_ALTERNATIVES);
  return query;
}

/** The parameters in words, for when the form is folded. */
export const knownOf = (form) =>
  given(form)
    .filter(({ name }) => name !== "alternatives")
    .map(({ labels, value }) => `${labels[0].textContent.trim().toLowerCase()} ${value}`)
    .join(", ");
