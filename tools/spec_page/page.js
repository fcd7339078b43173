// Search and filters, and where the reader is in the contents. The state of the filters is in the address, so that a view
// can be sent to somebody. Without this script there are none, and all is shown.
"use strict";
(() => {
  const box = document.getElementById("page_filters");
  const search = document.getElementById("page_search");
  const radios = [...box.querySelectorAll("[name=status]")];
  const count = document.getElementById("page_count");
  const nothing = document.getElementById("page_nothing");
  const contents = document.querySelector(".contents");
  const total = document.querySelectorAll(".case").length;

  const plain = (text) => text.normalize("NFKC").toLowerCase().replace(/\s+/g, " ");

  // A scenario is found by its own words, and by those of its rule and its feature.
  const items = [...document.querySelectorAll("[data-verdict]")].map((element) => {
    const texts = [element.closest("article")];
    for (let part = element.closest("section"); part; part = part.parentElement.closest("section")) {
      texts.push(part.querySelector(":scope > header"));
    }
    return { element, text: plain(texts.filter(Boolean).map((part) => part.textContent).join(" ")) };
  });
  const containers = [...document.querySelectorAll(".scroll:has([data-verdict]), article:not(.case), #page_content section")];
  const entries = [...document.querySelectorAll(".contents li")].map((element) => {
    const header = document.getElementById(decodeURIComponent(element.querySelector("a").hash.slice(1)));
    return { element, header, section: header.parentElement };
  });
  const counts = entries.filter(({ section }) => section.matches(".feature")).map(({ element, section }) => {
    const place = document.createElement("span");
    place.className = "count";
    element.querySelector("a").after(" ", place);
    return { place, section };
  });

  const chosen = () => radios.find((radio) => radio.checked).value;
  const hide = (element, hidden) => element.classList.toggle("filtered-out", hidden);

  function show() {
    const words = plain(search.value).split(" ").filter(Boolean);
    const status = chosen();
    for (const { element, text } of items) {
      const found = words.every((word) => text.includes(word));
      hide(element, !found || (status !== "" && element.dataset.verdict !== status));
    }
    for (const element of containers) {
      hide(element, !element.querySelector("[data-verdict]:not(.filtered-out)"));
    }
    for (const { element, section } of entries) {
      hide(element, section.classList.contains("filtered-out"));
    }
    for (const { place, section } of counts) place.textContent = counted(section);
    for (const rows of document.querySelectorAll(".rows")) {
      rows.open = words.some((word) => plain(rows.textContent).includes(word));
    }
    const shown = document.querySelectorAll(".case:not(.filtered-out)").length;
    count.textContent = `${counted(document)} scenarios`;
    nothing.hidden = shown > 0 || total === 0;
    const such = status.replace("-", " ");
    nothing.textContent = words.length
      ? `No scenario${such && ` that is ${such}`} has all of these words, in itself, its rule or its feature: ${words.join(" ")}.`
      : `No scenario is ${such}.`;
    mark(words);
  }

  function counted(part) {
    const all = part.querySelectorAll(".case").length, shown = part.querySelectorAll(".case:not(.filtered-out)").length;
    return shown === all ? `${all}` : `${shown} of ${all}`;
  }

  // Where the browser cannot highlight, the words are found, but not marked.
  function mark(words) {
    if (!CSS.highlights) return;
    CSS.highlights.delete("found");
    if (!words.length) return;
    const pattern = new RegExp(words.map((word) => word.replace(/[.*+?^${}()|[\]\\]/g, "\\$&")).join("|"), "giu");
    const texts = document.createTreeWalker(document.getElementById("page_content"), NodeFilter.SHOW_TEXT);
    const ranges = [];
    while (texts.nextNode()) {
      for (const { index, 0: word } of texts.currentNode.data.matchAll(pattern)) {
        const range = new Range();
        range.setStart(texts.currentNode, index);
        range.setEnd(texts.currentNode, index + word.length);
        ranges.push(range);
      }
    }
    CSS.highlights.set("found", new Highlight(...ranges));
  }

  // The reader is in the last feature or rule that begins above the upper third of the window.
  function place() {
    const passed = entries.filter(({ element, header }) =>
      !element.classList.contains("filtered-out") && header.getBoundingClientRect().top < innerHeight / 3);
    for (const { element } of entries) element.querySelector("a").removeAttribute("aria-current");
    const here = passed.at(-1)?.element.querySelector("a");
    here?.setAttribute("aria-current", "true");
    if (!here || contents.scrollHeight <= contents.clientHeight) return;
    const line = here.getBoundingClientRect(), frame = contents.getBoundingClientRect();
    if (line.top < frame.top) contents.scrollTop -= frame.top - line.top + 32;
    if (line.bottom > frame.bottom) contents.scrollTop += line.bottom - frame.bottom + 32;
  }

  function read() {
    const address = new URLSearchParams(location.search);
    search.value = address.get("search") ?? "";
    const status = address.get("status") ?? "";
    (radios.find((radio) => radio.value === status) ?? radios[0]).checked = true;
  }

  function write(hash) {
    const address = new URLSearchParams();
    if (search.value) address.set("search", search.value);
    if (chosen()) address.set("status", chosen());
    const query = address.toString();
    history.replaceState(null, "", location.pathname + (query && `?${query}`) + hash);
  }

  // Who goes to an anchor wants to see it, whatever the filters say.
  function reveal() {
    const target = document.querySelector(":target");
    if (!target?.closest(".filtered-out")) return;
    search.value = "";
    radios[0].checked = true;
    write(location.hash);
    show();
    target.scrollIntoView();
  }

  box.addEventListener("input", () => {
    write("");
    show();
  });
  window.addEventListener("popstate", () => {
    read();
    show();
  });
  // Only now is it known where the address leads.
  window.addEventListener("hashchange", reveal);
  window.addEventListener("load", reveal);
  let waiting = 0;
  window.addEventListener("scroll", () => {
    waiting ||= requestAnimationFrame(() => {
      waiting = 0;
      place();
    });
  }, { passive: true });
  read();
  show();
  box.hidden = false;
  place();
})();
