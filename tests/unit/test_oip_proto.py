"""The gRPC messages are those of the public protocol, and the committed module is what the generator makes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tritonclient.grpc import model_config_pb2, service_pb2

from edge_agent.inference.oip import generate
from edge_agent.inference.oip import open_inference_pb2 as pb
from edge_agent.inference.oip.grpc_service import SERVICE, Service

THEIRS = {**service_pb2.DESCRIPTOR.message_types_by_name, **model_config_pb2.DESCRIPTOR.message_types_by_name}


def fields(message: Any) -> dict[str, tuple[int, int, bool, str]]:
    """name -> (number, type, repeated, message type) of each field, with those of nested messages."""
    found = {
        field.name: (field.number, field.type, field.is_repeated, field.message_type.full_name if field.message_type else "")
        for field in message.fields
    }
    for nested in message.nested_types:
        found |= {f"{nested.name}.{name}": value for name, value in fields(nested).items()}
    return found


@pytest.mark.parametrize("name", sorted(pb.DESCRIPTOR.message_types_by_name))
def test_a_message_has_the_clients_names_numbers_and_types(name: str) -> None:
    theirs = fields(THEIRS[name])
    assert {key: theirs.get(key) for key in fields(pb.DESCRIPTOR.message_types_by_name[name])} == fields(
        pb.DESCRIPTOR.message_types_by_name[name]
    )


def test_methods_are_the_clients_and_each_has_its_answer() -> None:
    theirs = {
        method.name: (method.input_type.full_name, method.output_type.full_name)
        for method in service_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"].methods
    }
    for method in SERVICE.methods:
        assert theirs[method.name] == (method.input_type.full_name, method.output_type.full_name)
        assert method.client_streaming or callable(getattr(Service, method.name))
    assert set(theirs) - {method.name for method in SERVICE.methods} == {"TraceSetting", "LogSettings"}


def test_the_committed_module_is_what_the_generator_makes(tmp_path: Path) -> None:
    generate.generate(tmp_path)
    for name in (generate.MODULE, "open_inference_pb2.pyi"):
        assert (tmp_path / name).read_text() == (generate.HERE / name).read_text(), "run: python -m edge_agent.inference.oip.generate"
