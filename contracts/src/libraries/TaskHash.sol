// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {Terms} from "../interfaces/ITaskBoard.sol";

/// @title TaskHash
/// @notice Identity of a task: keccak256(abi.encode(chain id, board, terms)).
library TaskHash {
    /// @dev Hashes the words of calldata as they stand. Words with stray high bits give another id, and none of those
    /// can exist: submit reverts on them when it encodes the terms for its log.
    function idOf(Terms calldata terms, address board) internal view returns (bytes32 taskId) {
        assembly ("memory-safe") {
            let buffer := mload(0x40)
            mstore(buffer, chainid())
            mstore(add(buffer, 0x20), board)
            calldatacopy(add(buffer, 0x40), terms, 0x120)
            taskId := keccak256(buffer, 0x160)
        }
    }
}
