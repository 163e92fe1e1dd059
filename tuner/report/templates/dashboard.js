const line = document.getElementById("live");
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
      line.textContent = next.getElementById("live").textContent;
      if (next.getElementById("live").dataset.over) return;
    }
    setTimeout(look, Number(line.dataset.pause));
  } catch {
    line.textContent = line.dataset.end;
  }
}
setTimeout(look, Number(line.dataset.pause));
