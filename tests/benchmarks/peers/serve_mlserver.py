"""python serve_mlserver.py MODEL REST_PORT GRPC_PORT METRICS_PORT: MLServer without an inference pool, by REST and gRPC."""

import asyncio
import logging
import os
import sys

from mlserver import MLModel, MLServer, ModelSettings, Settings
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceResponse
from session import Session


class Peer(MLModel):
    async def load(self):
        self._session = Session(os.environ["PEER_MODEL"])
        return True

    async def predict(self, payload):
        values = self._session.run(NumpyCodec.decode_input(payload.inputs[0]))
        return InferenceResponse(model_name=self.name, outputs=[NumpyCodec.encode_output("y", values)])


async def main(rest_port, grpc_port, metrics_port):
    ports = {"http_port": rest_port, "grpc_port": grpc_port, "metrics_port": metrics_port}
    settings = Settings(host="127.0.0.1", parallel_workers=0, debug=False, grpc_max_message_length=64 * 1024**2, **ports)
    await MLServer(settings).start([ModelSettings(name="tiny", implementation=Peer)])


if __name__ == "__main__":
    logging.disable(logging.INFO)
    os.environ["PEER_MODEL"], *ports = sys.argv[1:]
    asyncio.run(main(*map(int, ports)))
