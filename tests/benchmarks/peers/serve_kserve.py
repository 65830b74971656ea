"""python serve_kserve.py MODEL REST_PORT GRPC_PORT METRICS_PORT: KServe's model server, one worker, by REST and gRPC."""

import logging
import sys

from kserve import InferOutput, InferResponse, Model, ModelServer
from session import Session


class Peer(Model):
    def __init__(self, path):
        super().__init__("tiny")
        self._session = Session(path)
        self.ready = True

    async def predict(self, payload, headers=None, response_headers=None):
        values = self._session.run(payload.inputs[0].as_numpy())
        output = InferOutput("y", list(values.shape), "FP32")
        output.set_data_from_numpy(values, binary_data=True)
        return InferResponse(payload.id or "1", "tiny", [output])


if __name__ == "__main__":
    path, rest_port, grpc_port, _ = sys.argv[1:]
    sys.argv[1:] = []
    logging.disable(logging.INFO)  # it tells the times of each request
    ModelServer(http_port=int(rest_port), grpc_port=int(grpc_port), workers=1, enable_docs_url=False, access_log_format=None).start(
        [Peer(path)]
    )
