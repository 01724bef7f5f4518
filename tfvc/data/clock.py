"""Times of the pictures of an open media file: by its header, or by its packets where that is no help."""

import re

import av


def video_stream(container):
    """The stream of the pictures; None where there is none but the cover of a song."""
    stream = container.streams.best("video") if container.streams.video else None
    if stream is not None and "attached_pic" in str(stream.disposition):
        return None
    return stream


def frame_seconds(stream):
    """From one frame to the next, by the header: 1/25 where it does not say."""
    return 1 / float(stream.average_rate or stream.guessed_rate or 25)


def header_seconds(container, stream):
    """Duration by the header, 0.0 where it does not say."""
    if stream is not None and stream.duration and stream.time_base:
        return max(0.0, float(stream.duration * stream.time_base))
    return max(0.0, (container.duration or 0) / av.time_base)


def pictures_start(container):
    """The second at which the pictures start, by the header; None where it does not say, or has none."""
    stream = video_stream(container)
    start = None if stream is None else stream.start_time
    return None if start is None else float(start * stream.time_base)


def origin(first, start):
    """The time that counts as 0: the stream's start, or its first frame where that is a little later.

    In an AVI file the stream starts with the decoder's delay, before any frame.

    Args:
        first: time of the first frame, seconds.
        start: `pictures_start`.

    Example:
        >>> origin(0.04, 0.0), origin(5.0, 0.0), origin(5.0, None)
        (0.04, 0.0, 5.0)
    """
    return first if start is None or 0 <= first - start < 1 else start


def promised(container, stream):
    """Seconds of pictures by the header; where it does not say, no more than 0."""
    if stream.duration:
        return header_seconds(container, stream)
    # Matroska: at best a tag. The whole file's duration is that of its longest stream. Both are ends, from 0.
    end = _tag(stream) or (header_seconds(container, None) if len(container.streams) == 1 else 0.0)
    return end - (pictures_start(container) or 0.0)


def counted(container, stream):
    """Seconds of pictures by a header that can be trusted; 0.0 where there is none.

    Such are the headers that also count the frames (MP4, AVI), and Matroska's tag. Elsewhere FFmpeg guesses:
    from the last times in the file (a program stream lacks its last frame), or from the rate of bits.
    """
    trusted = (stream.duration and stream.frames) or _tag(stream)
    return max(0.0, promised(container, stream)) if trusted else 0.0


def packet_seconds(packets, stream, start):
    """Seconds of pictures by the times of the packets; nothing is decoded.

    Args:
        packets: of this stream, from the start of the file.
        start: `pictures_start`.

    Returns:
        seconds from the origin to the end of the last frame; where packets have no times, their number
        times the period.
    """
    count, first, end, period = 0, None, 0.0, frame_seconds(stream)
    for packet in packets:
        time = packet.dts if packet.pts is None else packet.pts
        if not packet.size or packet.is_discard:
            continue
        count += 1
        if time is not None:
            begin = float(time * packet.time_base)
            length = float(packet.duration * packet.time_base) if packet.duration else period
            first = begin if first is None else min(first, begin)
            end = max(end, begin + length)
    return count * period if first is None else end - origin(first, start)


def _tag(stream):
    """The end that Matroska's tag of the stream names; 0.0 where there is none."""
    tag = " ".join(text for key, text in stream.metadata.items() if key.startswith("DURATION"))
    found = re.match(r"(\d+):(\d\d):(\d\d\.?\d*)", tag)
    units = (3600, 60, 1)
    return sum(float(n) * unit for n, unit in zip(found.groups(), units, strict=True)) if found else 0.0
