"""A proxy that cuts, delays and truncates what goes through it, at random."""
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
            left = [int(self.rng.expovariate(1 / self.mean))]  # octets, both ways together
            for source, target in ((client, server), (server, client)):
                threading.Thread(target=self.pass_on, args=(source, target, left), daemon=True).start()

    def pass_on(self, source, target, left):
        try:
            while data := source.recv(65536):
                if self.rng.random() < 0.02:
                    time.sleep(self.rng.random() / 20)
                if len(data) > left[0]:
                    self.cuts += 1
                    target.sendall(data[:left[0]])
                    break
                left[0] -= len(data)
                target.sendall(data)
        except OSError:
            pass
        for s in (source, target):
            try:
                s.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def stop(self):
        self.listener.close()
