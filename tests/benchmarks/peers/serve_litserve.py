"""python serve_litserve.py MODEL REST_PORT GRPC_PORT METRICS_PORT: LitServe, one worker; a file of a form comes, a body goes."""

import os
import sys

import litserve
from fastapi import Response
from session import Session


class Peer(litserve.LitAPI):
    def setup(self, device):
        self._session = Session(os.environ["PEER_MODEL"])

    def decode_request(self, request):
        return request["x"].file.read()

    def predict(self, data):
        return self._session.of_bytes(data)

    def encode_response(self, data):
        return Response(content=data, media_type="application/octet-stream")


if __name__ == "__main__":
    os.environ["PEER_MODEL"], rest, *_ = sys.argv[1:]
    server = litserve.LitServer(Peer(), accelerator="cpu", workers_per_device=1)
    server.run(port=int(rest), host="127.0.0.1", log_level="warning", generate_client_file=False)
