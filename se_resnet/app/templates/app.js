"use strict";

const $ = (id) => document.getElementById(id);
const largest = Number(document.body.dataset.largest);
const setLeft = (id, share) => { $(id).style.left = `${100 * share}%`; };
let latest = 0; // the answer to an earlier image is dropped
let chosen = null; // the user's file, not an example

function showStatus(text, refused = false) {
  $("status").textContent = text;
  $("status").classList.toggle("refused", refused);
}

function refuse(text) {
  $("shown").hidden = true;
  showStatus(text, true);
}

async function analyse(content, name, sample = null) {
  chosen = sample ? null : content;
  const number = ++latest;
  for (const button of document.querySelectorAll("[data-sample]"))
    button.setAttribute("aria-pressed", String(button === sample));
  if (content.size > largest)
    return refuse(`${name} cannot be used: it is larger than ${largest / 1e6} MB.`);
  $("result").setAttribute("aria-busy", "true");
  if ($("answer").getBoundingClientRect().top > 0.7 * innerHeight) $("answer").scrollIntoView();
  showStatus(`Analysing ${name} …`);
  try {
    // An example brings its scale; the field is for the user's images.
    const um = $("um") ? (sample ? sample.dataset.um : $("um").value) : null;
    const address = um === null ? "analyse" : `analyse?um_per_px=${encodeURIComponent(um)}`;
    const answer = await fetch(address, { method: "POST", body: content });
    const busy = answer.status === 503;
    const result = busy ? {} : await answer.json();
    if (number !== latest) return;
    if (busy) refuse("The program is busy with other images: try again in a few seconds.");
    else if (result.refused) refuse(`${name} cannot be used: it ${result.refused}.`);
    else await show(result, name, sample ? sample.dataset.diagnosis : "");
  } catch {
    if (number === latest) refuse("No answer: the program that serves this page has ended or failed. Start it again.");
  } finally {
    if (number === latest) $("result").setAttribute("aria-busy", "false");
  }
}

// Shows whether the call equals the known diagnosis of an example. A withheld call is neither.
function judge(diagnosis, call, withheld) {
  const right = call === diagnosis;
  $("truth").hidden = !diagnosis;
  $("truth").textContent = `Known diagnosis: ${diagnosis}.`;
  $("verdict").hidden = !diagnosis || withheld;
  $("verdict").textContent = right ? "✓ right" : "✗ wrong";
  $("verdict").className = `badge ${right ? "right" : "wrong"}`;
}

async function show(result, name, diagnosis) {
  const unlike = result.unlike_training_images;
  const call = unlike ? `no call, does not look like the training images: ${unlike}` : `called ${result.call}`;
  $("call").textContent = `${call[0].toUpperCase()}${call.slice(1)}`;
  judge(diagnosis, result.call, Boolean(unlike));
  $("uncertain").hidden = !result.uncertain || Boolean(unlike);
  $("probability").textContent = result.probability.toFixed(3);
  $("calibrated").textContent = result.calibrated_probability.toFixed(3);
  if ($("votes")) {
    $("votes").textContent = `${result.malignant_votes} of ${result.members} call malignant,` +
      ` standard deviation of their probabilities ${result.disagreement.toFixed(3)}`;
  }
  setLeft("marker", result.probability);
  $("scale").setAttribute("aria-label", `Probability of malignant ${result.probability.toFixed(3)}` +
    ` on a scale from 0 to 1, threshold ${Number($("threshold").dataset.at).toFixed(3)}`);
  $("image").src = result.image;
  $("image").alt = `${name}, as the network saw it`;
  $("image-below").src = result.image;
  $("evidence").textContent = `evidence for ${result.evidence}`;
  $("heat").src = result.heat;
  $("heat").alt = `Heat map of the evidence for the class on this side of the threshold`;
  $("nothing").hidden = result.hottest > 0;
  $("slider").hidden = !$("nothing").hidden && !(result.tiles > 1);
  $("caption").textContent = `${name}, ${result.width} × ${result.height} pixels`;
  const several = result.tiles > 1;
  $("over").hidden = !several;
  if (several) {
    $("whole").src = result.whole;
    $("whole").alt = `${name}, the whole image`;
    $("whole-below").src = result.whole;
    $("map").src = result.map;
    $("map").alt = "Map of the probability of malignant by tile";
    $("tiles").textContent = `Probability of malignant by tile, 0 clear to 1 bright: ${result.tiles} tiles` +
      ` of the image at ${result.um_per_px} µm per pixel, their mean where they overlap.`;
    $("caption").textContent += ". Below the map: the tile with the strongest evidence for the call.";
    await Promise.all(["whole", "whole-below", "map"].map((id) => $(id).decode()));
  }
  await Promise.all(["image", "image-below", "heat"].map((id) => $(id).decode()));
  $("shown").hidden = false;
  const judged = $("verdict").hidden ? "" : `, ${result.call === diagnosis ? "right" : "wrong"}`;
  showStatus(`${name}: ${call}${result.uncertain && !unlike ? ", uncertain" : ""}${judged}.`);
}

function setOpacity() {
  for (const heat of document.querySelectorAll(".heat")) heat.style.opacity = $("opacity").value / 100;
  $("percent").textContent = `${$("opacity").value} %`;
}

if ($("range")) {
  const { low, high } = $("range").dataset;
  setLeft("range", low);
  $("range").style.width = `${100 * (high - low)}%`;
}
setLeft("threshold", $("threshold").dataset.at);
// The colours of the scale change where the call changes.
$("scale").style.setProperty("--threshold", `${100 * $("threshold").dataset.at}%`);
$("opacity").addEventListener("input", setOpacity);
setOpacity();

function take(files) {
  if (files.length === 1) return analyse(files[0], files[0].name);
  if (!files.length) return;
  latest += 1; // the answer to an earlier image is dropped
  $("result").setAttribute("aria-busy", "false");
  refuse(`${files.length} files were dropped, and this page analyses one image at a time: drop one of them.` +
    " The command se_resnet.predict analyses many.");
}

// Otherwise choosing the same file again would cause no event.
$("file").addEventListener("click", () => { $("file").value = ""; });
$("file").addEventListener("change", () => take($("file").files));

if ($("um")) $("um").addEventListener("change", () => { if (chosen) analyse(chosen, chosen.name); });

for (const button of document.querySelectorAll("[data-sample]"))
  button.addEventListener("click", async () => {
    const { name, sample } = button.dataset;
    const answer = await fetch(sample).catch(() => null);
    if (answer?.ok) analyse(await answer.blob(), name, button);
    else refuse(`${name} cannot be loaded: its file was removed, or the program has ended or is busy.`);
  });

// On the whole page, because a browser would open a file that is dropped beside the field.
for (const kind of ["dragover", "drop", "dragleave"])
  document.addEventListener(kind, (event) => {
    event.preventDefault();
    $("drop").classList.toggle("over", kind === "dragover");
    if (kind === "drop") take(event.dataTransfer.files);
  });
