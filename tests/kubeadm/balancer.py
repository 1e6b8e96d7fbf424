#!/usr/bin/env python3
"""balancer.py LISTEN TARGET...: TCP, to the first target that takes the connection. Addresses are HOST:PORT."""

import asyncio
import sys


def address(text):
    host, port = text.rsplit(":", 1)
    return host, int(port)


async def pump(reader, writer):
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    except OSError:
        pass
    finally:
        writer.close()


async def serve(reader, writer, targets):
    for host, port in targets:
        try:
            there = await asyncio.wait_for(asyncio.open_connection(host, port), 2)
        except (OSError, asyncio.TimeoutError):
            continue
        await asyncio.gather(pump(reader, there[1]), pump(there[0], writer))
        return
    writer.close()


async def main():
    listen, *targets = map(address, sys.argv[1:])
    server = await asyncio.start_server(lambda r, w: serve(r, w, targets), *listen)
    async with server:
        await server.serve_forever()


asyncio.run(main())
