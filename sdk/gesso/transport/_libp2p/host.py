"""Builds the libp2p host: noise only, yamux only, TCP only, no resource manager but our own limits.

An unmodified `libp2p.new_host()` also offers plaintext, in which the key that a peer claims is never proven.
"""

from __future__ import annotations

import logging
import os

from libp2p.abc import ISecureTransport
from libp2p.crypto.secp256k1 import create_new_key_pair
from libp2p.crypto.x25519 import create_new_key_pair as create_noise_key_pair
from libp2p.custom_types import TProtocol
from libp2p.host.basic_host import BasicHost
from libp2p.peer.id import ID
from libp2p.peer.peerstore import PeerStore
from libp2p.security.noise.transport import PROTOCOL_ID as NOISE
from libp2p.security.noise.transport import Transport as Noise
from libp2p.transport.upgrader import TransportUpgrader

from gesso.transport._libp2p.addresses import Multiaddr
from gesso.transport._libp2p.limits import Limits
from gesso.transport._libp2p.muxer import BoundedMuxer
from gesso.transport._libp2p.swarm import GuardedSwarm
from gesso.transport.keys import NodeKey


def build_host(key: NodeKey, limits: Limits, announce: tuple[str, ...]) -> tuple[BasicHost, GuardedSwarm]:
    if not os.environ.get("LIBP2P_DEBUG"):
        # It reports each unknown protocol and each lost peer as an error of its own; those are ours to tell.
        logging.getLogger("libp2p").setLevel(logging.CRITICAL)
    pair = create_new_key_pair(key.secret)
    peer_id = ID.from_pubkey(pair.public_key)
    peerstore = PeerStore()
    peerstore.add_key_pair(peer_id, pair)
    noise: ISecureTransport = Noise(pair, noise_privkey=create_noise_key_pair().private_key)
    upgrader = TransportUpgrader({TProtocol(NOISE): noise}, {}, max(1, int(limits.handshake_timeout_s)))
    upgrader.muxer_multistream = BoundedMuxer(
        max_buffered=limits.max_buffered_per_peer, timeout_s=limits.handshake_timeout_s
    )
    swarm = GuardedSwarm(peer_id, peerstore, upgrader, limits)
    host = BasicHost(
        swarm,
        negotiate_timeout=max(1, int(limits.handshake_timeout_s)),
        announce_addrs=[Multiaddr(address.rpartition("/p2p/")[0] or address) for address in announce] or None,
        disable_identify_address_discovery=True,
    )
    swarm.guard_streams(host._swarm_stream_handler)
    return host, swarm
