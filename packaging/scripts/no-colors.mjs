/** Stands in for supports-color, which debug tries to load and does without. */
export default {};
