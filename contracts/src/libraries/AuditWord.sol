// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {AuditPhase, AuditVerdict} from "../interfaces/IArbiter.sol";

/// @notice All that the arbiter stores of an audit, in one word: beacon round (32 bits), 6 unused, whether the seats are held
/// by lot (2), whether the second is taken (1), challenged (1), two verdicts (2 each), phase (2), the numbers of two auditors (24 each), and for each of them
/// 80 bits: of its commitment until it reveals, and then the first five numbers of its projection. While the second seat is
/// free, its places hold what the next auditor's call needs to know: the audited node's number, and the 80 bits of the
/// challenge that draw auditors. That spares it the board's record, the beacon and the roots.
/// @dev Eighty bits are enough against an auditor that learns the right numbers later: it would need a second preimage.
/// A collision is no use to it, because the numbers are unknown when it commits. They are enough for a draw, too: nobody
/// can search for a challenge, which a beacon gives once.
type AuditWord is uint256;

using {
    round,
    challenged,
    full,
    audited,
    phase,
    verdict,
    auditor,
    kept,
    drew,
    accused,
    withPhase,
    withChallenge,
    withAuditor,
    withReveal
} for AuditWord global;

uint256 constant ROUND_AT = 224;
uint256 constant BY_LOT_AT = 216;
uint256 constant SECOND_TAKEN = 1 << 215;
uint256 constant CHALLENGED_AT = 214;
uint256 constant VERDICT_AT = 210;
uint256 constant PHASE_AT = 208;
uint256 constant AUDITOR_AT = 160;
uint256 constant SEALED = type(uint80).max;

function openAudit(uint256 round_, AuditPhase phase_, bytes32 challenge, uint24 node) pure returns (AuditWord) {
    uint256 seen = (uint256(challenge) & SEALED) << 80;
    uint256 known = seen | (uint256(node) << (AUDITOR_AT + 24));
    return AuditWord.wrap((round_ << ROUND_AT) | (uint256(phase_) << PHASE_AT) | known);
}

function round(AuditWord word) pure returns (uint64) {
    return uint64(AuditWord.unwrap(word) >> ROUND_AT);
}

function challenged(AuditWord word) pure returns (bool) {
    return (AuditWord.unwrap(word) >> CHALLENGED_AT) & 1 != 0;
}

/// @dev Whether all of `seats` seats are taken, once the first is.
function full(AuditWord word, uint256 seats) pure returns (bool) {
    return seats == 1 || AuditWord.unwrap(word) & SECOND_TAKEN != 0;
}

/// @dev The audited node's number at the board, while the second seat is free.
function audited(AuditWord word) pure returns (uint24) {
    return uint24(AuditWord.unwrap(word) >> (AUDITOR_AT + 24));
}

function phase(AuditWord word) pure returns (AuditPhase) {
    return AuditPhase((AuditWord.unwrap(word) >> PHASE_AT) & 3);
}

function verdict(AuditWord word, uint256 seat) pure returns (AuditVerdict) {
    unchecked {
        return AuditVerdict((AuditWord.unwrap(word) >> (VERDICT_AT + 2 * seat)) & 3);
    }
}

/// @dev The board's number of the node in a seat; zero when the seat is free.
function auditor(AuditWord word, uint256 seat) pure returns (uint24) {
    unchecked {
        if (seat != 0 && AuditWord.unwrap(word) & SECOND_TAKEN == 0) return 0;
        return uint24(AuditWord.unwrap(word) >> (AUDITOR_AT + 24 * seat));
    }
}

/// @dev Eighty bits of a seat: of the commitment, of the projection once there is a verdict, or of the challenge.
function kept(AuditWord word, uint256 seat) pure returns (uint80) {
    unchecked {
        return uint80(AuditWord.unwrap(word) >> (80 * seat));
    }
}

/// @dev While the second seat is free: whether what is sealed was computed for this challenge, as its highest bits say.
function drew(AuditWord word, bytes32 commitment) pure returns (bool) {
    return uint256(commitment) >> 176 == word.kept(1);
}

/// @dev Whether both auditors flagged or called the openings withheld, and chance seated both: two parties, where one might
/// lie. The higher bit of a verdict says so.
function accused(AuditWord word) pure returns (bool) {
    uint256 bits = AuditWord.unwrap(word);
    return (bits >> VERDICT_AT) & 10 == 10 && (bits >> BY_LOT_AT) & 3 == 3;
}

function withPhase(AuditWord word, AuditPhase phase_) pure returns (AuditWord) {
    return AuditWord.wrap((AuditWord.unwrap(word) & ~(uint256(3) << PHASE_AT)) | (uint256(phase_) << PHASE_AT));
}

function withChallenge(AuditWord word) pure returns (AuditWord) {
    return AuditWord.wrap(AuditWord.unwrap(word) | (1 << CHALLENGED_AT));
}

/// @dev For a free seat.
function withAuditor(AuditWord word, uint256 seat, uint24 number, bytes32 commitment, bool byLot)
    pure
    returns (AuditWord)
{
    unchecked {
        uint256 place = AUDITOR_AT + 24 * seat;
        uint256 rest = AuditWord.unwrap(word) & ~(uint256(type(uint24).max) << place);
        uint256 added = (uint256(number) << place) | (seat == 0 ? 0 : SECOND_TAKEN);
        if (byLot) added |= 1 << (BY_LOT_AT + seat);
        return withKept(AuditWord.wrap(rest), seat, added, uint80(uint256(commitment)));
    }
}

/// @dev For a seat that has not revealed.
function withReveal(AuditWord word, uint256 seat, uint8 verdict_, uint80 numbers) pure returns (AuditWord) {
    return withKept(word, seat, uint256(verdict_) << VERDICT_AT << (2 * seat), numbers);
}

/// @dev Replaces a seat's eighty bits and sets bits that are clear.
function withKept(AuditWord word, uint256 seat, uint256 added, uint80 kept_) pure returns (AuditWord) {
    unchecked {
        uint256 rest = AuditWord.unwrap(word) & ~(SEALED << (80 * seat));
        return AuditWord.wrap(rest | added | (uint256(kept_) << (80 * seat)));
    }
}

/// @notice Whether any of the five numbers of two projections differ by more than `tolerance`.
/// @param tolerance At most 32,767.
function differ(uint80 left, uint80 right, uint256 tolerance) pure returns (bool) {
    unchecked {
        // Equal projections are the rule.
        if (left == right) return false;
        for (uint256 shift; shift < 80; shift += 16) {
            int256 gap = int256(int16(uint16(left >> shift))) - int256(int16(uint16(right >> shift)));
            // Within [-tolerance, tolerance] exactly when the sum is within [0, 2 * tolerance].
            if (uint256(gap + int256(tolerance)) > 2 * tolerance) return true;
        }
        return false;
    }
}
