// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

/// @dev The proof check that an on-chain judge of openings will need. Same rule as gesso_protocol/merkle.py.
library Merkle {
    function verify(bytes32 root, bytes32 leaf, uint256 index, bytes32[] memory siblings) internal pure returns (bool) {
        if (siblings.length > 20 || index >= 1 << siblings.length) return false;
        bytes32 node = keccak256(abi.encodePacked(uint8(0), leaf));
        for (uint256 i; i < siblings.length; ++i) {
            node = index & 1 == 1
                ? keccak256(abi.encodePacked(uint8(1), siblings[i], node))
                : keccak256(abi.encodePacked(uint8(1), node, siblings[i]));
            index >>= 1;
        }
        return node == root;
    }
}
