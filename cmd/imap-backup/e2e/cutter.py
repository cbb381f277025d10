"""A proxy that cuts, delays and truncates what the server sends, at random."""
import random
import socket
import threading
import time


class Cutter:
    def __init__(self, target, seed, mean):
        self.target, self.rng, self.mean = target, random.Random(seed), mean
        self.cuts = 0
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            server = socket.create_connection(("127.0.0.1", self.target))
            threading.Thread(target=self.upstream, args=(client, server), daemon=True).start()
            threading.Thread(target=self.downstream, args=(server, client), daemon=True).start()

    @staticmethod
    def close(*sockets):
        for s in sockets:
            try:
                s.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def upstream(self, client, server):
        try:
            while data := client.recv(65536):
                server.sendall(data)
        except OSError:
            pass
        self.close(client, server)

    def downstream(self, server, client):
        left = int(self.rng.expovariate(1 / self.mean)) + 2000
        try:
            while data := server.recv(65536):
                if self.rng.random() < 0.02:
                    time.sleep(self.rng.random() / 20)
                if len(data) > left:
                    self.cuts += 1
                    client.sendall(data[:left])
                    break
                left -= len(data)
                client.sendall(data)
        except OSError:
            pass
        self.close(client, server)

    def stop(self):
        self.listener.close()
