// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {AuditPhase, AuditVerdict} from "../interfaces/IArbiter.sol";

/// @notice All that the arbiter stores of an audit, in one word: beacon round (32 bits), 9 unused, challenged (1), two
/// verdicts (2 each), phase (2), the numbers of two auditors (24 each), and for each of them 80 bits: of its commitment
/// until it reveals, and then the first five numbers of its projection.
/// @dev Eighty bits are enough against an auditor that learns the right numbers later: it would need a second preimage.
/// A collision is no use to it, because the numbers are unknown when it commits.
type AuditWord is uint256;

using {
    round,
    challenged,
    phase,
    verdict,
    auditor,
    kept,
    withPhase,
    withChallenge,
    withAuditor,
    withReveal
} for AuditWord global;

uint256 constant ROUND_AT = 224;
uint256 constant CHALLENGED_AT = 214;
uint256 constant VERDICT_AT = 210;
uint256 constant PHASE_AT = 208;
uint256 constant AUDITOR_AT = 160;
uint256 constant SEALED = type(uint80).max;

function openAudit(uint256 round_, AuditPhase phase_) pure returns (AuditWord) {
    return AuditWord.wrap((round_ << ROUND_AT) | (uint256(phase_) << PHASE_AT));
}

function round(AuditWord word) pure returns (uint64) {
    return uint64(AuditWord.unwrap(word) >> ROUND_AT);
}

function challenged(AuditWord word) pure returns (bool) {
    return (AuditWord.unwrap(word) >> CHALLENGED_AT) & 1 != 0;
}

function phase(AuditWord word) pure returns (AuditPhase) {
    return AuditPhase((AuditWord.unwrap(word) >> PHASE_AT) & 3);
}

function verdict(AuditWord word, uint256 seat) pure returns (AuditVerdict) {
    return AuditVerdict((AuditWord.unwrap(word) >> (VERDICT_AT + 2 * seat)) & 3);
}

/// @dev The board's number of the node in a seat; zero when the seat is free.
function auditor(AuditWord word, uint256 seat) pure returns (uint24) {
    return uint24(AuditWord.unwrap(word) >> (AUDITOR_AT + 24 * seat));
}

/// @dev Eighty bits of a seat: of the commitment, or of the projection once there is a verdict.
function kept(AuditWord word, uint256 seat) pure returns (uint80) {
    return uint80(AuditWord.unwrap(word) >> (80 * seat));
}

function withPhase(AuditWord word, AuditPhase phase_) pure returns (AuditWord) {
    return AuditWord.wrap((AuditWord.unwrap(word) & ~(uint256(3) << PHASE_AT)) | (uint256(phase_) << PHASE_AT));
}

function withChallenge(AuditWord word) pure returns (AuditWord) {
    return AuditWord.wrap(AuditWord.unwrap(word) | (1 << CHALLENGED_AT));
}

/// @dev For a free seat.
function withAuditor(AuditWord word, uint256 seat, uint24 number, bytes32 commitment) pure returns (AuditWord) {
    uint256 taken =
        (uint256(number) << (AUDITOR_AT + 24 * seat)) | (uint256(uint80(uint256(commitment))) << (80 * seat));
    return AuditWord.wrap(AuditWord.unwrap(word) | taken);
}

/// @dev For a seat that has not revealed.
function withReveal(AuditWord word, uint256 seat, uint8 verdict_, uint80 numbers) pure returns (AuditWord) {
    uint256 rest = AuditWord.unwrap(word) & ~(SEALED << (80 * seat));
    return AuditWord.wrap(rest | (uint256(verdict_) << (VERDICT_AT + 2 * seat)) | (uint256(numbers) << (80 * seat)));
}

/// @notice Whether any of the five numbers of two projections differ by more than `tolerance`.
function differ(uint80 left, uint80 right, uint256 tolerance) pure returns (bool) {
    for (uint256 shift; shift < 80; shift += 16) {
        int256 gap = int256(int16(uint16(left >> shift))) - int256(int16(uint16(right >> shift)));
        if (uint256(gap < 0 ? -gap : gap) > tolerance) return true;
    }
    return false;
}
