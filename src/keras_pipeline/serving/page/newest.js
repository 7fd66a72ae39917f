// One question at a time, and of those that wait only the newest: no answer is ever shown over that of a newer one.
"use strict";

globalThis.newest = (() => {
  const DELAYS = [1, 2, 4, 8, 15]; // seconds until the same question is asked again
  const SLOW = 1500; // milliseconds

  // `answerTo(question)` gives a promise; `show(answer, question)` and `fail(error, seconds)` are told what came of it, but
  // not of a question that was withdrawn. `seconds`: until it is asked again by itself, null where that is of no use.
  // `wait()` is told when an answer takes long.
  function asker(answerTo, show, fail, wait) {
    let waiting = null; // the newest question that nobody has asked yet
    let asking = null;
    let failed = null; // the one that is asked again
    let failures = 0;
    let timer = null;

    async function run() {
      while (waiting !== null) {
        const question = waiting;
        [asking, waiting] = [question, null];
        const slow = setTimeout(() => question.withdrawn || wait(), SLOW);
        const [answer, error] = await answerTo(question.about).then((found) => [found, null], (fault) => [null, fault]);
        clearTimeout(slow);
        asking = null;
        if (error === null) {
          failures = 0;
          if (!question.withdrawn) show(answer, question.about);
        } else if (waiting === null && !question.withdrawn) {
          later(question, error);
        }
      }
    }

    function later(question, error) {
      const seconds = error.again === false ? null : error.after ?? DELAYS[Math.min(failures, DELAYS.length - 1)];
      failures += 1;
      failed = question;
      if (seconds !== null) timer = setTimeout(again, seconds * 1000);
      fail(error, seconds);
    }

    function start(question) {
      clearTimeout(timer);
      failed = null;
      waiting = question;
      if (asking === null) run();
    }

    function again() {
      if (failed !== null) start(failed);
    }

    function ask(about) {
      failures = 0;
      start({ about, withdrawn: false });
    }

    // Nobody wants to know any more.
    function withdraw() {
      clearTimeout(timer);
      if (asking !== null) asking.withdrawn = true;
      [waiting, failed] = [null, null];
    }

    return { ask, again, withdraw };
  }

  return { asker };
})();
