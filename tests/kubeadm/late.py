#!/usr/bin/env python3
"""late.py HOST:PORT TARGET:PORT CERTIFICATE KEY: TLS with that certificate in front of a server that speaks TLS, whoever it is."""

import socket
import ssl
import sys
import threading


def place(text):
    host, port = text.rsplit(":", 1)
    return host, int(port)


def pump(source, target):
    try:
        while data := source.recv(65536):
            target.sendall(data)
    except OSError:
        pass
    finally:
        for end in (source, target):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass


def serve(client, outer, inner, target):
    try:
        near = outer.wrap_socket(client, server_side=True)
        far = inner.wrap_socket(socket.create_connection(target))
    except OSError as error:
        print(error, flush=True)
        client.close()
        return
    threading.Thread(target=pump, args=(near, far), daemon=True).start()
    pump(far, near)


def main():
    at, target, certificate, key = sys.argv[1:]
    outer = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    outer.load_cert_chain(certificate, key)
    inner = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    inner.check_hostname = False
    inner.verify_mode = ssl.CERT_NONE
    with socket.create_server(place(at)) as server:
        while True:
            client, _ = server.accept()
            threading.Thread(target=serve, args=(client, outer, inner, place(target)), daemon=True).start()


main()
