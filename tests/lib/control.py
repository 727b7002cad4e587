"""The control channel of a domain, as hv/hv.h tells it: enough to ask for operations of domus_op."""
import array
import errno
import socket
import struct

MAGIC, CALL, REPLY = 0x316d6f44, 1, 2
DOMUS_OP = 55
DATA_ADDRESS = 0x10000
VIF_DETACH, VIF_SET_LINK, VIF_STATS = 25, 26, 27
MESSAGE = struct.Struct("=IIIIQ5Q")
STATS = struct.Struct("=IIII8Q")
STATS_NAMES = ["devid", "connected", "port_lost", "zero", "rx_bytes", "rx_packets", "rx_errors", "rx_dropped",
               "tx_bytes", "tx_packets", "tx_errors", "tx_dropped"]


class Control:
    """With .child as the descriptor for domus-hv's --control-fd."""

    def __init__(self):
        self.socket, self.child = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.child.set_inheritable(True)
        self.socket.settimeout(30)
        self.serial = 0

    def call(self, op, data, fds=()):
        """Gives the result and the data as the domain left it; fails with an OSError for a negative result."""
        self.serial += 1
        message = MESSAGE.pack(MAGIC, CALL, self.serial, len(data), DOMUS_OP, op, DATA_ADDRESS, 0, 0, 0)
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        self.socket.sendmsg([message + data], rights)
        reply = self.socket.recv(1 << 17)
        fields = MESSAGE.unpack_from(reply)
        assert fields[0] == MAGIC and fields[1] == REPLY and fields[2] == self.serial, fields
        result = fields[5] - (1 << 64) if fields[5] >> 63 else fields[5]
        if result < 0:
            raise OSError(-result, errno.errorcode.get(-result, "?"))
        return result, reply[MESSAGE.size:]

    def vif_stats(self, devid):
        _, data = self.call(VIF_STATS, STATS.pack(devid, *[0] * 11))
        return dict(zip(STATS_NAMES, STATS.unpack(data)))

    def vif_set_link(self, devid, up):
        self.call(VIF_SET_LINK, struct.pack("=II", devid, up))

    def vif_detach(self, devid, force=False):
        self.call(VIF_DETACH, struct.pack("=II", devid, force))

    def close(self):
        self.socket.close()
        self.child.close()
