// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {TaskState} from "../interfaces/ITaskBoard.sol";

/// @notice All that the board stores of a task, in one word: state (8 bits), second it was entered (40), and
/// the claiming node (160). The node's bits are empty until a claim, so they hold the sortition seed (128) till then.
type TaskWord is uint256;

using {state, since, node, seed} for TaskWord global;

function packTask(TaskState state_, uint256 since_, uint256 nodeOrSeed) pure returns (TaskWord) {
    return TaskWord.wrap((uint256(state_) << 200) | (since_ << 160) | nodeOrSeed);
}

function state(TaskWord word) pure returns (TaskState) {
    return TaskState(uint8(TaskWord.unwrap(word) >> 200));
}

function since(TaskWord word) pure returns (uint40) {
    return uint40(TaskWord.unwrap(word) >> 160);
}

/// @dev Meaningful in every state from Claimed on; zero for tasks that ended unclaimed.
function node(TaskWord word) pure returns (address) {
    return address(uint160(TaskWord.unwrap(word)));
}

/// @dev Meaningful in state Submitted only.
function seed(TaskWord word) pure returns (uint128) {
    return uint128(TaskWord.unwrap(word));
}
