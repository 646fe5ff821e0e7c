// The console in the browser: it puts the pieces of HTML that the node sends in their
// places, draws two charts, and shows a watched request as it happens. All else is done by
// the node. There is no framework to know but htmx, which turns the links of the key
// explorer into requests, and uPlot, which draws.
"use strict";

(() => {
  const page = document.body.dataset.page;
  const prefix = document.body.dataset.prefix;
  const live = document.querySelector("[data-live]") !== null;

  // ---- pieces -------------------------------------------------------------------------

  let source = null; // the stream, while the page can be seen
  let retry = 0;     // the timer of the next attempt

  const say = (text) => {
    const p = document.getElementById("connection");
    if (p.textContent === text) return; // it would be read aloud again
    p.textContent = text;
    p.hidden = text === "";
  };

  const listen = () => {
    if (!live || source || document.hidden) return;
    clearTimeout(retry);
    source = new EventSource(prefix + "/events?page=" + encodeURIComponent(page));
    source.addEventListener("update", (e) => {
      say("");
      const update = JSON.parse(e.data);
      for (const [id, html] of Object.entries(update.pieces)) {
        const place = document.getElementById(id);
        if (place) place.innerHTML = html;
      }
      if (update.past) charts.reset(update.past);
      if (update.point) charts.add(update.point);
      document.body.dataset.updates = Number(document.body.dataset.updates || 0) + 1;
    });
    source.addEventListener("error", () => {
      say("This node does not answer: what you see is old. Trying again …");
      close();
      retry = setTimeout(listen, 2000);
    });
  };

  const close = () => {
    if (source) source.close();
    source = null;
  };

  // A page that nobody sees asks for nothing: browsers allow few connections to a server.
  document.addEventListener("visibilitychange", () => (document.hidden ? close() : listen()));
  window.addEventListener("pagehide", close);

  // ---- charts -------------------------------------------------------------------------

  const charts = (() => {
    const most = 300; // points
    let points = [];
    let ops = "";
    let drawn = [];

    const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
    const names = () => [...new Set(points.flatMap((p) => p.ops.map((o) => o.op)))];
    const column = (op, field, zero) => points.map((p) => {
      const o = p.ops.find((x) => x.op === op);
      return o && (o[field] > 0 || zero) ? o[field] : null;
    });

    const clock = (t) => new Date(t * 1000).toLocaleTimeString([], { hour12: false });
    const tens = (u, all) => all.map((v) => (Number.isInteger(Math.round(Math.log10(v) * 1e6) / 1e6) ? v : null));
    const all = (u, values) => values;
    const axis = (filter) => ({
      stroke: color("--soft"), grid: { stroke: color("--grid"), width: 1, filter }, ticks: { stroke: color("--grid"), width: 1, filter },
    });
    const lately = (u, min, max) => [Math.min(min, max - 60), max]; // a minute at least

    const options = (el, series, log) => ({
      width: el.clientWidth, height: 170, series, cursor: { y: false }, legend: { live: false },
      scales: {
        x: { range: lately },
        y: log ? { distr: 3, range: (u, min, max) => [10 ** Math.floor(Math.log10(min || 0.1)), 10 ** Math.ceil(Math.log10(max || 10))] }
          : { range: (u, min, max) => [0, Math.max(max * 1.1, 1)] },
      },
      axes: [
        { ...axis(all), incrs: [5, 10, 30, 60], space: 70, values: (u, all) => all.map(clock) },
        { ...axis(log ? tens : all), size: 56, filter: log ? tens : all, values: (u, all) => all.map((v) => v ?? "") },
      ],
    });

    const build = () => {
      const rate = document.getElementById("chart-rate");
      const time = document.getElementById("chart-time");
      if (!rate || !time) return;
      for (const d of drawn) d.chart.destroy();
      const all = names();
      ops = all.join();
      const at = points.map((p) => p.at);
      const stroke = (i) => color("--c" + (i % 12));
      const rates = all.map((op, i) => ({ label: op, stroke: stroke(i), width: 2 }));
      const times = all.flatMap((op, i) => [
        { label: op + " p50", stroke: stroke(i), width: 2, spanGaps: true },
        { label: op + " p99", stroke: stroke(i), width: 1.5, dash: [6, 4], spanGaps: true },
      ]);
      const rateData = () => [points.map((p) => p.at), ...all.map((op) => column(op, "rate", true))];
      const timeData = () => [points.map((p) => p.at), ...all.flatMap((op) => [column(op, "p50"), column(op, "p99")])];
      drawn = [
        { data: rateData, chart: new uPlot(options(rate, [{}, ...rates], false), rateData(), rate) },
        { data: timeData, chart: new uPlot(options(time, [{}, ...times], true), timeData(), time) },
      ];
      rate.dataset.points = time.dataset.points = at.length;
    };

    const show = () => {
      if (names().join() !== ops || drawn.length === 0) return build();
      for (const d of drawn) d.chart.setData(d.data());
      document.getElementById("chart-rate").dataset.points = points.length;
    };

    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", build);
    addEventListener("resize", build);
    return {
      reset(past) { points = past; if (page === "overview") build(); },
      add(p) {
        points.push(p);
        points = points.slice(-most);
        if (page === "overview") show();
      },
    };
  })();

  // ---- a watched request --------------------------------------------------------------

  // events reads server-sent events from the answer to a POST, which EventSource cannot send.
  async function* events(response) {
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    for (let rest = ""; ; ) {
      const { done, value } = await reader.read();
      if (done) return;
      const parts = (rest + value).split("\n\n");
      rest = parts.pop();
      for (const part of parts) {
        const data = part.split("\n").find((line) => line.startsWith("data: "));
        if (part.startsWith("event: story\n")) yield JSON.parse(data.slice(6));
      }
    }
  }

  // tell has the verdict read aloud when it has changed, and not the whole story each time.
  const tell = (text) => {
    const verdict = document.getElementById("verdict");
    if (verdict.textContent !== text) verdict.textContent = text;
  };

  const form = document.getElementById("watch-form");
  if (form) {
    form.addEventListener("submit", async (e) => {
      e.preventDefault();
      const story = document.getElementById("story");
      const button = form.querySelector("button");
      button.disabled = true;
      delete story.dataset.over;
      story.setAttribute("aria-busy", "true");
      try {
        const response = await fetch(form.action, {
          method: "POST", body: new URLSearchParams(new FormData(form)), headers: { Accept: "text/event-stream" },
        });
        if (!response.ok) throw new Error(await response.text());
        for await (const s of events(response)) {
          story.innerHTML = s.html;
          tell(story.querySelector(".verdict").textContent);
        }
      } catch (err) {
        const p = document.createElement("p");
        p.className = "alert critical";
        p.setAttribute("role", "alert");
        p.textContent = err.message;
        story.replaceChildren(p);
      } finally {
        button.disabled = false;
        story.removeAttribute("aria-busy");
        story.dataset.over = "true";
      }
    });
  }

  // ---- the key explorer ---------------------------------------------------------------

  // Who goes by the keyboard, or listens, goes on where the new piece begins.
  document.body.addEventListener("htmx:afterSettle", () => document.getElementById("explorer")?.focus({ preventScroll: true }));

  listen();
})();
