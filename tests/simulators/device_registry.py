"""What ingest asks of the control plane, from memory. Implements sync.ingest.ports.Registry and sync.ingest.registry.Source."""

from __future__ import annotations

from contracts.errors import error
from contracts.features import FeatureSchema
from contracts.operator import RegistryDevice, RegistryFeed
from signatures.ed25519 import SigningKey


class SimulatedRegistry:
    def __init__(self) -> None:
        self.devices: dict[str, RegistryDevice] = {}
        self.schemas: dict[str, FeatureSchema] = {}
        self.revision = 0
        self.silent = False
        self.asked: list[str] = []

    def know(self, device: str, *keys: SigningKey, state: str = "ACTIVE") -> None:
        self.revision += 1
        self.devices[device] = RegistryDevice(id=device, state=state, batch_keys={key.key_id: key.public.hex() for key in keys})

    def learn(self, schema: FeatureSchema) -> None:
        self.schemas[schema.schema_id] = schema

    def device(self, device_id: str, key_id: str) -> RegistryDevice | None:
        return self.devices.get(device_id)

    def schema(self, schema_id: str) -> FeatureSchema | None:
        self._ask(schema_id)
        return self.schemas.get(schema_id)

    def feed(self, since: int) -> RegistryFeed:
        self._ask(f"since {since}")
        return RegistryFeed(revision=self.revision, devices=tuple(self.devices.values()))

    def _ask(self, what: str) -> None:
        self.asked.append(what)
        if self.silent:
            raise error("INGEST_FEED", what)
