"use strict";
(() => {
  const $ = (s, e = document) => [...e.querySelectorAll(s)];
  const root = document.documentElement;

  // Theme: follows the system until the reader chooses; the choice is kept where the browser allows it.
  const themes = { get: () => { try { return localStorage.getItem("equipoise-theme"); } catch { return null; } },
                   set: v => { try { localStorage.setItem("equipoise-theme", v); } catch { /* a local file may not */ } } };
  const saved = themes.get();
  if (saved) root.dataset.theme = saved;
  const isDark = () => root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  const themed = () => $(".theme").forEach(b => { b.textContent = isDark() ? "Light" : "Dark"; });
  $(".theme").forEach(b => b.addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark"; themes.set(root.dataset.theme); themed(); }));
  themed();

  // Hover: the title of a mark, at once.
  const tip = document.createElement("div"); tip.id = "tip"; tip.hidden = true; document.body.append(tip);
  document.addEventListener("pointerover", e => {
    const mark = e.target.closest && e.target.closest(".mark");
    if (!mark) { tip.hidden = true; return; }
    const title = mark.querySelector(":scope > title");
    if (title) { mark.dataset.tip = title.textContent; title.remove(); mark.setAttribute("aria-label", mark.dataset.tip); }
    tip.textContent = mark.dataset.tip; tip.hidden = false; });
  document.addEventListener("pointermove", e => {
    if (tip.hidden) return;
    tip.style.left = Math.max(8, Math.min(e.clientX + 14, innerWidth - tip.offsetWidth - 8)) + "px";
    tip.style.top = Math.max(8, e.clientY - tip.offsetHeight - 12) + "px"; });

  // Sort.
  $("th button").forEach(button => button.addEventListener("click", () => {
    const th = button.closest("th"), body = th.closest("table").tBodies[0], i = th.cellIndex;
    const down = th.getAttribute("aria-sort") === "ascending";
    $("th", th.parentElement).forEach(x => x.removeAttribute("aria-sort"));
    th.setAttribute("aria-sort", down ? "descending" : "ascending");
    const key = row => { const c = row.cells[i]; return c.dataset.sort !== undefined ? Number(c.dataset.sort) : c.textContent.trim(); };
    const order = (a, b) => typeof a === "number" && typeof b === "number" ? a - b
      : typeof a === "number" ? -1 : typeof b === "number" ? 1 : a.localeCompare(b, undefined, { numeric: true });
    [...body.rows].sort((a, b) => (down ? -1 : 1) * order(key(a), key(b))).forEach(row => body.append(row)); }));

  // Outlines on and off, by button or key.
  const toggle = what => {
    const off = root.classList.toggle("no-" + what);
    $(`[data-toggle=${what}]`).forEach(b => b.setAttribute("aria-pressed", String(!off))); };
  $("[data-toggle]").forEach(b => b.addEventListener("click", () => toggle(b.dataset.toggle)));
  document.addEventListener("keydown", e => {
    if (e.ctrlKey || e.metaKey || e.altKey || /^(INPUT|TEXTAREA|SELECT)$/.test(e.target.tagName)) return;
    const what = { t: "truth", p: "prediction" }[e.key.toLowerCase()];
    if (what && $(`[data-toggle=${what}]`).length) toggle(what); });

  // Lineage in a dialog.
  const dialog = document.querySelector("dialog");
  $(".shot > .frame").forEach(frame => frame.addEventListener("click", () => {
    if (frame.closest(".quizzing")) return;
    const shot = frame.closest(".shot"), place = dialog.querySelector(".content");
    const picture = document.createElement("div");
    picture.className = "frame"; picture.append(frame.firstElementChild.cloneNode(true));
    place.replaceChildren(picture, shot.querySelector("template.lineage").content.cloneNode(true));
    dialog.showModal(); }));
  if (dialog) dialog.addEventListener("click", e => { if (e.target === dialog) dialog.close(); });

  // Quiz: which are real?
  $(".gallery.quiz").forEach(gallery => {
    const start = gallery.querySelector(".quiz-start"), shots = $(".shot", gallery), box = gallery.querySelector(".shots");
    const score = gallery.querySelector(".quiz-score"), help = gallery.querySelector(".quiz-help");
    const labels = new Map(shots.map(s => [s, [s.querySelector(".frame").getAttribute("aria-label"), s.querySelector("img").alt]]));
    const guesses = new Map();
    const hide = on => {
      gallery.classList.toggle("quizzing", on);
      start.setAttribute("aria-pressed", String(on)); start.textContent = on ? "Show the answers" : "Quiz: which are real?";
      help.hidden = !on;
      shots.forEach((s, i) => {
        s.querySelector(".guess").hidden = !on;
        $(".guess button", s).forEach(b => b.setAttribute("aria-pressed", "false"));
        s.querySelector(".frame").setAttribute("aria-label", on ? `Picture, real or synthetic? Press R or S` : labels.get(s)[0]);
        s.querySelector("img").alt = on ? "picture with hidden origin" : labels.get(s)[1]; }); };
    const end = () => {
      const right = shots.filter(s => guesses.get(s) === s.dataset.role).length, n = guesses.size;
      shots.forEach(s => { if (!guesses.has(s)) return;
        const a = document.createElement("span"); a.className = "answer";
        a.textContent = guesses.get(s) === s.dataset.role ? "✓ right" : `✗ you said ${guesses.get(s)}`;
        s.querySelector("figcaption").prepend(a); });
      if (n) score.textContent = `${right} of ${n}; guessing gives ${n / 2}.`;
      hide(false); };
    start.addEventListener("click", () => {
      if (gallery.classList.contains("quizzing")) { end(); return; }
      guesses.clear(); $(".answer", gallery).forEach(a => a.remove()); score.textContent = `0 of ${shots.length} guessed`;
      const order = shots.map(s => [Math.random(), s]).sort((a, b) => a[0] - b[0]);
      order.forEach(([, s]) => box.append(s));
      hide(true); });
    const guess = (shot, role) => {
      guesses.set(shot, role);
      $(".guess button", shot).forEach(b => b.setAttribute("aria-pressed", String(b.dataset.guess === role)));
      score.textContent = `${guesses.size} of ${shots.length} guessed`;
      if (guesses.size === shots.length) { end(); start.focus(); } };
    shots.forEach(s => {
      $(".guess button", s).forEach(b => b.addEventListener("click", () => guess(s, b.dataset.guess)));
      s.addEventListener("keydown", e => {
        if (!gallery.classList.contains("quizzing") || e.ctrlKey || e.metaKey || e.altKey) return;
        const role = { r: "real", s: "synthetic" }[e.key.toLowerCase()];
        if (!role) return;
        e.preventDefault();
        const next = s.nextElementSibling; guess(s, role);
        if (next && gallery.classList.contains("quizzing")) next.querySelector(".frame").focus(); }); });
  });

  // Print everything that is collapsed.
  let opened = [];
  addEventListener("beforeprint", () => { opened = $("details:not([open])"); opened.forEach(d => { d.open = true; }); });
  addEventListener("afterprint", () => opened.forEach(d => { d.open = false; }));
})();
