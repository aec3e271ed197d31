# Plain data as JSON with the types of Python; everything else as a number that stands for it.
import json, os, sys


class Unsendable(TypeError):
    pass


def encode(value, other, depth=0):
    if depth > 100:
        raise ValueError('nested too deeply')
    def inner(v):
        return encode(v, other, depth + 1)
    if value is None or value is True or value is False:
        return value
    # By the methods of the base class: a subclass is sent as the data that it is.
    if isinstance(value, int):
        value = int.__index__(value)
        return value if -2**63 <= value < 2**63 else {'i': hex(value)}
    if isinstance(value, float):
        return float.__float__(value)
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, list):
        return [inner(v) for v in list.__iter__(value)]
    if isinstance(value, tuple):
        return {'t': [inner(v) for v in tuple.__iter__(value)]}
    if isinstance(value, set):
        return {'s': [inner(v) for v in set.__iter__(value)]}
    if isinstance(value, frozenset):
        return {'z': [inner(v) for v in frozenset.__iter__(value)]}
    if isinstance(value, dict):
        return {'d': [[inner(k), inner(v)] for k, v in dict.items(value)]}
    if isinstance(value, (bytes, bytearray)):
        return {'b': bytes(value).hex()}
    if isinstance(value, complex):
        return {'c': [value.real, value.imag]}
    return other(value)


def decode(data, other):
    def inner(d):
        return decode(d, other)
    if isinstance(data, list):
        return [inner(d) for d in data]
    if not isinstance(data, dict):
        return data
    (tag, content), = data.items()
    if tag == 'i':
        return int(content, 16)
    if tag == 't':
        return tuple(inner(d) for d in content)
    if tag == 's':
        return {inner(d) for d in content}
    if tag == 'z':
        return frozenset(inner(d) for d in content)
    if tag == 'd':
        return {inner(k): inner(v) for k, v in content}
    if tag == 'b':
        return bytes.fromhex(content)
    if tag == 'c':
        return complex(*content)
    return other(tag, content)


def take_pipes():
    # The protocol keeps the pipes; programs get the null device.
    lines, out = os.fdopen(os.dup(0), 'rb'), os.dup(1)
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(null, 1)
    return lines, out


def write_line(out, text):
    data = text.encode() + b'\n'
    while data:
        data = data[os.write(out, data):]
