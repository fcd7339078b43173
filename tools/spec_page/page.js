// Search and filters. Their state is in the address, so that a view can be sent to somebody.
// Without this script there are none, and all is shown.
"use strict";
(() => {
  const box = document.getElementById("page_filters");
  const search = document.getElementById("page_search");
  const radios = [...box.querySelectorAll("[name=status]")];
  const count = document.getElementById("page_count");
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
  const containers = [...document.querySelectorAll(".scroll:has([data-verdict]), article:not(.case), section")];
  const entries = [...document.querySelectorAll(".contents li")].map((element) => {
    const header = document.getElementById(decodeURIComponent(element.querySelector("a").hash.slice(1)));
    return { element, section: header.parentElement };
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
    const shown = document.querySelectorAll(".case:not(.filtered-out)").length;
    count.textContent = shown === total ? `${total} scenarios` : `${shown} of ${total} scenarios`;
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
  read();
  show();
  box.hidden = false;
})();
