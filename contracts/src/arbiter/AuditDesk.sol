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
    PenaltyReason,
    Reveal
} from "../interfaces/IArbiter.sol";
import {IBeacon} from "../interfaces/IBeacon.sol";
import {AuditMode, TaskState, Terms} from "../interfaces/ITaskBoard.sol";
import {AuditRate} from "../libraries/AuditRate.sol";
import {AuditWord, differ, openAudit} from "../libraries/AuditWord.sol";
import {Sortition} from "../libraries/Sortition.sol";
import {TaskHash} from "../libraries/TaskHash.sol";
import {Purse} from "./Purse.sol";

// Board and registry are fixed contracts of this project without hooks; what moves tokens stands under a transient guard.
// slither-disable-start reentrancy-no-eth
/// @title AuditDesk
/// @notice Audits: who is picked, who looks, and what two auditors said.
abstract contract AuditDesk is Purse {
    uint256 private constant NOBODY = 2;

    IBeacon public immutable beacon;

    mapping(bytes32 taskId => AuditWord) internal _audits;
    /// @dev Audits passed since the last setback, by the board's number of the node.
    mapping(uint24 node => uint32) internal _passed;
    /// @dev Compute profile that the first flag named.
    mapping(bytes32 taskId => bytes32) internal _profiles;

    /// @dev Rounds have one length, so that one round known is all known, and no call needs to ask.
    uint64 private immutable _originRound;
    uint40 private immutable _originStart;
    uint40 internal immutable _period;

    constructor(IBeacon beacon_) {
        if (address(beacon_) == address(0)) revert ZeroAddress();
        beacon = beacon_;
        _originRound = beacon_.roundAt(uint40(block.timestamp));
        _originStart = beacon_.startOf(_originRound);
        _period = beacon_.startOf(_originRound + 1) - _originStart;
        _within(_period, 1, 1 days);
    }

    // ------------------------------------------------------------------ steps

    /// @inheritdoc IArbiter
    function commitAudit(Filing calldata filing, bytes32 commitment) external {
        if (commitment == bytes32(0)) revert EmptyCommitment();
        bytes32 taskId = _idOf(filing.terms);
        AuditWord audit = _audits[taskId];
        uint64 round = audit.round();
        uint256 seat = 1;
        if (audit.phase() == AuditPhase.None) {
            uint24 node;
            (node, round) = _hold(taskId, filing);
            seat = 0;
            bytes32 drawn = _challengeFrom(_seedOf(round), taskId, filing);
            if (!_picks(drawn, filing.terms, node)) revert NotPicked(taskId);
            audit = openAudit(round, AuditPhase.Open, drawn, node);
            emit AuditOpened(taskId, msg.sender, drawn, round, _startOf(round) + _auditCommitWindow);
        } else {
            if (audit.phase() != AuditPhase.Open) revert UnexpectedAuditPhase(taskId, audit.phase());
            if (audit.full(_auditorSeats)) revert SeatsTaken(taskId);
            uint40 closes = _startOf(round) + _auditCommitWindow;
            if (block.timestamp > closes) revert TooLate(taskId, closes);
            emit AuditCommitted(taskId, msg.sender);
        }
        if (msg.sender == filing.terms.requester) revert NotEligible(msg.sender);
        (uint24 number, bool byLot) = _draw(audit.kept(1), taskId, round, _auditorSeats, _auditStep);
        if (number == audit.audited() || number == audit.auditor(0)) revert NotEligible(msg.sender);
        if (!audit.drew(commitment)) revert SealOfAnotherDraw(taskId);
        _audits[taskId] = audit.withAuditor(seat, number, commitment, byLot);
    }

    /// @inheritdoc IArbiter
    function revealAudits(Reveal[] calldata reveals) external nonReentrant {
        for (uint256 i; i < reveals.length; ++i) {
            _reveal(reveals[i]);
        }
    }

    /// @inheritdoc IArbiter
    function closeAudit(Filing calldata filing) external nonReentrant {
        bytes32 taskId = _idOf(filing.terms);
        AuditWord audit = _expectOpen(taskId);
        uint40 closes = _startOf(audit.round()) + _auditCommitWindow + _auditRevealWindow;
        for (uint256 seat; seat < 2; ++seat) {
            if (!_silent(audit, seat)) continue;
            if (block.timestamp <= closes) revert TooEarly(taskId, closes + 1);
            address auditor = board.nodeAt(audit.auditor(seat));
            _penaliseAuditor(taskId, auditor, _auditorPenalty, PenaltyReason.MissingReveal);
        }
        if (!_contested(audit)) return _conclude(taskId, audit, NOBODY);
        _audits[taskId] = audit.withPhase(AuditPhase.Disputed);
        emit AuditClosed(taskId, uint8(AuditOutcome.Disputed));
        address requester = filing.terms.requester;
        uint256 accuser = audit.verdict(0) > AuditVerdict.Pass ? 0 : 1;
        address by = audit.challenged() ? requester : board.nodeAt(audit.auditor(accuser));
        _openDispute(taskId, by, requester);
    }

    /// @inheritdoc IArbiter
    function challenge(Filing calldata filing) external nonReentrant {
        if (msg.sender != filing.terms.requester) revert NotRequester(msg.sender, filing.terms.requester);
        bytes32 taskId = _idOf(filing.terms);
        AuditWord audit = _audits[taskId];
        if (audit.challenged()) revert AlreadyChallenged(taskId);
        emit Challenged(taskId, msg.sender, _challengeBond);
        if (audit.phase() == AuditPhase.None) {
            (uint24 node, uint64 round) = _hold(taskId, filing);
            _audits[taskId] = openAudit(round, AuditPhase.Disputed, 0, node).withChallenge();
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
        return _passed[board.indexOf(node)];
    }

    /// @inheritdoc IArbiter
    function rateBpsOf(address node) external view returns (uint16) {
        return _rateBpsOf(board.indexOf(node));
    }

    function _rateBpsOf(uint24 number) private view returns (uint16) {
        return AuditRate.bpsOf(
            _passed[number], _vettingAudits, _trustedAudits, _vettingRateBps, _steadyRateBps, _trustedRateBps
        );
    }

    /// @inheritdoc IArbiter
    function challengeOf(Filing calldata filing) public view returns (bytes32 value, uint64 round) {
        bytes32 taskId = _idOf(filing.terms);
        round = _audits[taskId].round();
        (uint8 state,, uint40 since, uint184 commitment) = board.recordOf(taskId);
        _match(taskId, filing, commitment);
        if (round == 0 && state == uint8(TaskState.Committed)) round = _roundAfter(since);
        bytes32 seed = round == 0 ? bytes32(0) : beacon.seedOf(round);
        if (seed != 0) value = _challengeFrom(seed, taskId, filing);
    }

    /// @inheritdoc IArbiter
    function picked(Filing calldata filing) external view returns (bool) {
        (bytes32 value,) = challengeOf(filing);
        (, address node,,) = board.recordOf(_idOf(filing.terms));
        return value != 0 && _picks(value, filing.terms, board.indexOf(node));
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

    /// @dev The first round that begins after `time`. A record has 32 bits for it.
    function _roundAfter(uint40 time) internal view returns (uint64 round) {
        // No task is older than this contract, since the board knows no other arbiter.
        round = _originRound + (time - _originStart) / _period + 1;
        _within(round, 1, type(uint32).max);
    }

    function _startOf(uint64 round) internal view returns (uint40) {
        return uint40(_originStart + uint256(round - _originRound) * _period);
    }

    function _seedOf(uint64 round) internal view returns (bytes32 seed) {
        seed = beacon.seedOf(round);
        if (seed == bytes32(0)) revert SeedUnknown(round);
    }

    /// @dev Reverts unless the caller has weight and a seed draws it by now.
    /// @return number The caller's number at the board.
    /// @return byLot Whether it was among the first to be drawn, see `lotDoublings`.
    function _draw(uint80 seed, bytes32 taskId, uint64 round, uint256 seats, uint256 step)
        internal
        view
        returns (uint24 number, bool byLot)
    {
        uint32 weight;
        uint64 total;
        (weight, total, number) = board.seatOf(msg.sender);
        if (weight == 0) revert NotEligible(msg.sender);
        uint256 share = weight * seats;
        if (share > total) share = total;
        uint256 score = Sortition.score(seed, taskId, msg.sender);
        uint256 limit = Sortition.threshold(total, share, block.timestamp - _startOf(round), step);
        if (score > limit) revert SortitionNotReached(score, limit);
        byLot = score <= Sortition.threshold(total, share, _lotDoublings, 1);
    }

    // ------------------------------------------------------------------ internals

    function _reveal(Reveal calldata told) private {
        (bytes32 taskId, uint8 verdict) = (told.taskId, told.verdict);
        if (verdict == 0 || verdict > uint8(type(AuditVerdict).max)) revert MeaningUnknown(verdict);
        AuditWord audit = _expectOpen(taskId);
        bytes32 opened = keccak256(abi.encode(taskId, msg.sender, told.projection, told.salt));
        uint256 seat = _seatOf(audit, uint80(uint256(opened)));
        if (!audit.full(_auditorSeats)) {
            uint40 closes = _startOf(audit.round()) + _auditCommitWindow;
            if (block.timestamp <= closes) revert TooEarly(taskId, closes + 1);
        }
        audit = audit.withReveal(seat, verdict, uint80(uint256(told.projection) >> 176));
        if (verdict != uint8(AuditVerdict.Pass) && _profiles[taskId] == bytes32(0)) _profiles[taskId] = told.profile;
        emit AuditRevealed(taskId, msg.sender, verdict, told.evidence, told.profile, told.projection);
        if (_silent(audit, 1 - seat) || _contested(audit)) _audits[taskId] = audit;
        else _conclude(taskId, audit, seat);
    }

    /// @dev Whether what was said has to go before jurors: a flag, a disagreement, or the requester's bond.
    function _contested(AuditWord audit) private view returns (bool) {
        (AuditVerdict first, AuditVerdict second) = (audit.verdict(0), audit.verdict(1));
        if (audit.challenged() || first > AuditVerdict.Pass || second > AuditVerdict.Pass) return true;
        bool both = first != AuditVerdict.None && second != AuditVerdict.None;
        return both && differ(audit.kept(0), audit.kept(1), _projectionTolerance);
    }

    /// @dev Ends an audit that nobody contests, and lets the node be paid.
    /// @param mine The caller's seat, whose address needs no looking up; `NOBODY` for a caller without one.
    function _conclude(bytes32 taskId, AuditWord audit, uint256 mine) private {
        // A closed audit leaves only its log: the board holds no task twice, so there can be no second one.
        _audits[taskId] = AuditWord.wrap(0);
        bool passed = audit.verdict(0) != AuditVerdict.None || audit.verdict(1) != AuditVerdict.None;
        emit AuditClosed(taskId, uint8(passed ? AuditOutcome.Passed : AuditOutcome.Void));
        uint24 node = board.uphold(taskId);
        if (!passed) return;
        // Counting on would change no rate any more.
        if (_passed[node] < _trustedAudits) ++_passed[node];
        for (uint256 seat; seat < 2; ++seat) {
            if (audit.verdict(seat) == AuditVerdict.None) continue;
            address auditor = seat == mine ? msg.sender : board.nodeAt(audit.auditor(seat));
            _payFee(auditor, _auditorFee, CreditReason.AuditorFee);
        }
    }

    /// @dev Holds the task at the board and checks what the caller says about it.
    /// @return number The node's.
    /// @return round The task's audit round.
    function _hold(bytes32 taskId, Filing calldata filing) private returns (uint24 number, uint64 round) {
        uint184 commitment;
        uint40 committedAt;
        (number, commitment, committedAt) = board.hold(filing.terms);
        _match(taskId, filing, commitment);
        round = _roundAfter(committedAt);
    }

    function _match(bytes32 taskId, Filing calldata filing, uint184 commitment) private pure {
        if (commitment == 0 || commitment != filing.commitment) revert FilingMismatch(taskId);
    }

    function _challengeFrom(bytes32 seed, bytes32 taskId, Filing calldata filing) private pure returns (bytes32) {
        return keccak256(abi.encode(seed, taskId, filing.commitment));
    }

    function _picks(bytes32 drawn, Terms calldata terms, uint24 node) private view returns (bool) {
        if (terms.audit != uint8(AuditMode.Sampled)) return terms.audit == uint8(AuditMode.Always);
        // slither-disable-next-line weak-prng -- the challenge is a hash with a beacon's seed
        return terms.fee >= _largeFee || uint64(uint256(drawn)) % BPS < _rateBpsOf(node);
    }

    function _expectOpen(bytes32 taskId) private view returns (AuditWord audit) {
        audit = _audits[taskId];
        if (audit.phase() != AuditPhase.Open) revert UnexpectedAuditPhase(taskId, audit.phase());
    }

    function _silent(AuditWord audit, uint256 seat) private pure returns (bool) {
        return audit.auditor(seat) != 0 && audit.verdict(seat) == AuditVerdict.None;
    }

    /// @dev The commitment names its auditor, so whoever opens it holds the seat.
    function _seatOf(AuditWord audit, uint80 opened) private view returns (uint256) {
        if (_silent(audit, 0) && audit.kept(0) == opened) return 0;
        if (_silent(audit, 1) && audit.kept(1) == opened) return 1;
        revert CommitmentMismatch(msg.sender);
    }
}
// slither-disable-end reentrancy-no-eth
