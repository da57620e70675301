// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {TaskState} from "../interfaces/ITaskBoard.sol";

/// @notice All that the board stores of a task, in one word: whether it was held (1 bit), whether a part was committed (1),
/// state (6), second it was entered (40), and 208 bits whose meaning follows the state. The share of a part is elsewhere.
///
/// | state | 208 bits |
/// |---|---|
/// | Submitted | 80 empty, sortition seed 128 |
/// | Claimed | node's number 24, 23 empty, the requester asked to stop 1, node 160 |
/// | Committed, Held, Settled | node's number 24, commitment 184 |
/// | Expired | as Committed; zero without a commit, all zero without a claim |
/// | Cancelled | empty |
type TaskWord is uint256;

using {
    state,
    since,
    index,
    node,
    seed,
    commitment,
    kept,
    isPart,
    wasHeld,
    withHeld,
    stopRequested,
    withStop
} for TaskWord global;

uint256 constant HELD = 1 << 255;
uint256 constant PART = 1 << 254;
uint256 constant STATE_AT = 248;
uint256 constant SINCE_AT = 208;
uint256 constant INDEX_AT = 184;
uint256 constant STOP = 1 << 160;
uint256 constant KEPT = PART | type(uint208).max;

function packTask(TaskState state_, uint256 since_, uint256 payload_) pure returns (TaskWord) {
    return TaskWord.wrap((uint256(state_) << STATE_AT) | (since_ << SINCE_AT) | payload_);
}

function state(TaskWord word) pure returns (TaskState) {
    return TaskState((TaskWord.unwrap(word) & ~(HELD | PART)) >> STATE_AT);
}

function since(TaskWord word) pure returns (uint40) {
    return uint40(TaskWord.unwrap(word) >> SINCE_AT);
}

/// @dev Meaningful from Claimed on; zero for tasks that ended unclaimed.
function index(TaskWord word) pure returns (uint24) {
    return uint24(TaskWord.unwrap(word) >> INDEX_AT);
}

/// @dev Meaningful in state Claimed only.
function node(TaskWord word) pure returns (address) {
    return address(uint160(TaskWord.unwrap(word)));
}

/// @dev Meaningful in state Submitted only.
function seed(TaskWord word) pure returns (uint128) {
    return uint128(TaskWord.unwrap(word));
}

/// @dev Meaningful from Committed on.
function commitment(TaskWord word) pure returns (uint184) {
    return uint184(TaskWord.unwrap(word));
}

/// @dev What a later state takes over: the 208 bits, and that they are of a part.
function kept(TaskWord word) pure returns (uint256) {
    return TaskWord.unwrap(word) & KEPT;
}

/// @dev Meaningful from Committed on.
function isPart(TaskWord word) pure returns (bool) {
    return TaskWord.unwrap(word) & PART != 0;
}

/// @dev The arbiter has the audit fee of a task that it held, whatever becomes of the task.
function wasHeld(TaskWord word) pure returns (bool) {
    return TaskWord.unwrap(word) & HELD != 0;
}

function withHeld(TaskWord word) pure returns (TaskWord) {
    return TaskWord.wrap(TaskWord.unwrap(word) | HELD);
}

/// @dev Meaningful in state Claimed only.
function stopRequested(TaskWord word) pure returns (bool) {
    return TaskWord.unwrap(word) & STOP != 0;
}

function withStop(TaskWord word) pure returns (TaskWord) {
    return TaskWord.wrap(TaskWord.unwrap(word) | STOP);
}

/// @notice What a commit leaves on chain of its two roots.
function commitmentOfRoots(bytes32 resultRoot, bytes32 traceRoot) pure returns (uint184) {
    return uint184(uint256(keccak256(abi.encode(resultRoot, traceRoot))));
}
