// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {
    AuditOutcome,
    AuditPhase,
    AuditVerdict,
    AuditView,
    CreditReason,
    Filing,
    IArbiter,
    PenaltyReason
} from "../interfaces/IArbiter.sol";
import {IBeacon} from "../interfaces/IBeacon.sol";
import {AuditMode, TaskState, Terms} from "../interfaces/ITaskBoard.sol";
import {AuditWord, differ, openAudit} from "../libraries/AuditWord.sol";
import {Sortition} from "../libraries/Sortition.sol";
import {TaskHash} from "../libraries/TaskHash.sol";
import {commitmentOfRoots} from "../libraries/TaskWord.sol";
import {Purse} from "./Purse.sol";

/// @title AuditDesk
/// @notice Audits: who is picked, who looks, and what two auditors said.
abstract contract AuditDesk is Purse {
    IBeacon public immutable beacon;

    mapping(bytes32 taskId => AuditWord) internal _audits;
    /// @dev Compute profile that the first flag named.
    mapping(bytes32 taskId => bytes32) internal _profiles;

    constructor(IBeacon beacon_) {
        if (address(beacon_) == address(0)) revert ZeroAddress();
        beacon = beacon_;
    }

    // ------------------------------------------------------------------ steps

    /// @inheritdoc IArbiter
    function commitAudit(Filing calldata filing, bytes32 commitment) external {
        if (commitment == bytes32(0)) revert EmptyCommitment();
        bytes32 taskId = _idOf(filing.terms);
        AuditWord audit = _audits[taskId];
        bytes32 drawn;
        uint256 seat;
        if (audit.phase() == AuditPhase.None) {
            audit = openAudit(_hold(taskId, filing), AuditPhase.Open);
            drawn = _challengeAt(audit.round(), taskId, filing);
            if (!_picks(drawn, filing)) revert NotPicked(taskId);
            uint40 commitBy = uint40(block.timestamp + _auditCommitWindow);
            emit AuditOpened(taskId, filing.node, drawn, audit.round(), commitBy);
        } else {
            if (audit.phase() != AuditPhase.Open) revert UnexpectedAuditPhase(taskId, audit.phase());
            if (_full(audit)) revert SeatsTaken(taskId);
            (uint8 state,, uint40 since,) = _recordOf(taskId, filing);
            uint40 closes = since + _auditCommitWindow;
            if (state != uint8(TaskState.Held) || block.timestamp > closes) revert TooLate(taskId, closes);
            drawn = _challengeAt(audit.round(), taskId, filing);
            seat = 1;
        }
        if (msg.sender == filing.node || msg.sender == filing.terms.requester) revert NotEligible(msg.sender);
        uint24 number = _draw(uint128(uint256(drawn)), taskId, audit.round(), _auditorSeats, _auditStep);
        if (number == audit.auditor(0)) revert NotEligible(msg.sender);
        _audits[taskId] = audit.withAuditor(seat, number, commitment);
        emit AuditCommitted(taskId, msg.sender);
    }

    /// @inheritdoc IArbiter
    function revealAudit(
        Filing calldata filing,
        uint8 verdict,
        bytes32[4] calldata projection,
        bytes32 salt,
        bytes32 evidence,
        bytes32 profile
    ) external nonReentrant {
        if (verdict == 0 || verdict > uint8(type(AuditVerdict).max)) revert MeaningUnknown(verdict);
        bytes32 taskId = _idOf(filing.terms);
        AuditWord audit = _expectOpen(taskId);
        bytes32 opened = keccak256(abi.encode(taskId, msg.sender, keccak256(abi.encode(projection)), salt));
        uint256 seat = _seatOf(audit, uint80(uint256(opened)));
        if (!_full(audit)) {
            (uint8 state,, uint40 since,) = board.recordOf(taskId);
            uint40 closes = since + _auditCommitWindow;
            if (state == uint8(TaskState.Held) && block.timestamp <= closes) revert TooEarly(taskId, closes + 1);
        }
        audit = audit.withReveal(seat, verdict, uint80(uint256(projection[0]) >> 176));
        if (verdict != uint8(AuditVerdict.Pass) && _profiles[taskId] == bytes32(0)) _profiles[taskId] = profile;
        emit AuditRevealed(taskId, msg.sender, verdict, evidence, profile, projection);
        uint256 other = 1 - seat;
        if (audit.auditor(other) == 0 || audit.verdict(other) != AuditVerdict.None) {
            _finish(taskId, filing.terms, audit);
        } else {
            _audits[taskId] = audit;
        }
    }

    /// @inheritdoc IArbiter
    function closeAudit(Filing calldata filing) external nonReentrant {
        bytes32 taskId = _idOf(filing.terms);
        AuditWord audit = _expectOpen(taskId);
        (uint8 state,, uint40 since,) = board.recordOf(taskId);
        if (state == uint8(TaskState.Held)) {
            uint40 closes = since + _auditCommitWindow + _auditRevealWindow;
            if (block.timestamp <= closes) revert TooEarly(taskId, closes + 1);
        }
        for (uint256 seat; seat < 2; ++seat) {
            if (audit.auditor(seat) == 0 || audit.verdict(seat) != AuditVerdict.None) continue;
            _penaliseAuditor(taskId, board.nodeAt(audit.auditor(seat)), PenaltyReason.MissingReveal);
        }
        _finish(taskId, filing.terms, audit);
    }

    /// @inheritdoc IArbiter
    function challenge(Filing calldata filing) external nonReentrant {
        if (msg.sender != filing.terms.requester) revert NotRequester(msg.sender, filing.terms.requester);
        bytes32 taskId = _idOf(filing.terms);
        AuditWord audit = _audits[taskId];
        if (audit.challenged()) revert AlreadyChallenged(taskId);
        emit Challenged(taskId, msg.sender, _challengeBond);
        if (audit.phase() == AuditPhase.None) {
            _audits[taskId] = openAudit(_hold(taskId, filing), AuditPhase.Disputed).withChallenge();
            _openDispute(taskId, msg.sender, msg.sender);
        } else if (audit.phase() == AuditPhase.Open) {
            _audits[taskId] = audit.withChallenge();
        } else {
            revert UnexpectedAuditPhase(taskId, audit.phase());
        }
        _takeBond(_challengeBond);
    }

    // ------------------------------------------------------------------ views

    /// @inheritdoc IArbiter
    function passedOf(address node) external view returns (uint32) {
        return _accounts[node].passed;
    }

    /// @inheritdoc IArbiter
    function rateBpsOf(address node) public view returns (uint16) {
        uint32 passed = _accounts[node].passed;
        if (passed < _vettingAudits) return _vettingRateBps;
        return passed < _trustedAudits ? _steadyRateBps : _trustedRateBps;
    }

    /// @inheritdoc IArbiter
    function challengeOf(Filing calldata filing) public view returns (bytes32 value, uint64 round) {
        bytes32 taskId = _idOf(filing.terms);
        round = _audits[taskId].round();
        (uint8 state,, uint40 since,) = _recordOf(taskId, filing);
        if (round == 0 && state == uint8(TaskState.Committed)) round = beacon.roundAt(since) + 1;
        bytes32 seed = round == 0 ? bytes32(0) : beacon.seedOf(round);
        if (seed != 0) value = _challengeFrom(seed, taskId, filing);
    }

    /// @inheritdoc IArbiter
    function picked(Filing calldata filing) external view returns (bool) {
        (bytes32 value,) = challengeOf(filing);
        return value != 0 && _picks(value, filing);
    }

    /// @inheritdoc IArbiter
    function auditOf(bytes32 taskId) external view returns (AuditView memory record) {
        AuditWord audit = _audits[taskId];
        record.phase = audit.phase();
        record.round = audit.round();
        record.challenged = audit.challenged();
        for (uint256 seat; seat < 2; ++seat) {
            record.auditors[seat] = board.nodeAt(audit.auditor(seat));
            record.verdicts[seat] = audit.verdict(seat);
        }
    }

    // ------------------------------------------------------------------ for the court

    function _openDispute(bytes32 taskId, address by, address requester) internal virtual;

    function _idOf(Terms calldata terms) internal view returns (bytes32) {
        return TaskHash.idOf(terms, address(board));
    }

    /// @dev Gives the fee to the node or back; if nobody ruled within the board's hold window, it goes back.
    /// @return node Who committed.
    function _rule(bytes32 taskId, Terms calldata terms, bool upheld) internal returns (address node) {
        uint8 state;
        uint40 since;
        (state, node, since,) = board.recordOf(taskId);
        if (state != uint8(TaskState.Held)) return node;
        (,, uint32 holdWindow,,,,,,,,,) = board.params();
        if (block.timestamp <= since + holdWindow) board.rule(terms, upheld);
        else board.expire(terms);
    }

    /// @dev The first round that begins after `time`. A record has 32 bits for it.
    function _roundAfter(uint40 time) internal view returns (uint64 round) {
        round = beacon.roundAt(time) + 1;
        _within(round, 1, type(uint32).max);
    }

    function _seedOf(uint64 round) internal view returns (bytes32 seed) {
        seed = beacon.seedOf(round);
        if (seed == bytes32(0)) revert SeedUnknown(round);
    }

    /// @dev Reverts unless the caller has weight and a seed draws it by now.
    /// @return number The caller's number at the board.
    function _draw(uint128 seed, bytes32 taskId, uint64 round, uint256 seats, uint256 step)
        internal
        view
        returns (uint24 number)
    {
        uint32 weight;
        uint64 total;
        (weight, total, number) = board.seatOf(msg.sender);
        if (weight == 0) revert NotEligible(msg.sender);
        uint256 share = weight * seats;
        uint256 score = Sortition.score(seed, taskId, msg.sender);
        uint256 limit =
            Sortition.threshold(total, share < total ? share : total, block.timestamp - beacon.startOf(round), step);
        if (score > limit) revert SortitionNotReached(score, limit);
    }

    // ------------------------------------------------------------------ internals

    /// @dev Ends an audit: pays, or brings the task before jurors.
    function _finish(bytes32 taskId, Terms calldata terms, AuditWord audit) private {
        (AuditVerdict first, AuditVerdict second) = (audit.verdict(0), audit.verdict(1));
        bool both = first != AuditVerdict.None && second != AuditVerdict.None;
        bool apart = both && differ(audit.kept(0), audit.kept(1), _projectionTolerance);
        if (audit.challenged() || apart || first > AuditVerdict.Pass || second > AuditVerdict.Pass) {
            _audits[taskId] = audit.withPhase(AuditPhase.Disputed);
            emit AuditClosed(taskId, uint8(AuditOutcome.Disputed));
            _openDispute(taskId, audit.challenged() ? terms.requester : msg.sender, terms.requester);
            return;
        }
        _audits[taskId] = audit.withPhase(AuditPhase.Closed);
        bool passed = first != AuditVerdict.None || second != AuditVerdict.None;
        emit AuditClosed(taskId, uint8(passed ? AuditOutcome.Passed : AuditOutcome.Void));
        address node = _rule(taskId, terms, true);
        if (!passed) return;
        ++_accounts[node].passed;
        for (uint256 seat; seat < 2; ++seat) {
            if (audit.verdict(seat) == AuditVerdict.None) continue;
            _payFee(board.nodeAt(audit.auditor(seat)), _auditorFee, CreditReason.AuditorFee);
        }
    }

    /// @dev Holds the task at the board and checks what the caller says about it.
    /// @return round The task's audit round.
    function _hold(bytes32 taskId, Filing calldata filing) private returns (uint256 round) {
        (address node, uint184 commitment, uint40 committedAt) = board.hold(filing.terms);
        _match(taskId, filing, node, commitment);
        return _roundAfter(committedAt);
    }

    function _recordOf(bytes32 taskId, Filing calldata filing)
        private
        view
        returns (uint8 state, address node, uint40 since, uint184 commitment)
    {
        (state, node, since, commitment) = board.recordOf(taskId);
        _match(taskId, filing, node, commitment);
    }

    function _match(bytes32 taskId, Filing calldata filing, address node, uint184 commitment) private pure {
        if (node != filing.node || commitment != commitmentOfRoots(filing.resultRoot, filing.traceRoot)) {
            revert FilingMismatch(taskId);
        }
    }

    function _challengeAt(uint64 round, bytes32 taskId, Filing calldata filing) private view returns (bytes32) {
        return _challengeFrom(_seedOf(round), taskId, filing);
    }

    function _challengeFrom(bytes32 seed, bytes32 taskId, Filing calldata filing) private pure returns (bytes32) {
        return keccak256(abi.encode(seed, taskId, filing.node, filing.resultRoot, filing.traceRoot));
    }

    function _picks(bytes32 drawn, Filing calldata filing) private view returns (bool) {
        if (filing.terms.audit != uint8(AuditMode.Sampled)) return filing.terms.audit == uint8(AuditMode.Always);
        return filing.terms.fee >= _largeFee || uint64(uint256(drawn)) % BPS < rateBpsOf(filing.node);
    }

    function _expectOpen(bytes32 taskId) private view returns (AuditWord audit) {
        audit = _audits[taskId];
        if (audit.phase() != AuditPhase.Open) revert UnexpectedAuditPhase(taskId, audit.phase());
    }

    function _full(AuditWord audit) private view returns (bool) {
        return audit.auditor(_auditorSeats - 1) != 0;
    }

    /// @dev The commitment names its auditor, so whoever opens it holds the seat.
    function _seatOf(AuditWord audit, uint80 opened) private view returns (uint256) {
        for (uint256 seat; seat < 2; ++seat) {
            bool silent = audit.auditor(seat) != 0 && audit.verdict(seat) == AuditVerdict.None;
            if (silent && audit.kept(seat) == opened) return seat;
        }
        revert CommitmentMismatch(msg.sender);
    }
}
