"""The style sheet of reports: quiet, light and dark, wide and narrow.

--c0 to --c6 are the colours of methods, after Okabe and Ito (2008), darker on paper and lighter on black: told apart
with red-green blindness too.
"""

STYLE = """
:root {
  color-scheme: light dark;
  --paper: #fdfdfb; --card: #f4f4f0; --ink: #1d2530; --muted: #65707f; --rule: #e2e3df; --accent: #0b6594;
  --c0: #0072b2; --c1: #b84800; --c2: #009e73; --c3: #b0508c; --c4: #b98500; --c5: #3a97d0; --c6: #6a5a46;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #14181d; --card: #1d232a; --ink: #e5e8eb; --muted: #98a3ae; --rule: #2c333b; --accent: #6cc0ea;
    --c0: #4aa8e8; --c1: #ff8f52; --c2: #35c79a; --c3: #e394c6; --c4: #e8b640; --c5: #9bd4f5; --c6: #9a7f66;
  }
}
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; scroll-behavior: smooth; }
body {
  margin: 0; background: var(--paper); color: var(--ink);
  font: 16px/1.6 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif;
}
main { max-width: 60rem; margin: 0 auto; padding: 3.5rem 1.5rem 5rem; }
h1, h2 {
  font-family: ui-serif, Charter, "Iowan Old Style", "Palatino Linotype", Georgia, serif;
  font-weight: 600; line-height: 1.2; text-wrap: balance;
}
h1 { font-size: clamp(1.9rem, 5vw, 2.7rem); margin: 0; letter-spacing: -0.015em; }
h2 { font-size: 1.55rem; margin: 3.6rem 0 0.8rem; padding-top: 1.4rem; border-top: 1px solid var(--rule); }
p { margin: 0 0 1rem; max-width: 44rem; text-wrap: pretty; }
.subtitle { font-size: 1.15rem; color: var(--muted); margin: 0.7rem 0 0; }
a { color: var(--accent); text-decoration: none; }
a:hover { text-decoration: underline; }
code {
  font: 0.88em ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; overflow-wrap: anywhere;
  background: var(--card); padding: 0.1em 0.35em; border-radius: 4px;
}
nav { margin: 2rem 0 0; font-size: 0.95rem; }
nav ol { list-style: none; counter-reset: n; margin: 0; padding: 0; columns: 2 16rem; column-gap: 2.5rem; }
nav li { counter-increment: n; break-inside: avoid; padding: 0.12rem 0; }
nav li::before {
  content: counter(n); display: inline-block; width: 1.6rem; color: var(--muted);
  font-variant-numeric: tabular-nums;
}
figure { margin: 1.8rem 0 2.4rem; }
figcaption {
  font-size: 0.9rem; line-height: 1.5; color: var(--muted); margin-top: 0.8rem; max-width: 44rem;
  text-wrap: pretty;
}
figcaption b { color: var(--ink); font-weight: 600; }
.cards {
  display: grid; grid-template-columns: repeat(auto-fit, minmax(11rem, 1fr)); gap: 0.9rem;
  margin: 1.6rem 0 2rem;
}
.card { background: var(--card); border-radius: 10px; padding: 1rem 1.1rem; }
.card .label { font-size: 0.85rem; line-height: 1.35; color: var(--muted); }
.card .value {
  font-size: 1.75rem; line-height: 1.2; font-weight: 600; letter-spacing: -0.02em; margin: 0.35rem 0 0.2rem;
  font-variant-numeric: tabular-nums;
}
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: 0.93rem; font-variant-numeric: tabular-nums; }
th, td { padding: 0.42rem 0 0.42rem 1.7rem; text-align: left; border-bottom: 1px solid var(--rule); }
th:first-child, td:first-child { padding-left: 0; white-space: nowrap; }
td:not(.number) { min-width: 7rem; overflow-wrap: break-word; }
td.path { overflow-wrap: anywhere; }
td.unit { white-space: nowrap; min-width: 0; }
th { font-weight: 500; color: var(--muted); vertical-align: bottom; line-height: 1.3; }
thead th { border-bottom: 1.5px solid var(--muted); }
td { vertical-align: top; }
td small { display: block; font-size: 0.82em; color: var(--muted); white-space: nowrap; }
td.number { text-align: right; white-space: nowrap; }
th.number { text-align: right; max-width: 10rem; text-wrap: balance; }
h3 { font-size: 1.02rem; margin: 1.6rem 0 0.5rem; }
.facts { margin-bottom: 1.4rem; }
dl {
  display: grid; grid-template-columns: minmax(7rem, max-content) 1fr; gap: 0.25rem 1.4rem; margin: 0;
  font-size: 0.93rem;
}
dt { color: var(--muted); }
dd { margin: 0; overflow-wrap: anywhere; }
details { margin: 1.6rem 0; }
summary { cursor: pointer; color: var(--accent); }
pre {
  overflow-x: auto; background: var(--card); padding: 0.9rem 1.1rem; border-radius: 10px;
  font: 0.82rem/1.5 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace;
}
.links { display: flex; flex-wrap: wrap; gap: 0.4rem 1.6rem; }
.legend { display: flex; flex-wrap: wrap; gap: 0.25rem 1.4rem; font-size: 0.9rem; margin-bottom: 0.6rem; }
.legend span { display: inline-flex; align-items: center; gap: 0.5rem; }
.legend i { width: 1.75rem; }
.charts { display: grid; gap: 1.1rem 1.4rem; }
.charts.of1 { max-width: 34rem; }
.charts.of2 { grid-template-columns: repeat(auto-fit, minmax(min(100%, 24rem), 1fr)); }
.charts.of3 { grid-template-columns: repeat(auto-fill, minmax(min(100%, 17.5rem), 1fr)); }
.charts svg { width: 100%; height: auto; display: block; overflow: visible; }
.fields {
  display: grid; grid-template-columns: 6.5rem repeat(var(--columns), minmax(var(--least), 1fr)); gap: 0.45rem;
  align-items: start; overflow-x: auto; padding-bottom: 0.3rem;
}
.fields .time { font-size: 0.85rem; color: var(--muted); text-align: center; }
.fields .row {
  font-size: 0.88rem; line-height: 1.3; padding-right: 0.5rem; overflow-wrap: anywhere;
  position: sticky; left: 0; z-index: 1; background: var(--paper); align-self: stretch;
}
.map, .window { position: relative; overflow: hidden; border-radius: 3px; }
.map img { width: 100%; display: block; image-rendering: pixelated; }
.map svg, .window svg { position: absolute; inset: 0; width: 100%; height: 100%; }
.map path, .window path { stroke: #fff; stroke-opacity: 0.55; stroke-width: 1px; vector-effect: non-scaling-stroke; }
.lat, .lon {
  position: absolute; font-size: 0.7rem; line-height: 1; padding: 0.1rem 0.2rem; color: #fff;
  background: rgb(0 0 0 / 0.45); border-radius: 3px; white-space: nowrap;
}
.lat { left: 0; transform: translateY(-50%); }
.lon { bottom: 0; transform: translateX(-50%); }
.fields .score { font-size: 0.78rem; color: var(--muted); text-align: center; margin-top: 0.15rem; }
.film input { accent-color: var(--accent); margin: 0 0.35rem 0 0; }
.film > label { font-size: 0.88rem; margin-right: 1.4rem; }
.film .clock {
  display: inline-block; height: 1.6em; overflow: hidden; vertical-align: bottom; font-size: 0.88rem;
  color: var(--muted); font-variant-numeric: tabular-nums;
}
.film .clock span { display: block; height: 1.6em; }
.film .screens { display: flex; flex-wrap: wrap; gap: 0.9rem; margin-top: 0.6rem; }
.film .screen { flex: 0 1 var(--width); min-width: 9.5rem; }
.film .label { font-size: 0.88rem; margin-bottom: 0.25rem; overflow-wrap: anywhere; }
.film .reel { animation: climb var(--seconds) steps(var(--frames)) infinite; }
.film img.reel {
  width: calc(100% * var(--frames)); max-width: none; height: 100%; display: block; image-rendering: pixelated;
  animation-name: slide;
}
.film input:checked ~ * .reel { animation-play-state: paused; }
@keyframes slide { to { transform: translateX(-100%); } }
@keyframes climb { to { transform: translateY(-100%); } }
@media (prefers-reduced-motion: reduce) { .film .reel { animation-play-state: paused; } }
.bars { display: flex; flex-wrap: wrap; gap: 0.9rem 2.5rem; margin: 1rem 0 0; font-size: 0.82rem; }
.bar { flex: 1 1 14rem; max-width: 22rem; color: var(--muted); font-variant-numeric: tabular-nums; }
.bar img { width: 100%; height: 9px; display: block; border-radius: 3px; margin: 0.25rem 0 0.2rem; }
.bar .under { clip-path: polygon(0 50%, 6% 0, 100% 0, 100% 100%, 6% 100%); }
.bar .over { clip-path: polygon(0 0, 94% 0, 100% 50%, 94% 100%, 0 100%); }
.bar .both { clip-path: polygon(0 50%, 6% 0, 94% 0, 100% 50%, 94% 100%, 6% 100%); }
.bar .beyond { margin-top: 0.15rem; }
.bar .ends { display: flex; justify-content: space-between; }
.stages {
  display: grid; grid-template-columns: max-content 1fr max-content; gap: 0.45rem 0.9rem;
  align-items: center; font-size: 0.93rem; max-width: 44rem;
}
.stages .track { background: var(--card); border-radius: 4px; height: 0.95rem; }
.stages .track i { display: block; height: 100%; background: var(--c0); border-radius: 4px; min-width: 2px; }
.stages .amount { text-align: right; font-variant-numeric: tabular-nums; }
footer {
  margin-top: 4rem; padding-top: 1.2rem; border-top: 1px solid var(--rule); font-size: 0.85rem;
  color: var(--muted);
}
@media (max-width: 36rem) {
  main { padding: 2rem 1.05rem 3.5rem; }
  h2 { margin-top: 2.8rem; }
  dl { grid-template-columns: 1fr; gap: 0.1rem; }
  dd { margin-bottom: 0.5rem; }
  .cards { grid-template-columns: 1fr 1fr; gap: 0.6rem; }
  .card { padding: 0.8rem 0.85rem; }
  .card .value { font-size: 1.4rem; }
  th, td { padding-left: 1.2rem; }
  .fields { grid-template-columns: repeat(var(--columns), minmax(var(--least), 1fr)); }
  .fields .row { grid-column: 1 / -1; margin-top: 0.4rem; }
  .fields .row:first-child { display: none; }
  .film .screen { flex: 1 1 40%; }
}
@media print { body { font-size: 11px; } figure, .card { break-inside: avoid; } nav { display: none; } }
"""
