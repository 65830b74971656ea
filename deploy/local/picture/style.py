"""The page's style sheet. Colours of model versions are those of Okabe and Ito, which colour-blind readers can tell apart."""

STYLE = """
:root { color-scheme: light dark;
  --ink: #1d2329; --soft: #5a646e; --page: #fff; --line: #d5dade; --grid: #eef0f2; --track: #e9ecef; --good: #cfe8dc;
  --bad: #c0410a; --pass: #0b7a5b; --refused: #8a4a78; --inside: #fff;
  --v0: #0072b2; --v1: #009e73; --v2: #e69f00; --v3: #cc79a7; --v4: #56b4e9; --vx: #8b949c; }
@media (prefers-color-scheme: dark) { :root {
  --ink: #e6e9ec; --soft: #a3adb6; --page: #14181c; --line: #3a424a; --grid: #20262c; --track: #272e35; --good: #1f4a3c;
  --bad: #f08a4b; --pass: #45c9a0; --refused: #d79ac2; --inside: #101418;
  --v0: #3f9fdb; --v1: #21b98d; --v2: #e9b03a; --v3: #d793b8; --v4: #7cc6ef; } }

body { margin: 18px auto; max-width: 1200px; padding: 0 20px; background: var(--page); color: var(--ink);
  font: 14px/1.45 system-ui, "Segoe UI", "Helvetica Neue", Arial, "Liberation Sans", "DejaVu Sans", sans-serif; }
h1 { font-size: 20px; line-height: 1.25; margin: 0 0 4px; }
h2 { font-size: 15px; margin: 18px 0 8px; }
h3 { font-size: 12px; margin: 0; }
small { display: block; font-size: 11px; font-weight: 400; color: var(--soft); }
p { margin: 0 0 10px; font-size: 13px; color: var(--soft); }
.none { font-size: 12px; margin: 4px 0; }

.scroll { overflow-x: auto; }
svg.time-line { display: block; width: 100%; min-width: 1100px; height: auto; }
svg text { font-size: 12px; fill: var(--ink); }
svg .small { font-size: 11px; fill: var(--soft); }
svg .strong { font-weight: 600; }
svg .end { text-anchor: end; }
svg .middle { text-anchor: middle; }
svg .inside { fill: var(--inside); }
.base { stroke: var(--line); }
.grid { stroke: var(--grid); }
.turn { stroke: var(--soft); fill: none; }
.band { fill: var(--ink); opacity: .12; }

.c0 { fill: var(--v0); } .c1 { fill: var(--v1); } .c2 { fill: var(--v2); }
.c3 { fill: var(--v3); } .c4 { fill: var(--v4); } .cx { fill: var(--vx); }
.answers { opacity: .85; }
.wave.soaking { opacity: .4; }
.phase { opacity: .35; }
.phase.shadowing, .phase.probation { opacity: .9; }
.back, .phase.back { fill: var(--bad); opacity: .9; }
.disc { stroke: var(--page); stroke-width: 1.5; }
.disc.passed { fill: var(--pass); }
.disc.failed { fill: var(--bad); }
.sign { stroke: var(--page); stroke-width: 2; fill: none; }
.mark { stroke: var(--page); }
.killed { fill: var(--bad); }
.refused { fill: var(--refused); }
.fault { fill: var(--v2); }
.away { fill: var(--soft); }
.curve { fill: none; stroke-width: 1.8; }
.curve.accepted { stroke: var(--v0); }
.curve.committed { stroke: var(--v1); stroke-dasharray: 5 3; }
.curve.waiting { stroke: var(--v0); fill: var(--v0); fill-opacity: .2; }
text.accepted { fill: var(--v0); }
text.committed { fill: var(--v1); }

section { display: grid; grid-template-columns: 156px 1fr; gap: 12px; padding: 6px 0; border-top: 1px solid var(--grid); }
.strips { display: grid; grid-template-columns: repeat(auto-fill, minmax(230px, 1fr)); gap: 4px 20px; }
figure { margin: 0; }
figure svg { display: block; width: 100%; max-width: 260px; height: auto; }
figcaption { font-size: 12px; color: var(--soft); }
figcaption b { color: var(--ink); font-weight: 600; }
span.passed { color: var(--pass); }
span.failed { color: var(--bad); font-weight: 600; }
.track { fill: var(--track); }
.good { fill: var(--good); }
.limit { stroke: var(--ink); stroke-width: 2; }
.whisker { stroke: var(--soft); stroke-width: 2; }
.whisker.passed { stroke: var(--pass); }
.whisker.failed { stroke: var(--bad); }
.value { stroke: var(--page); stroke-width: 1.5; fill: var(--soft); }
.value.passed { fill: var(--pass); }
.value.failed { fill: var(--bad); }

details { margin: 14px 0 6px; }
summary { cursor: pointer; }
table { border-collapse: collapse; margin-top: 6px; }
caption { text-align: left; color: var(--soft); font-size: 12px; }
td, th { text-align: left; padding: 1px 14px 1px 0; font-size: 12px; vertical-align: top; }
@media (max-width: 700px) { section { grid-template-columns: 1fr; } }
"""
