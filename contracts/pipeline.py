"""Agent <-> pipeline: a Unix stream of `u32 length (little-endian) + msgpack map`. One message, one `kind`.

pipeline -> agent:  rows, window, routed, hello        agent -> pipeline:  routes, answer, stop
With `routes` come the arenas' file descriptors by SCM_RIGHTS: for live, then for shadow if there is one,
[memfd, request eventfd, response eventfd] each.
The pipeline process is numpy + msgpack; it does not import pydantic, so these are plain dictionaries and this page is their description.

rows    {kind, request_no, lane, schema_id, bundle_digest, rows: [[value, ...] in schema order]}  one request = one batch = one seq
        lane: live for rows of frames, windows for rows of windows; each lane has request numbers and one outstanding request of its own
answer  {kind, request_no, lane, stream, seq} or {kind, request_no, lane, code, retry_after_ms}
window  counters, not features: those are rows
        {kind, bundle_digest, duration_s, frames, accepted_rows, refused, refusals: {code: frames}, window_rows_refused, not_finite,
         latency: [..], cpu_us, shadow_digest, pairs, agreed, shadow_latency: [..], score_shift: [n, mean, m2],
         frames_total, accepted_total, refused_total, pending}   deltas since the last window, about one a second; the last line: since the
                                                      run folder was made (pipeline/counters.py)
        refusals are by error code, or FRAME_LATE (its turn came too late), FRAME_SOURCE (none came), FRAME_SHAPE (the bundle's processing
        cannot work on it)
routes  {kind, route_no, live: route or None, shadow: route or None, source: {...}}
        route = {digest, name, number, slot, schema_id, columns, windows: [{schema_id, columns}], input, output,
                 arena: {seat, queue_limit, spin_us, cells, cell_bytes, ...as in edge_agent/inference/wire.py}}
routed  {kind, route_no, first_frame_no}              the first frame that went by the new routes: the old worker may stop
        {kind, route_no, code, detail}                these routes cannot be used: the old ones go on
"""

from __future__ import annotations

LIVE_LANE, WINDOW_LANE = "live", "windows"
MAX_MESSAGE_BYTES = 1024 * 1024
MAX_REQUEST_ROWS = 200
MAX_REQUEST_BYTES = 192 * 1024  # of its rows as msgpack, unless it is one row: a batch of the outbox holds 256 KiB (contracts/batch.py)
MAX_ROW_BYTES = MAX_MESSAGE_BYTES - 4096  # what else stands in the message is far smaller
MAX_REQUEST_AGE_S = 1.0
