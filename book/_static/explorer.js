// The copula explorer: <div class="cm2-explorer" data-family="gumbel" data-alpha="2.5"></div> becomes a sample with its tau and tail dependence.
(() => {
  const positive = () => 1 - Math.random();                 // (0, 1]
  const exponential = () => -Math.log(positive());
  const trapezium = (f, b, n = 400) => { let s = (f(1e-9) + f(b)) / 2; for (let i = 1; i < n; i++) s += f(b * i / n); return s * b / n; };

  // frailty V of Marshall and Olkin: U = psi(E / V); positive stable for Gumbel, gamma (by its exact inverse below) not needed
  const stable = a => { const t = Math.PI * Math.random(), e = exponential(); return Math.sin(t / a) / Math.sin(t) ** a * (Math.sin(t * (1 - 1 / a)) / e) ** (a - 1); };
  const families = {
    gumbel: { name: "Gumbel", range: [1, 12], draw: a => { if (a <= 1) return [positive(), positive()]; const v = stable(a); return [0, 0].map(() => Math.exp(-((exponential() / v) ** (1 / a)))); }, tau: a => 1 - 1 / a, tails: a => [0, 2 - 2 ** (1 / a)] },
    clayton: { name: "Clayton", range: [0.1, 12], draw: a => { const u = positive(), p = positive(); return [u, (1 + u ** -a * (p ** (-a / (1 + a)) - 1)) ** (-1 / a)]; }, tau: a => a / (a + 2), tails: a => [2 ** (-1 / a), 0] },
    frank: { name: "Frank", range: [-20, 20], draw: a => { const u = positive(), p = positive(); if (Math.abs(a) < 0.05) return [u, p]; const e = Math.exp(-a * u); return [u, -Math.log1p(p * Math.expm1(-a) / (p + (1 - p) * e)) / a]; }, tau: a => { const b = Math.abs(a); return b < 0.05 ? a / 9 : Math.sign(a) * (1 - 4 / b * (1 - trapezium(t => t / Math.expm1(t), b) / b)); }, tails: () => [0, 0] },
  };

  const start = box => {
    let family = box.dataset.family in families ? box.dataset.family : "gumbel";
    const options = Object.entries(families).map(([key, f]) => `<option value="${key}"${key === family ? " selected" : ""}>${f.name}</option>`).join("");
    box.innerHTML = `<canvas width="576" height="576" role="img"></canvas><div><label>Family <select>${options}</select></label><label>α <output></output><input type="range" step="0.1"></label><p aria-live="polite"></p></div>`;
    const [canvas, select, shown, slider, words] = ["canvas", "select", "output", "input", "p"].map(tag => box.querySelector(tag));
    const draw = () => {
      const { draw: pair, tau, tails, name } = families[family], alpha = +slider.value, pen = canvas.getContext("2d"), [low, high] = tails(alpha);
      pen.clearRect(0, 0, 576, 576);
      pen.fillStyle = getComputedStyle(box).color;           // the text's colour: readable in both modes
      pen.globalAlpha = 0.5;
      for (let i = 0; i < 1500; i++) { const [u, v] = pair(alpha); pen.fillRect(8 + 560 * u - 2, 568 - 560 * v - 2, 4, 4); }
      shown.value = alpha.toFixed(1);
      words.textContent = `Kendall’s τ = ${tau(alpha).toFixed(3)}; tail dependence: lower ${low.toFixed(3)}, upper ${high.toFixed(3)}`;
      canvas.setAttribute("aria-label", `1,500 draws from the ${name} copula with alpha ${alpha.toFixed(1)} on the unit square`);
    };
    const choose = alpha => { [slider.min, slider.max] = families[family].range; slider.value = alpha; draw(); };
    select.onchange = () => { family = select.value; choose(family === "frank" ? 6 : 2.5); };
    slider.oninput = draw;
    new MutationObserver(draw).observe(document.documentElement, { attributes: true, attributeFilter: ["data-theme"] });
    choose(box.dataset.alpha || 2.5);
  };
  const all = () => document.querySelectorAll(".cm2-explorer").forEach(start);
  document.readyState === "loading" ? document.addEventListener("DOMContentLoaded", all) : all();
})();
