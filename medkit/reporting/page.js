"use strict";
// What is folded is printed too.
(() => {
  const open = [];
  addEventListener("beforeprint", () => {
    for (const details of document.querySelectorAll("details:not([open])")) { details.open = true; open.push(details); }
  });
  addEventListener("afterprint", () => { for (const details of open.splice(0)) details.open = false; });
})();
