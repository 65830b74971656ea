"""python serve_bentoml.py MODEL REST_PORT GRPC_PORT METRICS_PORT: BentoML, one worker; bodies are tensors."""

import os
import sys

import bentoml
from session import Session


@bentoml.service(workers=1, traffic={"timeout": 60}, logging={"access": {"enabled": False}})
class Peer:
    def __init__(self):
        self._session = Session(os.environ["PEER_MODEL"])

    @bentoml.api(route="/predict")
    def predict(self, data: bytes, /) -> bytes:
        return self._session.of_bytes(data)


if __name__ == "__main__":
    from serve_bentoml import Peer as Found  # a service of __main__ cannot be served

    os.environ["PEER_MODEL"], rest, *_ = sys.argv[1:]
    Found.serve_http(port=int(rest), host="127.0.0.1")
