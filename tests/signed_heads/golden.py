"""Signs birds.head with another implementation of Ed25519 and prints the block
that must follow it, in hexadecimal. Run by hand:

    pip install cryptography==50.0.2
    python golden.py birds.head > golden.txt
"""

import struct
import sys

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

NAME, COUNTER, SEED = b"birds.head", 5, bytes([7] * 32)

with open(sys.argv[1], "rb") as file:
    head = file.read()
key = Ed25519PrivateKey.from_private_bytes(SEED)
counter = struct.pack("<Q", COUNTER)
message = b"fieldtune head\0" + struct.pack("<Q", len(NAME)) + NAME + counter + head
public = key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
block = b"FTSIGN\r\n" + struct.pack("<HH", 1, len(NAME)) + NAME + counter + public
print((block + key.sign(message)).hex())
