//! How the page looks, in light and dark and on paper.

/// The style sheet.
pub(super) const CSS: &str = r#"
:root {
  --paper: #fbfaf8; --card: #ffffff; --ink: #1d1b19; --soft: #6c665f; --line: #e4dfd8;
  --ember: #c2410c; --first: #1f6feb; --second: #c2410c; --good: #1a7f4b; --heat: 194, 65, 12; --hit: 26, 127, 75;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #161412; --card: #1f1c1a; --ink: #ece7e1; --soft: #a39b91; --line: #37322d;
    --ember: #fb923c; --first: #6cb0ff; --second: #fb923c; --good: #5ac48c; --heat: 251, 146, 60; --hit: 90, 196, 140;
  }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink); font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
main { max-width: 68rem; margin: 0 auto; padding: 2rem 1.25rem 4rem; }
h1 { font-size: 1.7rem; margin: 0; letter-spacing: -0.01em; }
h2 { font-size: 1.05rem; margin: 0 0 0.9rem; }
h3 { font-size: 0.9rem; margin: 0 0 0.4rem; color: var(--soft); font-weight: 600; }
p { margin: 0.3rem 0 0.8rem; max-width: 46rem; }
.soft { color: var(--soft); }
.brand { color: var(--ember); font-weight: 650; letter-spacing: 0.02em; margin: 0 0 0.2rem; }
section { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 1.2rem 1.3rem; margin-top: 1.2rem; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(9.5rem, 1fr)); gap: 0.8rem; margin-top: 1.2rem; }
.tile { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 0.8rem 1rem; }
.tile b { display: block; font-size: 1.5rem; font-weight: 650; letter-spacing: -0.01em; font-variant-numeric: tabular-nums; }
.tile span { color: var(--soft); font-size: 0.83rem; }
.tile.first { border-color: var(--ember); }
.tile.first b { color: var(--ember); }
.pair { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(20rem, 100%), 1fr)); gap: 1.4rem; }
.wide { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(24rem, 100%), 1fr)); gap: 1.6rem; }
.small { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(14rem, 100%), 1fr)); gap: 1rem 1.4rem; }
.wide, .small, .scroll { margin-bottom: 0.9rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: 0.88rem; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: 0.28rem 0.7rem 0.28rem 0; border-bottom: 1px solid var(--line); white-space: nowrap; }
th { color: var(--soft); font-weight: 600; }
.number { text-align: right; padding-right: 0.9rem; }
thead th { white-space: normal; vertical-align: bottom; }
td small { display: block; color: var(--soft); white-space: pre; }
tr:has(small) td { vertical-align: top; }
table.confusion { width: auto; }
table.confusion td, table.confusion th { padding: 0; text-align: center; border: 0; }
table.confusion td { width: 2.6rem; min-width: 2.6rem; height: 2.1rem; border: 1px solid var(--card); border-radius: 5px; }
table.confusion th { padding: 0.1rem 0.5rem; max-width: 9rem; overflow: hidden; text-overflow: ellipsis; }
table.confusion tbody th { text-align: right; }
.gallery { display: grid; grid-template-columns: repeat(auto-fill, minmax(7.5rem, 1fr)); gap: 0.8rem; }
figure { margin: 0; border: 1px solid var(--line); border-radius: 8px; padding: 0.6rem; font-size: 0.82rem; overflow-wrap: anywhere; }
figure img { width: 100%; aspect-ratio: 1; object-fit: contain; image-rendering: pixelated; border-radius: 4px; background: var(--paper); display: block; margin-bottom: 0.4rem; }
figure b { color: var(--good); }
figure i { color: var(--ember); font-style: normal; font-weight: 650; }
pre { font: 0.82rem/1.45 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; overflow-x: auto; margin: 0; }
svg { width: 100%; height: auto; display: block; }
svg text { fill: var(--soft); font-size: 11px; font-family: inherit; font-variant-numeric: tabular-nums; }
svg .grid { stroke: var(--line); stroke-width: 1; }
svg .axis { stroke: var(--soft); stroke-width: 1; }
svg .first { stroke: var(--first); } svg .second { stroke: var(--second); }
svg .line { fill: none; stroke-width: 2; stroke-linejoin: round; }
svg .first-fill { fill: var(--first); } svg .second-fill { fill: var(--second); }
svg .mark { stroke: var(--good); stroke-dasharray: 4 3; stroke-width: 1.5; }
svg .ideal { stroke: var(--soft); stroke-dasharray: 3 4; stroke-width: 1; fill: none; }
svg .whisker { fill: none; stroke-width: 1.5; opacity: 0.55; }
svg .point.first circle { fill: var(--first); } svg .point.second circle { fill: var(--second); }
svg .point circle { stroke: var(--card); stroke-width: 1.5; }
svg .point text { stroke: none; fill: var(--card); font-size: 10px; font-weight: 700; }
svg .point.hollow circle { fill: var(--card); stroke: var(--second); } svg .point.hollow text { fill: var(--second); }
svg .name { fill: var(--ink); }
details summary { cursor: pointer; color: var(--soft); }
@media (max-width: 40rem) { main { padding: 1.2rem 0.75rem 3rem; } section { padding: 1rem 0.9rem; } }
@media print { body { background: #fff; } section { break-inside: avoid; } }
"#;
