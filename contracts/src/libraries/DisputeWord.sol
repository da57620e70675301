// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {DisputeOutcome, DisputePhase} from "../interfaces/IArbiter.sol";

/// @notice All that the arbiter stores of a dispute but two addresses, in one word: beacon round (32 bits), last second
/// to commit (40), to reveal (40), to appeal (40), outcome (8), phase (8), level (8), and seven counts of 8 bits, those of
/// the present level but for the last: wrong projections of auditors 1 and 0, votes against the node, votes for it, votes
/// revealed, seats taken, and seats that were taken at level 0.
type DisputeWord is uint256;

using {count, plus, with, round, commitBy, revealBy, appealBy, outcome, phase, level} for DisputeWord global;

uint256 constant ROUND_AT = 200;
uint256 constant COMMIT_BY_AT = 160;
uint256 constant REVEAL_BY_AT = 120;
uint256 constant APPEAL_BY_AT = 80;
uint256 constant OUTCOME_AT = 72;
uint256 constant PHASE_AT = 64;
uint256 constant LEVEL_AT = 56;

/// @dev Places of the counts.
uint256 constant WRONG = 40;
uint256 constant BAD = 32;
uint256 constant GOOD = 24;
uint256 constant REVEALED = 16;
uint256 constant SEATS = 8;
uint256 constant FIRST_SEATS = 0;

/// @param first What is kept of level 0: its seats, and its outcome until this level is counted.
function openLevel(uint256 level_, uint256 first, uint64 round_, uint40 commitBy_, uint40 revealBy_)
    pure
    returns (DisputeWord)
{
    return DisputeWord.wrap(
        (uint256(round_) << ROUND_AT) | (uint256(commitBy_) << COMMIT_BY_AT) | (uint256(revealBy_) << REVEAL_BY_AT)
            | (uint256(DisputePhase.Voting) << PHASE_AT) | (level_ << LEVEL_AT) | first
    );
}

/// @param at One of the places above; `WRONG + 8 * seat` for auditors.
function count(DisputeWord word, uint256 at) pure returns (uint256) {
    return uint8(DisputeWord.unwrap(word) >> at);
}

/// @dev No count exceeds the seats of a level, which fit.
function plus(DisputeWord word, uint256 at) pure returns (DisputeWord) {
    unchecked {
        return DisputeWord.wrap(DisputeWord.unwrap(word) + (1 << at));
    }
}

/// @dev Replaces `bits` bits at `at`.
function with(DisputeWord word, uint256 at, uint256 bits, uint256 value) pure returns (DisputeWord) {
    uint256 mask = ((1 << bits) - 1) << at;
    return DisputeWord.wrap((DisputeWord.unwrap(word) & ~mask) | (value << at));
}

function round(DisputeWord word) pure returns (uint64) {
    return uint32(DisputeWord.unwrap(word) >> ROUND_AT);
}

function commitBy(DisputeWord word) pure returns (uint40) {
    return uint40(DisputeWord.unwrap(word) >> COMMIT_BY_AT);
}

function revealBy(DisputeWord word) pure returns (uint40) {
    return uint40(DisputeWord.unwrap(word) >> REVEAL_BY_AT);
}

/// @dev Zero before the tally, and at level 1.
function appealBy(DisputeWord word) pure returns (uint40) {
    return uint40(DisputeWord.unwrap(word) >> APPEAL_BY_AT);
}

function outcome(DisputeWord word) pure returns (DisputeOutcome) {
    return DisputeOutcome(uint8(DisputeWord.unwrap(word) >> OUTCOME_AT));
}

function phase(DisputeWord word) pure returns (DisputePhase) {
    return DisputePhase(uint8(DisputeWord.unwrap(word) >> PHASE_AT));
}

function level(DisputeWord word) pure returns (uint8) {
    return uint8(DisputeWord.unwrap(word) >> LEVEL_AT);
}
