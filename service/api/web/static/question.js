// What is known of the texts, as the form has it: the parameters of /predict.

const WORDS = { length: "length", alphabet: "only", pattern: "pattern" };

/** What the form has, without what it leaves to the service. */
const given = (form) => [...new FormData(form)].filter(([, value]) => value);

/** The query for pictures that are handed over now. */
export const queryOf = (form) => new URLSearchParams([...given(form), ["matrix", true]]);

/** The constraints in words, for when the form is folded. */
export const knownOf = (form) =>
  given(form)
    .filter(([name]) => name in WORDS)
    .map(([name, value]) => `${WORDS[name]} ${value}`)
    .join(", ");
