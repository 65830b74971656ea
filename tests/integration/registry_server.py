"""The control plane's three internal routes for ingest, over mutual TLS 1.3, from what a test has put in. It can be switched off."""

from __future__ import annotations

import json
import re
import ssl
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from contracts.features import FeatureSchema
from contracts.operator import RegistryDevice, RegistryFeed, ServiceAlarms
from tests.integration.certificates import Certificates


class RegistryServer:
    def __init__(self, certificates: Certificates) -> None:
        self.devices: dict[str, RegistryDevice] = {}
        self.schemas: dict[str, FeatureSchema] = {}
        self.asked: list[str] = []
        self.alarms: list[tuple[str, str]] = []  # code, device
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_cert_chain(certificates.path("broker.crt"), certificates.path("broker.key"))
        context.load_verify_locations(certificates.path("ca.crt"))
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self._server.server_address[1]}"

    def know(self, device: str, public_keys: dict[str, bytes], state: str = "ACTIVE") -> None:
        keys = {key_id: public.hex() for key_id, public in public_keys.items()}
        self.devices[device] = RegistryDevice(id=device, state=state, batch_keys=keys)

    def learn(self, schema: FeatureSchema) -> None:
        self.schemas[schema.schema_id] = schema

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def answer(self, path: str) -> tuple[int, Any]:
        self.asked.append(path)
        if path.startswith("/internal/v1/devices"):
            return 200, RegistryFeed(revision=len(self.asked), devices=tuple(self.devices.values())).model_dump(mode="json")
        found = re.fullmatch(r"/internal/v1/schemas/([0-9a-f]{16})", path)
        schema = self.schemas.get(found[1]) if found else None
        return (200, schema.model_dump(mode="json")) if schema else (404, {"code": "API_NOT_FOUND"})

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        registry = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                status, body = registry.answer(self.path)
                data = json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def do_POST(self) -> None:
                told = ServiceAlarms.model_validate_json(self.rfile.read(int(self.headers["Content-Length"])))
                registry.alarms += [(alarm.code, alarm.device) for alarm in told.alarms]
                self.send_response(204)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                return

        return Handler
