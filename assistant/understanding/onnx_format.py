"""The part of ONNX's file format that is read and written here, as Protocol Buffers messages.

Fields that are not named here are kept as they are. The names and numbers are those of
https://github.com/onnx/onnx/blob/main/onnx/onnx.proto. The package `onnx` is not used for it, since
those of its versions that Rasa's Protocol Buffers allow are no longer mended.
"""

from __future__ import annotations

from typing import Any

from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass

_PACKAGE = "onnx_format"
# Message: field, number, type. A type is one of Protocol Buffers' or a message's name; "*": many.
_FIELDS = """
ModelProto ir_version 1 int64
ModelProto graph 7 GraphProto
ModelProto opset_import 8 OperatorSetIdProto*
OperatorSetIdProto domain 1 string
OperatorSetIdProto version 2 int64
GraphProto node 1 NodeProto*
GraphProto name 2 string
GraphProto initializer 5 TensorProto*
GraphProto input 11 ValueInfoProto*
GraphProto output 12 ValueInfoProto*
ValueInfoProto name 1 string
ValueInfoProto type 2 TypeProto
TypeProto tensor_type 1 TensorTypeProto
TensorTypeProto elem_type 1 int32
NodeProto input 1 string*
NodeProto output 2 string*
NodeProto name 3 string
NodeProto op_type 4 string
NodeProto attribute 5 AttributeProto*
NodeProto domain 7 string
AttributeProto name 1 string
AttributeProto i 3 int64
AttributeProto type 20 int32
TensorProto dims 1 int64*
TensorProto data_type 2 int32
TensorProto name 8 string
TensorProto raw_data 9 bytes
"""


def _messages() -> dict[str, Any]:
    file = FileDescriptorProto(name=f"{_PACKAGE}.proto", package=_PACKAGE, syntax="proto2")
    described: dict[str, Any] = {}
    for line in _FIELDS.split("\n")[1:-1]:
        message, field, number, kind = line.split()
        if message not in described:
            described[message] = file.message_type.add(name=message)
        many, kind = kind.endswith("*"), kind.rstrip("*")
        label = FieldDescriptorProto.LABEL_REPEATED if many else FieldDescriptorProto.LABEL_OPTIONAL
        added = described[message].field.add(name=field, number=int(number), label=label)
        if kind.endswith("Proto"):
            added.type = FieldDescriptorProto.TYPE_MESSAGE
            added.type_name = f".{_PACKAGE}.{kind}"
        else:
            added.type = getattr(FieldDescriptorProto, f"TYPE_{kind.upper()}")
    pool = DescriptorPool()
    pool.Add(file)
    return {
        name: GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.{name}"))
        for name in described
    }


_CLASSES = _messages()

#: A whole file.
Model: Any = _CLASSES["ModelProto"]
#: One operator with its inputs, outputs and settings.
Node: Any = _CLASSES["NodeProto"]
#: A constant.
Tensor: Any = _CLASSES["TensorProto"]

# TensorProto.DataType
FLOAT, UINT8, INT8 = 1, 2, 3
# AttributeProto.AttributeType
INTEGER = 2
