// Plays the reader: sorts a table, hides outlines, opens a lineage, answers the quiz, changes the theme.
addEventListener("load", () => {
  const $ = s => document.querySelector(s), said = {};
  const table = $("#arms table"), head = [...table.querySelectorAll("th button")].find(b => /^Difference/.test(b.textContent));
  const column = () => [...table.tBodies[0].rows].map(r => r.cells[head.closest("th").cellIndex].dataset.sort).filter(Boolean).map(Number);
  head.click(); said.up = column(); head.click(); said.down = column();
  const press = key => document.body.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true }));
  press("t"); said.truthOff = getComputedStyle($(".o-truth")).display; press("t"); said.truthOn = getComputedStyle($(".o-truth")).display;
  $("#pictures .frame").click(); said.dialog = $("dialog").open && /Seed/.test($("dialog").textContent); $("dialog").close();
  $(".quiz-start").click();
  said.hidden = [...document.querySelectorAll(".quizzing .tell")].every(e => getComputedStyle(e).visibility === "hidden");
  said.alts = [...new Set([...document.querySelectorAll(".quizzing img")].map(i => i.alt))];
  const shots = [...document.querySelectorAll(".quizzing .shot")];
  shots.forEach((s, i) => { if (i % 2) s.querySelector("[data-guess=real]").click();
    else s.querySelector(".frame").dispatchEvent(new KeyboardEvent("keydown", { key: "s", bubbles: true })); });
  said.right = shots.filter((s, i) => s.dataset.role === (i % 2 ? "real" : "synthetic")).length;
  said.score = $(".quiz-score").textContent; said.over = !$(".quizzing");
  $(".theme").click(); said.theme = document.documentElement.dataset.theme;
  said.ground = getComputedStyle(document.body).backgroundColor;
  dispatchEvent(new Event("beforeprint")); said.closed = document.querySelectorAll("details:not([open])").length;
  said.wide = document.documentElement.scrollWidth - innerWidth;
  said.fetched = performance.getEntriesByType("resource").map(r => r.name).filter(n => !n.startsWith("data:"));
  const out = document.createElement("pre"); out.id = "said"; out.textContent = JSON.stringify(said); document.body.append(out);
});
