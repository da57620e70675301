// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {ArbiterRules, IArbiter} from "../interfaces/IArbiter.sol";
import {RulesPage} from "./RulesPage.sol";

/// @title Rulebook
/// @notice The arbiter's rules and their hard ranges.
abstract contract Rulebook is IArbiter {
    uint256 internal constant BPS = 10_000;
    /// @dev Bounds the loop of `execute`.
    uint256 private constant MOST_JURORS = 40;
    /// @dev Bytes of 32 rules, and of the STOP before them on their page.
    uint256 private constant RULES_BYTES = 1024;
    uint256 private constant STOP_BYTES = 1;

    uint16 internal immutable _vettingRateBps;
    uint16 internal immutable _steadyRateBps;
    uint16 internal immutable _trustedRateBps;
    uint32 internal immutable _vettingAudits;
    uint32 internal immutable _trustedAudits;
    uint96 internal immutable _largeFee;
    uint8 internal immutable _auditorSeats;
    uint32 internal immutable _auditStep;
    uint8 internal immutable _lotDoublings;
    uint32 internal immutable _auditCommitWindow;
    uint32 internal immutable _auditRevealWindow;
    uint16 internal immutable _projectionTolerance;
    uint96 internal immutable _auditorFee;
    uint96 internal immutable _auditorPenalty;
    uint8 internal immutable _jurors;
    uint8 internal immutable _quorum;
    uint8 internal immutable _appealJurors;
    uint8 internal immutable _appealQuorum;
    uint32 internal immutable _juryStep;
    uint32 internal immutable _voteCommitWindow;
    uint32 internal immutable _voteRevealWindow;
    uint32 internal immutable _appealWindow;
    uint96 internal immutable _jurorFee;
    uint96 internal immutable _jurorPenalty;
    uint96 internal immutable _challengeBond;
    uint32 internal immutable _penaltyFactor;
    uint16 internal immutable _penaltyBps;
    uint16 internal immutable _burnBps;
    uint16 internal immutable _requesterBps;
    uint16 internal immutable _brakeSlashes;
    uint32 internal immutable _grace;
    uint96 internal immutable _reserve;
    RulesPage private immutable _page;

    constructor(ArbiterRules memory rules) {
        _check(rules);
        _vettingRateBps = rules.vettingRateBps;
        _steadyRateBps = rules.steadyRateBps;
        _trustedRateBps = rules.trustedRateBps;
        _vettingAudits = rules.vettingAudits;
        _trustedAudits = rules.trustedAudits;
        _largeFee = rules.largeFee;
        _auditorSeats = rules.auditorSeats;
        _auditStep = rules.auditStep;
        _lotDoublings = rules.lotDoublings;
        _auditCommitWindow = rules.auditCommitWindow;
        _auditRevealWindow = rules.auditRevealWindow;
        _projectionTolerance = rules.projectionTolerance;
        _auditorFee = rules.auditorFee;
        _auditorPenalty = rules.auditorPenalty;
        _jurors = rules.jurors;
        _quorum = rules.quorum;
        _appealJurors = rules.appealJurors;
        _appealQuorum = rules.appealQuorum;
        _juryStep = rules.juryStep;
        _voteCommitWindow = rules.voteCommitWindow;
        _voteRevealWindow = rules.voteRevealWindow;
        _appealWindow = rules.appealWindow;
        _jurorFee = rules.jurorFee;
        _jurorPenalty = rules.jurorPenalty;
        _challengeBond = rules.challengeBond;
        _penaltyFactor = rules.penaltyFactor;
        _penaltyBps = rules.penaltyBps;
        _burnBps = rules.burnBps;
        _requesterBps = rules.requesterBps;
        _brakeSlashes = rules.brakeSlashes;
        _grace = rules.grace;
        _reserve = rules.reserve;
        _page = new RulesPage(rules);
    }

    /// @inheritdoc IArbiter
    function params() external view returns (ArbiterRules memory) {
        RulesPage page = _page;
        assembly ("memory-safe") {
            let rules := mload(0x40)
            extcodecopy(page, rules, STOP_BYTES, RULES_BYTES)
            return(rules, RULES_BYTES)
        }
    }

    /// @dev Seconds from a hold to the end of its dispute and appeal, when each phase takes all of its time and each call
    /// between phases comes within the grace.
    /// @param period Seconds of a beacon round.
    function _longestDispute(uint256 period) internal view returns (uint256) {
        uint256 level = period + _voteCommitWindow + _voteRevealWindow;
        return _auditCommitWindow + _auditRevealWindow + 2 * level + _appealWindow + 4 * uint256(_grace);
    }

    function _within(uint256 value, uint256 least, uint256 greatest) internal pure {
        if (value < least || value > greatest) revert RuleOutOfRange(value, least, greatest);
    }

    function _check(ArbiterRules memory rules) private pure {
        _within(rules.vettingRateBps, 0, BPS);
        _within(rules.steadyRateBps, 0, rules.vettingRateBps);
        _within(rules.trustedRateBps, 0, rules.steadyRateBps);
        _within(rules.vettingAudits, 0, rules.trustedAudits);
        _within(rules.auditorSeats, 1, 2);
        _within(rules.auditStep, 1, 1 days);
        _within(rules.auditCommitWindow, 1, 7 days);
        _within(rules.auditRevealWindow, 1, 7 days);
        _within(rules.projectionTolerance, 0, uint16(type(int16).max));
        _checkJury(rules.jurors, rules.quorum);
        _checkJury(rules.appealJurors, rules.appealQuorum);
        _within(rules.juryStep, 1, 1 days);
        _within(rules.voteCommitWindow, 1, 7 days);
        _within(rules.voteRevealWindow, 1, 7 days);
        _within(rules.appealWindow, 1, 7 days);
        // Who calls a jury in vain pays it, up to this penalty: else friends in the jury would earn more than it costs.
        _within(rules.auditorPenalty, uint256(rules.jurors) * rules.jurorFee, type(uint96).max);
        _within(rules.challengeBond, 1, type(uint96).max / 3);
        _within(rules.penaltyFactor, 0, 1_000_000);
        _within(rules.penaltyBps, 0, BPS);
        _within(rules.burnBps, 0, BPS);
        _within(rules.requesterBps, 0, BPS - rules.burnBps);
        _within(rules.brakeSlashes, 1, type(uint16).max);
        _within(rules.grace, 1, 7 days);
    }

    /// @dev A quorum is a majority, so that no two outcomes can have one, and never a single vote.
    function _checkJury(uint256 seats, uint256 quorum) private pure {
        _within(seats, 2, MOST_JURORS);
        _within(quorum, seats / 2 + 1, seats);
    }
}
