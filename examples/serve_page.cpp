#include "serve_http.hpp"

const char* const serve::page = R"html(<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>mamba_lm</title>
<style>
  body { font: 16px/1.5 system-ui, sans-serif; max-width: 46rem; margin: 2rem auto; padding: 0 1rem;
         color: #222; background: #fafaf7; }
  h1 { font-size: 1.2rem; }
  textarea { width: 100%; box-sizing: border-box; font: inherit; padding: .5rem; }
  label { margin-right: 1rem; }
  input { font: inherit; width: 5rem; }
  button { font: inherit; padding: .2rem 1rem; }
  #text { white-space: pre-wrap; border-left: 3px solid #b9b29f; padding-left: 1rem; min-height: 3rem; }
  #prompt-shown { color: #8a8371; }
  #state { color: #666; font-size: .9rem; }
</style>
<h1>mamba_lm: <span id="model">…</span></h1>
<form id="form">
  <textarea id="prompt" rows="4" aria-label="prompt">In the beginning</textarea>
  <p>
    <label>tokens <input id="most" type="number" min="1" value="400"></label>
    <label>temperature <input id="temperature" type="number" min="0" step="0.05" value="0.7"></label>
    <button id="go">Write</button>
    <button id="stop" type="button" disabled>Stop</button>
  </p>
</form>
<div id="text" aria-live="polite"><span id="prompt-shown"></span><span id="written"></span></div>
<p id="state"></p>
<script>
"use strict";
const at = id => document.getElementById(id);
let running = null;

fetch("/v1/models").then(r => r.json()).then(list => { at("model").textContent = list.data[0].id; });
at("stop").onclick = () => { if (running) running.abort(); };
at("form").onsubmit = event => { event.preventDefault(); write(); };

async function write() {
  if (running) return;
  running = new AbortController();
  at("go").disabled = true;
  at("stop").disabled = false;
  at("prompt-shown").textContent = at("prompt").value;
  at("written").textContent = "";
  at("state").textContent = "reading …";
  const begun = performance.now();
  let end = "stopped", tokens = 0, first = 0;
  try {
    const response = await fetch("/v1/completions", {
      method: "POST", headers: {"Content-Type": "application/json"}, signal: running.signal,
      body: JSON.stringify({prompt: at("prompt").value, max_tokens: Number(at("most").value),
                            temperature: Number(at("temperature").value), stream: true,
                            stream_options: {include_usage: true}})});
    if (!response.ok) throw new Error((await response.json()).error.message);
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    let held = "";
    for (let part; !(part = await reader.read()).done;) {
      held += part.value;
      const events = held.split("\n\n");
      held = events.pop();
      for (const text of events) {
        if (!text.startsWith("data: ") || text === "data: [DONE]") continue;
        const data = JSON.parse(text.slice(6));
        if (data.error) throw new Error(data.error.message);
        if (!first) first = performance.now();
        if (data.usage) tokens = data.usage.completion_tokens;
        for (const choice of data.choices) {
          at("written").textContent += choice.text;
          if (choice.finish_reason) end = choice.finish_reason;
        }
      }
      at("state").textContent = "writing …";
    }
    const seconds = (performance.now() - first) / 1000;
    at("state").textContent = `${tokens} tokens, ${(tokens / seconds).toFixed(0)} a second, first after ` +
      `${((first - begun) / 1000).toFixed(2)} s; end: ${end}`;
  } catch (error) {
    at("state").textContent = error.name === "AbortError" ? "stopped" : error.message;
  }
  running = null;
  at("go").disabled = false;
  at("stop").disabled = true;
}
</script>
)html";
