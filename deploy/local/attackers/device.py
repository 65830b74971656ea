"""Who holds one device: he has its key and certificate, and speaks in another one's name.

    python -m deploy.local.attackers.device --port P --keys DIR --device dev-... --execution CAMPAIGN/OTHER-DEVICE/1

Reports that the other device's execution is CONFIRMED, and prints the answer.
"""

from __future__ import annotations

import argparse
import http.client
import json
import ssl
from datetime import datetime, timezone
from pathlib import Path

from contracts.reports import Hello, ReportBatch, Transition
from contracts.states import State


def lie(device: str, execution: str) -> ReportBatch:
    now = datetime.now(timezone.utc).isoformat()
    confirmed = Transition(
        execution=execution, fence=1, seq=1, boot_id="forged", mono_ms=0, utc=now, bundle_digest="", state=State.CONFIRMED
    )
    return ReportBatch(device=device, hello=Hello(agent_version="", profile="", running_digest=""), reports=(confirmed,))


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m deploy.local.attackers.device", description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--keys", type=Path, required=True)
    parser.add_argument("--device", required=True)
    parser.add_argument("--execution", required=True)
    options = parser.parse_args()
    pins = json.loads((options.keys / "pins.json").read_text())
    context = ssl.create_default_context(cadata=pins["server_ca_pem"])
    context.load_cert_chain(options.keys / "identity.pem")
    connection = http.client.HTTPSConnection("localhost", options.port, context=context, timeout=10)
    body = lie(options.device, options.execution).model_dump_json()
    connection.request("POST", "/device/v1/reports", body, {"Content-Type": "application/json"})
    answer = connection.getresponse()
    print(json.dumps({"status": answer.status, "code": json.loads(answer.read()).get("code", "")}))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
