// Loads every page in a frame of each width, opens what is folded, and writes what cannot be reached into the document.
const wait = (milliseconds) => new Promise((done) => setTimeout(done, milliseconds));

function cutOff(page) {
  const found = [];
  for (const formula of page.querySelectorAll("mjx-math")) {
    const right = formula.getBoundingClientRect().right;
    for (let up = formula.parentElement; up; up = up.parentElement) {
      const how = page.defaultView.getComputedStyle(up).overflowX;
      if (how === "auto" || how === "scroll") break; // the reader can scroll to it
      const beyond = Math.round(right - up.getBoundingClientRect().right);
      if ((how === "hidden" || how === "clip") && beyond > 1) {
        found.push(`cuts ${beyond} pixels off ${formula.closest(".math").id || formula.closest(".math").textContent.slice(0, 40)}`);
        break;
      }
    }
  }
  const wider = page.documentElement.scrollWidth - page.defaultView.innerWidth;
  if (wider > 1) found.push(`is ${wider} pixels wider than the window`);
  return found;
}

async function look(name, width) {
  const frame = document.createElement("iframe");
  frame.style = `width: ${width}px; height: 900px; border: 0`;
  frame.src = name;
  await new Promise((done) => { frame.onload = done; document.body.append(frame); });
  const page = frame.contentDocument;
  for (let i = 0; i < 100 && page.querySelector(".math") && !page.querySelector("mjx-container"); i++) await wait(100);
  await frame.contentWindow.MathJax?.startup?.promise; // all of them, in a long page
  await wait(300);
  page.querySelectorAll("details").forEach((folded) => { folded.open = true; });
  page.querySelectorAll(".toggle-hidden").forEach((folded) => folded.classList.remove("toggle-hidden"));
  frame.contentWindow.dispatchEvent(new Event("resize")); // as turning a phone does, which measures formulas again
  await wait(500);
  const found = page.querySelector(".math") && !page.querySelector("mjx-container") ? ["typesets no formula"] : cutOff(page);
  frame.remove();
  return found.map((what) => `${name} at ${width} pixels ${what}`);
}

(async () => {
  const said = [];
  for (const width of WIDTHS) for (const name of PAGES) said.push(...await look(name, width));
  const out = document.createElement("pre");
  out.id = "said";
  out.textContent = JSON.stringify(said);
  document.body.append(out);
})();
