// What cannot be read for its colours or the length of its lines: a list of sentences.
(() => {
  const faults = new Set();
  const channels = (colour) => colour.match(/[\d.]+/g).map(Number);
  const luminance = (rgb) => rgb.slice(0, 3)
    .map((c) => c / 255)
    .map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4))
    .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  const background = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const rgb = channels(getComputedStyle(at).backgroundColor);
      if (rgb.length < 4 || rgb[3] > 0) return rgb;
    }
    return [255, 255, 255];
  };
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const parent = walker.currentNode.parentElement;
    const text = walker.currentNode.data.trim();
    if (!text || parent.closest("title, style, noscript") || !parent.checkVisibility()) continue;
    const style = getComputedStyle(parent);
    const colour = channels(parent.closest("svg") ? style.fill : style.color);
    const [low, high] = [colour, background(parent)].map(luminance).sort((a, b) => a - b);
    const contrast = (high + 0.05) / (low + 0.05);
    if (contrast < 4.5) faults.add(`contrast ${contrast.toFixed(1)}: ${text.slice(0, 40)}`);
  }
  const canvas = document.createElement("canvas").getContext("2d");
  for (const block of document.querySelectorAll("p, dd, li")) {
    if (!block.checkVisibility() || block.querySelector("p, ul, img")) continue;
    const style = getComputedStyle(block);
    const text = block.textContent.replace(/\s+/g, " ").trim();
    canvas.font = style.font;
    const inside = block.clientWidth - parseFloat(style.paddingLeft) - parseFloat(style.paddingRight);
    const letters = (inside / canvas.measureText(text).width) * text.length;
    if (text.length > 90 && letters > 84) faults.add(`lines of ${Math.round(letters)} characters: ${text.slice(0, 40)}`);
  }
  return [...faults];
})();
