const line = document.getElementById("live");
const [words, spent] = [line.querySelector("span"), line.querySelector("progress")];
let tag = line.dataset.tag;
async function look() {
  try {
    const answer = await fetch("/", {cache: "no-store", headers: {"If-None-Match": tag}});
    if (answer.status === 200) {
      const next = new DOMParser().parseFromString(await answer.text(), "text/html");
      const aside = [...document.querySelectorAll(".scroll")].map(each => each.scrollLeft);
      document.querySelector("main").replaceWith(next.querySelector("main"));
      document.querySelectorAll(".scroll").forEach((each, i) => each.scrollLeft = aside[i] || 0);
      tag = next.getElementById("live").dataset.tag;
      words.textContent = next.getElementById("live").textContent.trim();
      if (next.getElementById("live").dataset.over) {
        spent.hidden = true;
        return;
      }
    }
    const status = await (await fetch("/status", {cache: "no-store"})).json();
    if (status.line) {
      words.textContent = status.line;
      spent.hidden = !("spent" in status);
      spent.value = status.spent || 0;
    }
    setTimeout(look, Number(line.dataset.pause));
  } catch {
    words.textContent = line.dataset.end;
    spent.hidden = true;
  }
}
look();
