// What is wrong with the page as it is laid out: a list of sentences.
(() => {
  const faults = [];
  const root = document.documentElement;
  if (root.scrollWidth > root.clientWidth)
    faults.push(`the page is ${root.scrollWidth} wide in a window of ${root.clientWidth}`);

  for (const figure of document.querySelectorAll("svg, img")) {
    if (figure.closest("[hidden]")) continue;
    const box = figure.getBoundingClientRect();
    const name = figure.getAttribute("aria-label") || figure.alt || figure.outerHTML.slice(0, 60);
    if (!(box.width > 0 && box.height > 0)) faults.push(`not drawn: ${name}`);
    if (figure.tagName === "IMG" && !(figure.complete && figure.naturalWidth > 0))
      faults.push(`broken image: ${name}`);
  }

  const texts = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const node = walker.currentNode;
    if (!node.data.trim() || node.parentElement.closest("title, style")) continue;
    if (!node.parentElement.checkVisibility()) continue; // in closed details
    const range = document.createRange();
    range.selectNodeContents(node);
    for (const box of range.getClientRects()) {
      if (box.width === 0 || box.height === 0) continue;
      const text = node.data.trim().slice(0, 40);
      const svg = node.parentElement.closest("svg");
      if (svg) {
        const frame = svg.getBoundingClientRect();
        if (box.left < frame.left - 1 || box.right > frame.right + 1 ||
            box.top < frame.top - 1 || box.bottom > frame.bottom + 1)
          faults.push(`cut off by its figure: ${text}`);
        if (box.height < 8) faults.push(`too small to read: ${text}`);
      }
      // A line's box is higher than its letters.
      const slack = box.height / 5;
      texts.push({
        text, node, left: box.left + 1, right: box.right - 1,
        top: box.top + slack, bottom: box.bottom - slack,
      });
    }
  }
  texts.sort((a, b) => a.top - b.top);
  texts.forEach((a, i) => {
    for (let j = i + 1; j < texts.length && texts[j].top < a.bottom; j++) {
      const b = texts[j];
      // What scrolls out of its own box is not seen over its neighbour.
      const hidden = [a, b].some((one) => {
        const frame = one.node.parentElement.closest(".scroll")?.getBoundingClientRect();
        return frame && one.left > frame.right;
      });
      if (a.node !== b.node && !hidden && a.left < b.right && b.left < a.right)
        faults.push(`overlap: ${a.text} | ${b.text}`);
    }
  });
  return faults;
})();
