"""Requests that are almost right: taken from real ones, broken on the wire. Reads the protocol's descriptors only.

A request is split into its fields as they lie on the wire; hypothesis draws what is done to them, at any depth. A field
that the protocol gains is broken like the others.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from hypothesis import strategies as st

Draw = Callable[[st.SearchStrategy[Any]], Any]
Field = tuple[int, int, bytes]
"""Number, wire type, and what follows the tag; of a length-delimited field without its length."""
VARINT, FIXED64, LENGTH, GROUP, END, FIXED32 = range(6)
NUMBER_MAX = 2**29 - 1
DEPTH_MAX = 400
REPEATED_MAX = 3_000
"""More than the candles of one message, and less than its bytes."""
VARINTS = tuple(
    bytes.fromhex(text)
    for text in (
        "00", "01", "7f", "8000", "ffffffff0f", "ffffffffffffffff7f", "ffffffffffffffffff01", "80808080808080808001",
        "ffffffffffffffffff7f", "ffffffffffffffffffff01", "ffffffffffffffffffffff", "80", "8080808080808080808000",
    )
)  # fmt: skip
DOUBLES = 0.0, -0.0, -1.0, 5e-324, 1e-300, 1e300, float("inf"), float("-inf"), float("nan"), 1.0, 100.0
NOT_UTF8 = b"\xff", b"\xc3\x28", b"\xed\xa0\x80", b"\xf8\x88\x80\x80\x80", b"A\x80", b"\x00\xfe"
NAMES = "", "A", "A" * 32, "A" * 33, "a b", "BTC/USDT:X", "\u20bf", "\0", "A" * 70_000
WHOLE = st.one_of(st.integers(-(2**63), 2**63 - 1), st.sampled_from((0, 1, -1, 900_000, 2**31, 2**53, 2**63 - 1)))


def requests(descriptor: Descriptor, real: list[bytes]) -> st.SearchStrategy[bytes]:
    """Return a strategy of messages, most of them broken once to three times, from real ones of that type."""

    @st.composite
    def broken(draw: Draw) -> bytes:
        data: bytes = draw(st.sampled_from(real))
        for _ in range(draw(st.integers(1, 3))):
            data = _break(draw, data, descriptor)
        return data

    return broken()


def filled(descriptor: Descriptor, parts: dict[str, list[Message]], names: list[str]) -> bytes:
    """Return a request that is right: its messages are `parts` by type, its texts are names; all else is left out."""
    message = GetMessageClass(descriptor)()
    for field in descriptor.fields:
        if field.message_type is not None and field.message_type.full_name in parts:
            getattr(message, field.name).extend(parts[field.message_type.full_name])
        elif field.type == FieldDescriptor.TYPE_STRING and _is_repeated(field):
            getattr(message, field.name).extend(names)
        elif field.type == FieldDescriptor.TYPE_STRING:
            setattr(message, field.name, names[0])
    data: bytes = message.SerializeToString()
    return data


def _break(draw: Draw, data: bytes, descriptor: Descriptor, depth: int = 0) -> bytes:
    """Break it in one way, here or further in."""
    fields = split(data)
    inner = [i for i, (number, wire, _) in enumerate(fields) if wire == LENGTH and _message_of(descriptor, number)]
    if inner and draw(st.integers(0, 2)):
        i = draw(st.sampled_from(inner))
        number, wire, content = fields[i]
        within = _message_of(descriptor, number)
        assert within is not None
        fields[i] = number, wire, _break(draw, content, within, depth + 1)
        return joined(fields)
    way: Callable[[Draw, list[Field], Descriptor], bytes] = draw(st.sampled_from(WAYS))
    return way(draw, fields, descriptor)


def _a_value(draw: Draw, fields: list[Field], descriptor: Descriptor) -> bytes:
    """Set a field that the protocol has to any value of its type."""
    field: FieldDescriptor = draw(st.sampled_from(list(descriptor.fields)))
    kind = field.type
    if kind == FieldDescriptor.TYPE_DOUBLE:
        value = struct.pack("<d", draw(st.one_of(st.sampled_from(DOUBLES), st.floats())))
        return _put(draw, fields, (field.number, FIXED64, value))
    if kind in (FieldDescriptor.TYPE_FIXED64, FieldDescriptor.TYPE_SFIXED64):
        return _put(draw, fields, (field.number, FIXED64, draw(st.binary(min_size=8, max_size=8))))
    if kind in (FieldDescriptor.TYPE_FIXED32, FieldDescriptor.TYPE_SFIXED32, FieldDescriptor.TYPE_FLOAT):
        return _put(draw, fields, (field.number, FIXED32, draw(st.binary(min_size=4, max_size=4))))
    if kind == FieldDescriptor.TYPE_STRING:
        text = draw(st.one_of(st.sampled_from(NAMES), st.text(max_size=40)))
        return _put(draw, fields, (field.number, LENGTH, text.encode("utf-8", "surrogatepass")))
    if kind in (FieldDescriptor.TYPE_BYTES, FieldDescriptor.TYPE_MESSAGE, FieldDescriptor.TYPE_GROUP):
        content = draw(st.one_of(st.binary(max_size=300), st.integers(0, 3_000).map(bytes)))
        return _put(draw, fields, (field.number, LENGTH, content))
    return _put(draw, fields, (field.number, VARINT, varint(draw(WHOLE) % 2**64)))


def _another_wire_type(draw: Draw, fields: list[Field], descriptor: Descriptor) -> bytes:
    number = _number(draw, descriptor)
    wire = draw(st.integers(0, 7))
    return _put(draw, fields, (number, wire, _content(draw, wire)))


def _a_huge_varint(draw: Draw, fields: list[Field], descriptor: Descriptor) -> bytes:
    number = _number(draw, descriptor)
    return _put(draw, fields, (number, VARINT, draw(st.sampled_from(VARINTS))))


def _no_utf8(draw: Draw, fields: list[Field], descriptor: Descriptor) -> bytes:
    number = _number(draw, descriptor)
    return _put(draw, fields, (number, LENGTH, draw(st.sampled_from(NOT_UTF8)) * draw(st.integers(1, 40))))


def _a_lie_about_length(draw: Draw, fields: list[Field], descriptor: Descriptor) -> bytes:
    number, told = _number(draw, descriptor), draw(st.sampled_from(VARINTS))
    lie = varint(number << 3 | LENGTH) + told + draw(st.binary(max_size=20))
    at = draw(st.integers(0, len(fields)))
    return joined(fields[:at]) + lie + joined(fields[at:])


def _cut_off(draw: Draw, fields: list[Field], descriptor: Descriptor) -> bytes:
    data = joined(fields)
    return data[: draw(st.integers(0, len(data)))]


def _repeated(draw: Draw, fields: list[Field], descriptor: Descriptor) -> bytes:
    if not fields:
        return b""
    field = draw(st.sampled_from(fields))
    times = draw(st.one_of(st.integers(2, 20), st.integers(2, REPEATED_MAX)))
    return joined(fields) + joined([field]) * min(times, 1_000_000 // (len(field[2]) + 8))


def _groups(draw: Draw, fields: list[Field], descriptor: Descriptor) -> bytes:
    """Nest groups, which only old protocols have, well or badly closed."""
    number, depth = draw(st.integers(1, 40)), draw(st.integers(1, DEPTH_MAX))
    closed = draw(st.one_of(st.just(depth), st.integers(0, depth + 2)))
    return joined(fields) + varint(number << 3 | GROUP) * depth + varint(number << 3 | END) * closed


def _deep(draw: Draw, fields: list[Field], descriptor: Descriptor) -> bytes:
    """Wrap the message in itself."""
    number, data = _number(draw, descriptor), joined(fields)
    for _ in range(draw(st.integers(1, DEPTH_MAX))):
        data = joined([(number, LENGTH, data)])
    return data


def _unknown(draw: Draw, fields: list[Field], descriptor: Descriptor) -> bytes:
    number, wire = draw(st.sampled_from((0, 99, 19_000, NUMBER_MAX, NUMBER_MAX + 1, 2**35))), draw(st.integers(0, 7))
    return _put(draw, fields, (number, wire, _content(draw, wire)))


def _another_order(draw: Draw, fields: list[Field], descriptor: Descriptor) -> bytes:
    return joined(draw(st.permutations(fields[:64]))) + joined(fields[64:])


def _left_out(draw: Draw, fields: list[Field], descriptor: Descriptor) -> bytes:
    gone = draw(st.integers(0, len(fields)))
    return joined(fields[:gone] + fields[gone + 1 :])


def _noise(draw: Draw, fields: list[Field], descriptor: Descriptor) -> bytes:
    data, noise = joined(fields), draw(st.binary(min_size=1, max_size=8))
    at = draw(st.integers(0, len(data)))
    return data[:at] + noise + data[at + draw(st.sampled_from((0, len(noise)))) :]


WAYS = (
    _a_value, _a_value, _another_wire_type, _a_huge_varint, _no_utf8, _a_lie_about_length, _cut_off, _repeated, _groups,
    _deep, _unknown, _another_order, _left_out, _noise,
)  # fmt: skip


def _put(draw: Draw, fields: list[Field], field: Field) -> bytes:
    """Put a field in the place of one with its number, or anywhere."""
    places = [i for i, (number, _, _) in enumerate(fields) if number == field[0]]
    if places and draw(st.booleans()):
        i = draw(st.sampled_from(places))
        return joined([*fields[:i], field, *fields[i + 1 :]])
    at = draw(st.integers(0, len(fields)))
    return joined([*fields[:at], field, *fields[at:]])


def _content(draw: Draw, wire: int) -> bytes:
    size = {FIXED64: 8, FIXED32: 4}.get(wire)
    if wire == VARINT:
        return bytes(draw(st.sampled_from(VARINTS)))
    return bytes(draw(st.binary(max_size=20) if size is None else st.binary(min_size=size, max_size=size)))


def _number(draw: Draw, descriptor: Descriptor) -> int:
    """Return that of a field which the protocol has."""
    return int(draw(st.sampled_from([field.number for field in descriptor.fields])))


def _message_of(descriptor: Descriptor, number: int) -> Descriptor | None:
    field = descriptor.fields_by_number.get(number)
    return field.message_type if field is not None else None


def _is_repeated(field: FieldDescriptor) -> bool:
    return bool(field.is_repeated)


def varint(value: int) -> bytes:
    """Return a number of up to any size as a varint."""
    data = bytearray()
    while value > 0x7F:
        data.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*data, value])


def split(data: bytes) -> list[Field]:
    """Return the fields of a message; where it is broken they end."""
    fields: list[Field] = []
    at = 0
    while at < len(data):
        begin = at
        if (tag := _read(data, at)) is None:
            break
        value, at = tag
        number, wire = value >> 3, value & 7
        if wire == LENGTH:
            if (length := _read(data, at)) is None or length[1] + length[0] > len(data):
                break
            end = length[1] + length[0]
            fields.append((number, wire, data[length[1] : end]))
        else:
            found = _read(data, at) if wire == VARINT else (0, at + {FIXED64: 8, FIXED32: 4}.get(wire, 0))
            if found is None or found[1] > len(data):
                break
            end = found[1]
            fields.append((number, wire, data[at:end]))
        at = end
        assert at > begin
    return fields


def _read(data: bytes, at: int) -> tuple[int, int] | None:
    """Return a varint and where it ends."""
    value = 0
    for i, byte in enumerate(data[at : at + 10]):
        value |= (byte & 0x7F) << 7 * i
        if byte < 0x80:
            return value, at + i + 1
    return None


def joined(fields: list[Field]) -> bytes:
    return b"".join(
        varint(number << 3 | wire) + (varint(len(content)) if wire == LENGTH else b"") + content
        for number, wire, content in fields
    )
