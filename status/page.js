// Fetches the page anew and changes what differs, so that the reader's place,
// selection and focus stay.
const every = 5000;
const live = document.getElementById("live"), note = document.getElementById("note");

function merge(old, fresh) {
  if (old.isEqualNode(fresh)) return;
  const from = [...old.childNodes], to = [...fresh.childNodes];
  if (from.length === 0 || from.length !== to.length || !old.cloneNode().isEqualNode(fresh.cloneNode())) old.replaceWith(fresh);
  else from.forEach((node, i) => merge(node, to[i]));
}

async function update() {
  if (!live.checked || document.hidden) return;
  try {
    const response = await fetch("", { cache: "no-store", signal: AbortSignal.timeout(every) });
    if (!response.ok) throw new Error(response.statusText);
    const fresh = new DOMParser().parseFromString(await response.text(), "text/html");
    merge(document.querySelector("main"), fresh.querySelector("main"));
    document.title = fresh.title;
    note.textContent = "";
  } catch {
    note.textContent ||= "No answer since " + new Date().toLocaleTimeString() + ": this is how it was before.";
  }
}

live.parentElement.hidden = false;
setInterval(update, every);
