"""What is whole in a damaged TFRecord file, found by its checksums.

A record lies in the file as its length (8 bytes), the masked CRC-32C of these 8 bytes, the data, and the
masked CRC-32C of the data. Where the data is damaged, the next record follows as the length says; where the
length is, the next place counts at which all four fit. Only damaged files come here, so NumPy is fast enough.

A length made to harm, under a CRC that fits, would end TensorFlow, which reads first: `readable` finds it
before, in files that lie here and are not zipped. In zipped and distant ones there is no guard against it.
"""

import functools
import mmap
import os
import struct
import zlib

import numpy as np
import tensorflow as tf

HEADER, FRAMING = 12, 16  # bytes before a record's data, and around it
_BLOCK = 4 << 20
_ZIPPED = 64 << 10  # bytes that are unpacked at once
_LANES = 1024


def survey(path, known=()):
    """Looks through a file.

    Args:
        path: the file, not zipped.
        known: numbers of records that are known to be whole; their data is not read again.

    Returns:
        `(faults, offsets)`: `(offset, reason)` of every damaged place, and where the whole records lie.

    Raises:
        tf.errors.OpError: the file cannot be read.
    """
    faults, offsets = [], []
    with tf.io.gfile.GFile(path, "rb") as file:
        size, at = file.size(), 0
        while at < size:
            length, reason = _check(file, at, size, trusted=len(offsets) in known)
            if reason is None:
                offsets.append(at)
            else:
                faults.append((at, reason))
            whole_header = length is not None and at + length + FRAMING <= size
            at = at + length + FRAMING if whole_header else _resync(file, at + 1, size)
    return faults, offsets


def count(path):
    """How many records a whole file holds, by their lengths alone."""
    return sum(1 for _ in _lengths(path))


def readable(path):
    """Whether TensorFlow may read a file that lies here: no record claims to be longer than the file.

    It takes memory for whatever length a record claims under a checksum that fits, and where there is not as
    much, the process dies: 50 bytes, made to harm, are enough.
    """
    about = os.stat(path)
    return _readable(str(path), about.st_size, about.st_mtime_ns)


@functools.lru_cache(maxsize=1 << 16)  # a run opens each of its files many times
def _readable(path, size, _):
    return all(length <= size for length in _lengths(path))


def _lengths(path):
    """What the records of a file claim as their lengths, as far as one leads to the next."""
    size, at = os.path.getsize(path), 0
    if not size:
        return
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        while at + 8 <= size:
            length = int.from_bytes(data[at : at + 8], "little")
            yield length
            at += length + FRAMING


def record(path, offset):
    """The data of the record at an offset."""
    with tf.io.gfile.GFile(path, "rb") as file:
        length = int.from_bytes(_read(file, offset, 8), "little")
        return _read(file, offset + HEADER, length)


def unzip(path, target):
    """Unpacks a gzip file as far as it goes, several members too.

    What a damaged block still gives is kept: where only the checksum at a member's end is wrong, all of it.

    Returns:
        None, or what is wrong with it and where, in bytes of the gzip file.
    """
    with tf.io.gfile.GFile(path, "rb") as file, open(target, "wb") as out:
        unpack, at = zlib.decompressobj(31), 0
        fresh = True  # between members
        while block := file.read(_ZIPPED):
            while block:
                before = unpack.copy()
                try:
                    data = unpack.decompress(block)
                except zlib.error as error:
                    good = _unpacked(before, block, out)
                    reason = str(error).rpartition(": ")[2]
                    return f"zipped byte {at + good} or before: gzip stream damaged ({reason})"
                out.write(data)
                at += len(block) - len(unpack.unused_data)
                block, fresh = unpack.unused_data, False
                if unpack.eof:
                    unpack, fresh = zlib.decompressobj(31), True
    return None if fresh else f"zipped byte {at}: gzip stream cut short"


def _unpacked(unpack, block, out):
    """Unpacks a damaged block, of which zlib gives nothing as a whole; returns how many bytes went in."""
    for place in range(len(block)):
        try:
            out.write(unpack.decompress(block[place : place + 1]))
        except zlib.error:
            return place
    return len(block)


def crc32c(data):
    """CRC-32C (Castagnoli) of bytes.

    Example:
        >>> hex(crc32c(b"123456789"))
        '0xe3069283'
    """
    if len(data) < 8 * _LANES:
        register = 0xFFFFFFFF
        for byte in data:
            register = _TABLE_LIST[(register ^ byte) & 0xFF] ^ (register >> 8)
        return register ^ 0xFFFFFFFF
    # Long ones in equal lanes, side by side. Zeros in front change nothing while the register is 0; that it
    # starts with ones is the same as the first four bytes turned over.
    width = -(-len(data) // _LANES)
    padded = np.zeros(_LANES * width, np.uint8)
    begin = len(padded) - len(data)
    padded[begin:] = np.frombuffer(data, np.uint8)
    padded[begin : begin + 4] ^= 0xFF
    state = np.zeros(_LANES, np.uint32)
    for column in np.ascontiguousarray(padded.reshape(_LANES, width).T):
        state = _TABLE[(state ^ column) & 0xFF] ^ (state >> 8)
    zeros = _zeros(width)
    while (
        len(state) > 1
    ):  # neighbours join: the left one first passes over as many bytes as the right one has
        state = _apply(zeros, state[::2]) ^ state[1::2]
        zeros = _apply(zeros, zeros)
    return int(state[0]) ^ 0xFFFFFFFF


def masked(crc):
    """The form in which a TFRecord stores a CRC; of an int or an array."""
    crc = np.uint64(crc) if isinstance(crc, int) else crc.astype(np.uint64)
    turned = (crc >> np.uint64(15)) | (crc << np.uint64(17))
    return (turned + np.uint64(0xA282EAD8)) & np.uint64(0xFFFFFFFF)


def _check(file, at, size, trusted=False):
    """`(length, None)` of a whole record, else `(length or None, reason)`."""
    header = _read(file, at, HEADER)
    if len(header) < HEADER:
        return None, f"cut short: {size - at} bytes where a record begins"
    length, crc = struct.unpack("<QI", header)
    if masked(crc32c(header[:8])) != crc:
        return (
            None,
            "the length of a record is damaged" if at else "no TFRecord file, or its start is damaged",
        )
    if at + length + FRAMING > size:
        return length, f"cut short: a record of {length} bytes, {max(0, size - at - HEADER)} are there"
    body = b"" if trusted else _read(file, at + HEADER, length + 4)
    if not trusted and masked(crc32c(body[:length])) != int.from_bytes(body[length:], "little"):
        return length, f"the data of a record is damaged ({length} bytes)"
    return length, None


def _resync(file, start, size):
    """The first offset from `start` on at which a whole record lies; else the file's size."""
    for begin in range(start, size, _BLOCK):
        block = np.frombuffer(_read(file, begin, min(_BLOCK, size - begin) + HEADER - 1), np.uint8)
        if len(block) < HEADER:
            break
        places = len(block) - HEADER + 1
        # No record reaches 4 GiB, so four of a length's bytes are 0: few places are left to compute.
        high = np.zeros(places, bool)
        for k in range(4, 8):
            high |= block[k : k + places].astype(bool)
        found = np.flatnonzero(~high)
        register = np.full(len(found), 0xFFFFFFFF, np.uint32)
        for k in range(8):
            register = _TABLE[(register ^ block[found + k]) & 0xFF] ^ (register >> 8)
        stored = sum(block[found + 8 + k].astype(np.uint64) << np.uint64(8 * k) for k in range(4))
        for place in found[np.equal(masked(~register), stored)]:
            if _check(file, begin + int(place), size)[1] is None:
                return begin + int(place)
    return size


def _read(file, at, count):
    file.seek(at)
    return file.read(count)


def _byte_table():
    table = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        table = np.where(table & 1, 0x82F63B78 ^ (table >> 1), table >> 1).astype(np.uint32)
    return table


_TABLE = _byte_table()
_TABLE_LIST = _TABLE.tolist()


def _apply(columns, values):
    """A linear map of 32 bits, given by the images of the single bits, of an array."""
    out = np.zeros_like(values)
    for bit in range(32):
        out ^= np.where(values >> np.uint32(bit) & np.uint32(1), columns[bit], np.uint32(0))
    return out


def _zeros(count):
    """The map of a register over so many zero bytes."""
    bits = np.uint32(1) << np.arange(32, dtype=np.uint32)
    power, total = _TABLE[bits & 0xFF] ^ (bits >> 8), bits
    while count:
        if count & 1:
            total = _apply(power, total)
        power, count = _apply(power, power), count >> 1
    return total
