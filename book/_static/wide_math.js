/* The theme cuts off inline formulas that are wider than the page is: on a phone, without a sign. Those, and only those, get a scroller. */
(() => {
  const isWide = (formula) => {
    const drawn = formula.querySelector("mjx-math");
    return drawn !== null && drawn.getBoundingClientRect().width > formula.getBoundingClientRect().width + 1;
  };
  const mark = () => {
    const formulas = [...document.querySelectorAll("span.math")];
    const wide = formulas.map(isWide); // read all, then write all: one layout
    formulas.forEach((formula, i) => formula.classList.toggle("cm2-wide", wide[i]));
  };
  window.addEventListener("load", () => {
    // set by the theme's configuration before MathJax is loaded
    const typeset = window.MathJax?.startup?.promise ?? Promise.resolve();
    typeset.then(mark);
  });
  window.addEventListener("resize", mark);
  document.addEventListener("toggle", mark, true); // formulas of a closed solution have no width
  document.addEventListener("click", () => setTimeout(mark), true);
})();
