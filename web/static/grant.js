// The doorhanger works without this. It only knows two things better than the server: which time zone the
// browser is in, and the names of all there are.
const field = document.getElementById("tz");
const known = Intl.supportedValuesOf ? Intl.supportedValuesOf("timeZone") : [];

if (field && known.length > 0) {
  const list = document.getElementById("zones");
  list.replaceChildren(...known.map((name) => Object.assign(document.createElement("option"), { value: name })));
}
if (field && "fill" in field.dataset && field.value === "") {
  field.value = Intl.DateTimeFormat().resolvedOptions().timeZone ?? "";
}
