// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {
    AuditVerdict,
    CreditReason,
    DisputeOutcome,
    DisputePhase,
    DisputeView,
    Filing,
    IArbiter,
    PenaltyReason
} from "../interfaces/IArbiter.sol";
import {AuditWord} from "../libraries/AuditWord.sol";
import {AuditDesk} from "./AuditDesk.sol";

/// @title Court
/// @notice Disputes: jurors drawn by a later round, a count, one appeal, and what follows.
abstract contract Court is AuditDesk {
    /// @dev All but the addresses is one word.
    struct Dispute {
        uint32 round;
        uint40 commitBy;
        uint40 revealBy;
        uint40 appealBy;
        uint8 level;
        DisputePhase phase;
        DisputeOutcome outcome;
        uint8 seats;
        uint8 revealed;
        uint8 good;
        uint8 bad;
        uint8 wrong0;
        uint8 wrong1;
        /// @dev Seats that were taken at level 0, kept when an appeal starts the count anew.
        uint8 firstSeats;
        address requester;
        address appellant;
    }

    uint256 private constant APPEAL_FACTOR = 3;
    uint8 private constant GOOD = 1;
    uint8 private constant BAD = 2;
    /// @dev A ballot: 224 bits of the commitment, a mark that the seat is taken, and the vote once it is revealed.
    uint256 private constant SEATED = 1 << 8;
    uint256 private constant SEALED_AT = 32;
    /// @dev Numbers of jurors, ten a word.
    uint256 private constant NUMBERS_A_WORD = 10;
    uint256 private constant WORDS_A_LEVEL = 4;

    mapping(bytes32 taskId => Dispute) private _disputes;
    mapping(bytes32 taskId => mapping(uint256 level => mapping(address juror => uint256))) private _ballots;
    mapping(bytes32 taskId => mapping(uint256 word => uint256)) private _jurorNumbers;
    /// @inheritdoc IArbiter
    mapping(bytes32 profile => mapping(uint256 day => uint256)) public slashesOf;

    // ------------------------------------------------------------------ steps

    /// @inheritdoc IArbiter
    function commitVote(bytes32 taskId, bytes32 commitment) external {
        if (commitment == bytes32(0)) revert EmptyCommitment();
        Dispute memory dispute = _expect(taskId, DisputePhase.Voting);
        if (block.timestamp > dispute.commitBy) revert TooLate(taskId, dispute.commitBy);
        if (dispute.seats == _seatsAt(dispute.level)) revert SeatsTaken(taskId);
        bytes32 seed = beacon.seedOf(dispute.round);
        if (seed == bytes32(0)) revert SeedUnknown(dispute.round);
        uint128 draw = uint128(uint256(keccak256(abi.encode(seed, taskId, uint256(dispute.level)))));
        uint24 number = _draw(draw, taskId, dispute.round, _seatsAt(dispute.level), _juryStep);
        if (!_mayJudge(taskId, dispute, number)) revert NotEligible(msg.sender);
        _ballots[taskId][dispute.level][msg.sender] = (uint256(commitment) << SEALED_AT) | SEATED;
        uint256 word = dispute.level * WORDS_A_LEVEL + dispute.seats / NUMBERS_A_WORD;
        _jurorNumbers[taskId][word] |= uint256(number) << (24 * (dispute.seats % NUMBERS_A_WORD));
        ++dispute.seats;
        if (dispute.seats == _seatsAt(dispute.level)) dispute.revealBy = uint40(block.timestamp + _voteRevealWindow);
        _disputes[taskId] = dispute;
        emit VoteCommitted(taskId, msg.sender, dispute.level);
    }

    /// @inheritdoc IArbiter
    function revealVote(bytes32 taskId, uint8 vote, bytes32 salt) external {
        Dispute memory dispute = _expect(taskId, DisputePhase.Voting);
        if (!_commitsOver(dispute)) revert TooEarly(taskId, dispute.commitBy + 1);
        if (block.timestamp > dispute.revealBy) revert TooLate(taskId, dispute.revealBy);
        if (vote & 3 == 0 || vote > 15) revert MeaningUnknown(vote);
        uint256 ballot = _ballots[taskId][dispute.level][msg.sender];
        if (uint8(ballot) != 0) revert AlreadyRevealed(msg.sender);
        bytes32 opened = keccak256(abi.encode(taskId, dispute.level, msg.sender, vote, salt));
        if (ballot != (uint256(opened) << SEALED_AT) | SEATED) revert CommitmentMismatch(msg.sender);
        _ballots[taskId][dispute.level][msg.sender] = ballot | vote;
        ++dispute.revealed;
        if (vote & 3 == GOOD) ++dispute.good;
        if (vote & 3 == BAD) ++dispute.bad;
        if (vote & 4 != 0) ++dispute.wrong0;
        if (vote & 8 != 0) ++dispute.wrong1;
        _disputes[taskId] = dispute;
        emit VoteRevealed(taskId, msg.sender, dispute.level, vote);
    }

    /// @inheritdoc IArbiter
    function tally(bytes32 taskId) external {
        Dispute storage dispute = _disputes[taskId];
        Dispute memory seen = _expect(taskId, DisputePhase.Voting);
        bool complete = _commitsOver(seen) && seen.revealed == seen.seats;
        if (!complete && block.timestamp <= seen.revealBy) revert TooEarly(taskId, seen.revealBy + 1);
        uint256 quorum = _quorumAt(seen.level);
        DisputeOutcome outcome = DisputeOutcome.Undecided;
        if (seen.bad >= quorum) outcome = DisputeOutcome.Guilty;
        else if (seen.good >= quorum) outcome = DisputeOutcome.Innocent;
        uint40 appealBy = seen.level == 0 ? uint40(block.timestamp + _appealWindow) : 0;
        (dispute.phase, dispute.outcome, dispute.appealBy) = (DisputePhase.Tallied, outcome, appealBy);
        emit DisputeTallied(taskId, seen.level, uint8(outcome), appealBy);
    }

    /// @inheritdoc IArbiter
    function appeal(bytes32 taskId) external nonReentrant {
        Dispute memory dispute = _expect(taskId, DisputePhase.Tallied);
        if (dispute.level != 0) revert UnexpectedDisputePhase(taskId, dispute.phase);
        if (block.timestamp > dispute.appealBy) revert TooLate(taskId, dispute.appealBy);
        (bool accused, bool accuser) = _sidesOf(taskId, dispute, msg.sender);
        bool lost = (accused && dispute.outcome != DisputeOutcome.Innocent)
            || (accuser && dispute.outcome != DisputeOutcome.Guilty);
        if (!lost) revert NotLosingParty(msg.sender);
        Dispute memory second;
        (second.level, second.firstSeats) = (1, dispute.seats);
        (second.requester, second.appellant) = (dispute.requester, msg.sender);
        emit Appealed(taskId, msg.sender);
        _summon(taskId, second, msg.sender);
        _takeBond(APPEAL_FACTOR * _challengeBond);
    }

    /// @inheritdoc IArbiter
    function execute(Filing calldata filing) external nonReentrant {
        bytes32 taskId = _idOf(filing.terms);
        Dispute memory dispute = _expect(taskId, DisputePhase.Tallied);
        if (block.timestamp <= dispute.appealBy) revert TooEarly(taskId, dispute.appealBy + 1);
        _disputes[taskId].phase = DisputePhase.Executed;
        address node = _rule(taskId, filing.terms, dispute.outcome == DisputeOutcome.Innocent);
        bool braked = dispute.outcome == DisputeOutcome.Guilty && _braked(taskId);
        _punish(taskId, node, filing, dispute.outcome, braked);
        _returnBonds(taskId, dispute);
        _judgeAuditors(taskId, dispute, braked);
        if (dispute.level == 1) _judgeJurors(taskId, 0, dispute.firstSeats, dispute.outcome, braked);
        _judgeJurors(taskId, dispute.level, dispute.seats, dispute.outcome, braked);
    }

    // ------------------------------------------------------------------ views

    /// @inheritdoc IArbiter
    function disputeOf(bytes32 taskId) external view returns (DisputeView memory record) {
        Dispute memory dispute = _disputes[taskId];
        record.phase = dispute.phase;
        record.outcome = dispute.outcome;
        record.level = dispute.level;
        record.round = dispute.round;
        record.commitBy = dispute.commitBy;
        record.revealBy = dispute.revealBy;
        record.appealBy = dispute.appealBy;
        record.seats = dispute.seats;
        record.revealed = dispute.revealed;
        record.good = dispute.good;
        record.bad = dispute.bad;
        record.wrong = [dispute.wrong0, dispute.wrong1];
        record.appellant = dispute.appellant;
        record.profile = _profiles[taskId];
    }

    /// @inheritdoc IArbiter
    function jurorsOf(bytes32 taskId, uint8 level) external view returns (address[] memory jurors) {
        Dispute memory dispute = _disputes[taskId];
        uint256 count = level == dispute.level ? dispute.seats : level == 0 ? dispute.firstSeats : 0;
        jurors = new address[](count);
        for (uint256 seat; seat < count; ++seat) {
            jurors[seat] = _jurorAt(taskId, level, seat);
        }
    }

    /// @inheritdoc IArbiter
    function ballotOf(bytes32 taskId, uint8 level, address juror) external view returns (bool committed, uint8 vote) {
        uint256 ballot = _ballots[taskId][level][juror];
        return (ballot != 0, uint8(ballot));
    }

    // ------------------------------------------------------------------ internals

    /// @inheritdoc AuditDesk
    function _openDispute(bytes32 taskId, address by, address requester) internal override {
        Dispute memory dispute;
        dispute.requester = requester;
        _summon(taskId, dispute, by);
    }

    /// @dev Starts the vote of a level; the jury's round begins after this call, so nobody knows who will sit.
    function _summon(bytes32 taskId, Dispute memory dispute, address by) private {
        uint64 round = beacon.roundAt(uint40(block.timestamp)) + 1;
        _within(round, 1, type(uint32).max);
        dispute.round = uint32(round);
        dispute.phase = DisputePhase.Voting;
        dispute.commitBy = beacon.startOf(round) + _voteCommitWindow;
        dispute.revealBy = dispute.commitBy + _voteRevealWindow;
        _disputes[taskId] = dispute;
        emit DisputeOpened(taskId, by, dispute.level, round);
    }

    /// @dev Takes the penalty and splits it. Being found guilty, or not being cleared, starts vetting anew.
    function _punish(bytes32 taskId, address node, Filing calldata filing, DisputeOutcome outcome, bool braked)
        private
    {
        uint96 slashed;
        uint96 burned;
        uint96 toRequester;
        if (outcome != DisputeOutcome.Innocent) _accounts[node].passed = 0;
        if (outcome == DisputeOutcome.Guilty && !braked) {
            slashed = registry.slash(node, _penaltyOf(node, filing.terms.fee), address(this));
            burned = uint96(uint256(slashed) * _burnBps / BPS);
            toRequester = uint96(uint256(slashed) * _requesterBps / BPS);
            _credit(BURN, burned, CreditReason.Burned);
            _credit(filing.terms.requester, toRequester, CreditReason.Compensation);
            _pool += slashed - burned - toRequester;
        }
        uint96 toPool = slashed - burned - toRequester;
        emit DisputeExecuted(taskId, uint8(outcome), slashed, burned, toRequester, toPool);
    }

    function _penaltyOf(address node, uint96 fee) private view returns (uint96) {
        uint256 stake = registry.stakeOf(node);
        uint256 byFee = uint256(fee) * _penaltyFactor;
        uint256 byStake = stake * _penaltyBps / BPS;
        uint256 penalty = byFee > byStake ? byFee : byStake;
        return uint96(penalty < stake ? penalty : stake);
    }

    /// @dev Counts a slash of the task's profile, or engages the brake. A dispute without a flag has no profile, and no
    /// brake: a wave of wrong flags is what it is for.
    function _braked(bytes32 taskId) private returns (bool) {
        bytes32 profile = _profiles[taskId];
        if (profile == bytes32(0)) return false;
        uint256 day = block.timestamp / 1 days;
        if (slashesOf[profile][day] < _brakeSlashes) {
            ++slashesOf[profile][day];
            return false;
        }
        emit BrakeEngaged(profile, day);
        return true;
    }

    /// @dev The loser's bond goes into the pool, which pays the jurors; without a decision everyone gets theirs back.
    function _returnBonds(bytes32 taskId, Dispute memory dispute) private {
        if (_audits[taskId].challenged()) {
            _releaseBond(dispute.requester, _challengeBond, dispute.outcome == DisputeOutcome.Innocent);
        }
        if (dispute.level == 0) return;
        (bool accused,) = _sidesOf(taskId, dispute, dispute.appellant);
        DisputeOutcome hoped = accused ? DisputeOutcome.Innocent : DisputeOutcome.Guilty;
        bool forfeited = dispute.outcome != hoped && dispute.outcome != DisputeOutcome.Undecided;
        _releaseBond(dispute.appellant, APPEAL_FACTOR * _challengeBond, forfeited);
    }

    function _judgeAuditors(bytes32 taskId, Dispute memory dispute, bool braked) private {
        AuditWord audit = _audits[taskId];
        uint256 quorum = _quorumAt(dispute.level);
        for (uint256 seat; seat < 2; ++seat) {
            AuditVerdict verdict = audit.verdict(seat);
            if (verdict == AuditVerdict.None) continue;
            address auditor = board.nodeAt(audit.auditor(seat));
            bool passed = verdict == AuditVerdict.Pass;
            bool mistaken = dispute.outcome == (passed ? DisputeOutcome.Guilty : DisputeOutcome.Innocent);
            if ((seat == 0 ? dispute.wrong0 : dispute.wrong1) >= quorum) {
                _penaliseAuditor(taskId, auditor, PenaltyReason.WrongProjection);
            } else if (!mistaken) {
                _payFee(auditor, _auditorFee, CreditReason.AuditorFee);
            } else if (!braked) {
                _penaliseAuditor(taskId, auditor, PenaltyReason.WrongVerdict);
            }
        }
    }

    /// @dev The final outcome is the measure for both levels. Undecided pays all who voted.
    function _judgeJurors(bytes32 taskId, uint256 level, uint256 seats, DisputeOutcome outcome, bool braked) private {
        for (uint256 seat; seat < seats; ++seat) {
            address juror = _jurorAt(taskId, level, seat);
            uint256 vote = _ballots[taskId][level][juror] & 3;
            if (vote == 0) {
                _penaliseJuror(taskId, juror, PenaltyReason.MissingReveal);
                continue;
            }
            if (vote != GOOD && vote != BAD) continue;
            DisputeOutcome voted = vote == GOOD ? DisputeOutcome.Innocent : DisputeOutcome.Guilty;
            if (outcome == DisputeOutcome.Undecided || voted == outcome) {
                _payFee(juror, _jurorFee, CreditReason.JurorFee);
            } else if (!braked) {
                _penaliseJuror(taskId, juror, PenaltyReason.Incoherent);
            }
        }
    }

    function _penaliseJuror(bytes32 taskId, address juror, PenaltyReason reason) private {
        emit JurorPenalised(taskId, juror, _penalise(juror, _jurorPenalty), uint8(reason));
    }

    function _mayJudge(bytes32 taskId, Dispute memory dispute, uint24 number) private view returns (bool) {
        (, address node,,) = board.recordOf(taskId);
        AuditWord audit = _audits[taskId];
        if (msg.sender == node || msg.sender == dispute.requester) return false;
        if (number == audit.auditor(0) || number == audit.auditor(1)) return false;
        if (_ballots[taskId][dispute.level][msg.sender] != 0) return false;
        if (dispute.level == 0 || _ballots[taskId][0][msg.sender] == 0) return true;
        return block.timestamp > dispute.commitBy - _voteCommitWindow / 2;
    }

    /// @dev Who stands with the node, and who against it; the node's own word comes first if it is its own requester.
    function _sidesOf(bytes32 taskId, Dispute memory dispute, address who)
        private
        view
        returns (bool accused, bool accuser)
    {
        (, address node,,) = board.recordOf(taskId);
        if (who == node) return (true, false);
        if (who == dispute.requester) return (false, true);
        uint24 number = board.indexOf(who);
        if (number == 0) return (false, false);
        AuditWord audit = _audits[taskId];
        for (uint256 seat; seat < 2; ++seat) {
            AuditVerdict verdict = audit.verdict(seat);
            if (number != audit.auditor(seat) || verdict == AuditVerdict.None) continue;
            return (verdict == AuditVerdict.Pass, verdict != AuditVerdict.Pass);
        }
    }

    function _jurorAt(bytes32 taskId, uint256 level, uint256 seat) private view returns (address) {
        uint256 word = _jurorNumbers[taskId][level * WORDS_A_LEVEL + seat / NUMBERS_A_WORD];
        return board.nodeAt(uint24(word >> (24 * (seat % NUMBERS_A_WORD))));
    }

    function _commitsOver(Dispute memory dispute) private view returns (bool) {
        return dispute.seats == _seatsAt(dispute.level) || block.timestamp > dispute.commitBy;
    }

    function _seatsAt(uint256 level) private view returns (uint256) {
        return level == 0 ? _jurors : _appealJurors;
    }

    function _quorumAt(uint256 level) private view returns (uint256) {
        return level == 0 ? _quorum : _appealQuorum;
    }

    function _expect(bytes32 taskId, DisputePhase wanted) private view returns (Dispute memory dispute) {
        dispute = _disputes[taskId];
        if (dispute.phase != wanted) revert UnexpectedDisputePhase(taskId, dispute.phase);
    }
}
