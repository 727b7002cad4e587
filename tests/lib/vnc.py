"""A VNC client (RFC 6143) of a few lines: raw pixels, keys, pointer, VNC authentication."""
import ctypes
import socket
import struct


class Refused(Exception):
    pass


def encrypt(challenge, password):
    """What VNC authentication makes of a challenge: libvncserver's own function."""
    library = ctypes.CDLL("libvncserver.so.1")
    data = ctypes.create_string_buffer(challenge, 16)
    library.rfbEncryptBytes(data, ctypes.create_string_buffer(password.encode(), 9))
    return data.raw[:16]


class Client:
    def __init__(self, where, password=None, shared=True, seconds=60):
        """@where: a port, a path, or a connected socket."""
        if isinstance(where, socket.socket):
            self.sock = where
        elif isinstance(where, int):
            self.sock = socket.create_connection(("127.0.0.1", where), seconds)
        else:
            self.sock = socket.socket(socket.AF_UNIX)
            self.sock.connect(where)
        self.sock.settimeout(seconds)
        try:
            self._begin(password, shared)
        except BaseException:
            self.sock.close()
            raise

    def _read(self, count):
        data = b""
        while len(data) < count:
            more = self.sock.recv(count - len(data))
            if not more:
                raise Refused("the server hung up")
            data += more
        return data

    def _begin(self, password, shared):
        assert self._read(12).startswith(b"RFB 003.")
        self.sock.sendall(b"RFB 003.008\n")
        kinds = self._read(self._read(1)[0])
        self.kind = 2 if 2 in kinds else 1
        self.sock.sendall(bytes([self.kind]))
        if self.kind == 2:
            self.sock.sendall(encrypt(self._read(16), password or ""))
        if struct.unpack(">I", self._read(4))[0]:
            raise Refused(self._read(struct.unpack(">I", self._read(4))[0]).decode())
        self.sock.sendall(bytes([shared]))
        self.width, self.height = struct.unpack(">HH", self._read(4))
        self._read(16)
        self.name = self._read(struct.unpack(">I", self._read(4))[0]).decode()
        # 32 bits a pixel, in memory red, green, blue, nothing; raw, and changes of the size.
        self.sock.sendall(struct.pack(">BxxxBBBBHHHBBBxxx", 0, 32, 24, 0, 1, 255, 255, 255, 0, 8, 16))
        self.sock.sendall(struct.pack(">BxHii", 2, 2, 0, -223))
        self.pixels = bytearray(self.width * self.height * 4)

    def update(self, incremental=False):
        """Asks for the picture and takes what comes."""
        self.sock.sendall(struct.pack(">BBHHHH", 3, incremental, 0, 0, self.width, self.height))
        while True:
            kind = self._read(1)[0]
            if kind == 0:
                break
            if kind == 3:
                self._read(struct.unpack(">xxxI", self._read(7))[0])
        for _ in range(struct.unpack(">xH", self._read(3))[0]):
            x, y, width, height, encoding = struct.unpack(">HHHHi", self._read(12))
            if encoding == -223:
                self.width, self.height = width, height
                self.pixels = bytearray(width * height * 4)
                continue
            data = self._read(width * height * 4)
            for row in range(height):
                at = ((y + row) * self.width + x) * 4
                self.pixels[at:at + width * 4] = data[row * width * 4:(row + 1) * width * 4]

    def rgb(self):
        out = bytearray(self.width * self.height * 3)
        for i in range(3):
            out[i::3] = self.pixels[i::4]
        return bytes(out)

    def key(self, symbol, down):
        self.sock.sendall(struct.pack(">BBxxI", 4, down, symbol))

    def type(self, text):
        for c in text:
            symbol = 0xff0d if c == "\n" else ord(c)
            shift = c.isupper()
            if shift:
                self.key(0xffe1, True)
            self.key(symbol, True)
            self.key(symbol, False)
            if shift:
                self.key(0xffe1, False)

    def pointer(self, x, y, buttons=0):
        self.sock.sendall(struct.pack(">BBHH", 5, buttons, x, y))

    def close(self):
        self.sock.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def pixmap(path):
    """Width, height and bytes of a PPM file."""
    with open(path, "rb") as f:
        data = f.read()
    magic, size, depth, pixels = data.split(b"\n", 3)
    assert (magic, depth) == (b"P6", b"255"), data[:20]
    width, height = map(int, size.split())
    return width, height, pixels


if __name__ == "__main__":
    import sys
    import zlib

    # vnc.py PORT FILE.png: a picture to look at.
    with Client(int(sys.argv[1])) as client:
        client.update()
        rgb, width = client.rgb(), client.width * 3
        rows = b"".join(b"\0" + rgb[i:i + width] for i in range(0, len(rgb), width))

        def chunk(kind, body):
            return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

        with open(sys.argv[2], "wb") as out:
            out.write(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", client.width, client.height, 8, 2, 0, 0, 0)) +
                      chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))
