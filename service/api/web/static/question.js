// What the user knows about the texts: a form with the query parameters of /predict.

const SHOWN_ALTERNATIVES = 3;

/** The fields that have a value; the service has defaults for the others. */
const given = (form) =>
  [...form.elements].filter(({ name, value }) => name && value);

/** Makes the fields, and sets the accepted file types, from the API document. */
export async function makeFields(form, files) {
  const response = await fetch("openapi.json").catch(() => null);
  if (!response?.ok) return;
  const { parameters, ...operation } = (await response.json()).paths["/predict"].post;
  files.accept = operation["x-picture-types"];
  const fields = parameters
    // A region applies to one picture only, which has a button for it.
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

/** The query for pictures that are added now; before the fields are loaded, the page's defaults. */
export function queryOf(form) {
  const fields = given(form).map(({ name, value }) => [name, value]);
  const query = new URLSearchParams([...fields, ["matrix", true]]);
  if (!form.elements.alternatives) query.set("alternatives", SHOWN_ALTERNATIVES);
  return query;
}

/** The parameters in words, shown while the form is collapsed. */
export const knownOf = (form) =>
  given(form)
    .filter(({ name }) => name !== "alternatives")
    .map(({ labels, value }) => `${labels[0].textContent.trim().toLowerCase()} ${value}`)
    .join(", ");
