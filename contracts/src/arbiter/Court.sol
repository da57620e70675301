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
import {Terms} from "../interfaces/ITaskBoard.sol";
import {AuditWord} from "../libraries/AuditWord.sol";
import {
    APPEAL_BY_AT,
    BAD,
    DisputeWord,
    FIRST_SEATS,
    GOOD,
    OUTCOME_AT,
    PHASE_AT,
    REVEALED,
    REVEAL_BY_AT,
    SEATS,
    WRONG,
    openLevel
} from "../libraries/DisputeWord.sol";
import {Penalties} from "../libraries/Penalties.sol";
import {AuditDesk} from "./AuditDesk.sol";

// Board and registry are fixed contracts of this project without hooks; what moves tokens stands under a transient guard.
// slither-disable-start reentrancy-no-eth
/// @title Court
/// @notice Disputes: jurors drawn by a later round, a count, one appeal, and what follows.
abstract contract Court is AuditDesk {
    struct Dispute {
        DisputeWord word;
        address requester;
        address appellant;
    }

    uint256 private constant APPEAL_FACTOR = 3;
    uint256 private constant VOTE_GOOD = 1;
    uint256 private constant VOTE_BAD = 2;
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
        DisputeWord word = _expect(taskId, DisputePhase.Voting);
        (uint256 level, uint256 seat) = (word.level(), word.count(SEATS));
        uint256 most = _seatsAt(level);
        if (block.timestamp > word.commitBy()) revert TooLate(taskId, word.commitBy());
        if (seat == most) revert SeatsTaken(taskId);
        uint24 number = _drawJuror(taskId, word, level, most);
        if (!_mayJudge(taskId, word, level, number)) revert NotEligible(msg.sender);
        _ballots[taskId][level][msg.sender] = (uint256(commitment) << SEALED_AT) | SEATED;
        _jurorNumbers[taskId][level * WORDS_A_LEVEL + seat / NUMBERS_A_WORD] |= uint256(number)
        << (24 * (seat % NUMBERS_A_WORD));
        word = word.plus(SEATS);
        if (seat + 1 == most) word = word.with(REVEAL_BY_AT, 40, block.timestamp + _voteRevealWindow);
        _disputes[taskId].word = word;
        emit VoteCommitted(taskId, msg.sender, uint8(level));
    }

    /// @inheritdoc IArbiter
    function revealVote(bytes32 taskId, uint8 vote, bytes32 salt) external {
        DisputeWord word = _expect(taskId, DisputePhase.Voting);
        uint8 level = word.level();
        if (!_commitsOver(word)) revert TooEarly(taskId, word.commitBy() + 1);
        if (block.timestamp > word.revealBy()) revert TooLate(taskId, word.revealBy());
        uint256 opinion = vote & 3;
        if (opinion == 0 || vote > 15) revert MeaningUnknown(vote);
        uint256 ballot = _ballots[taskId][level][msg.sender];
        if (uint8(ballot) != 0) revert AlreadyRevealed(msg.sender);
        bytes32 opened = keccak256(abi.encode(taskId, level, msg.sender, vote, salt));
        if (ballot != (uint256(opened) << SEALED_AT) | SEATED) revert CommitmentMismatch(msg.sender);
        _ballots[taskId][level][msg.sender] = ballot | vote;
        word = word.plus(REVEALED);
        if (opinion == VOTE_GOOD) word = word.plus(GOOD);
        if (opinion == VOTE_BAD) word = word.plus(BAD);
        if (vote & 4 != 0) word = word.plus(WRONG);
        if (vote & 8 != 0) word = word.plus(WRONG + 8);
        _disputes[taskId].word = word;
        emit VoteRevealed(taskId, msg.sender, level, vote);
    }

    /// @inheritdoc IArbiter
    function tally(bytes32 taskId) external {
        DisputeWord word = _expect(taskId, DisputePhase.Voting);
        bool complete = _commitsOver(word) && word.count(REVEALED) == word.count(SEATS);
        if (!complete && block.timestamp <= word.revealBy()) revert TooEarly(taskId, word.revealBy() + 1);
        uint8 level = word.level();
        uint256 quorum = _quorumAt(level);
        DisputeOutcome outcome = word.outcome();
        if (word.count(BAD) >= quorum) outcome = DisputeOutcome.Guilty;
        else if (word.count(GOOD) >= quorum) outcome = DisputeOutcome.Innocent;
        else if (level == 0) outcome = _withoutQuorum(taskId, word, quorum);
        // A conviction that was appealed takes two quorums: a single one is the lot's gift to whoever hides a model from all
        // others. It leaves doubt, and the appeal's bond is lost: who is guilty does not walk away for nothing where few
        // nodes are. An acquittal and doubt stand, or accusers could wish them away by a jury that nobody joins.
        else if (outcome == DisputeOutcome.Guilty) outcome = DisputeOutcome.Undecided;
        // A jury that hardly anybody joined is no reason to call a larger one, which would work for nothing.
        bool open = level == 0 && outcome != DisputeOutcome.Unheard;
        uint40 appealBy = open ? uint40(block.timestamp + _appealWindow) : 0;
        word = word.with(OUTCOME_AT, 8, uint256(outcome)).with(APPEAL_BY_AT, 40, appealBy);
        _disputes[taskId].word = word.with(PHASE_AT, 8, uint256(DisputePhase.Tallied));
        emit DisputeTallied(taskId, level, uint8(outcome), appealBy);
    }

    /// @inheritdoc IArbiter
    function appeal(bytes32 taskId) external nonReentrant {
        DisputeWord word = _expect(taskId, DisputePhase.Tallied);
        if (word.level() != 0) revert UnexpectedDisputePhase(taskId, DisputePhase.Tallied);
        if (block.timestamp > word.appealBy()) revert TooLate(taskId, word.appealBy());
        (bool accused, bool accuser) = _sidesOf(taskId, msg.sender);
        DisputeOutcome outcome = word.outcome();
        bool lost = (accused && !_paysNode(outcome)) || (accuser && outcome != DisputeOutcome.Guilty);
        if (!lost) revert NotLosingParty(msg.sender);
        _disputes[taskId].appellant = msg.sender;
        emit Appealed(taskId, msg.sender);
        _summon(taskId, 1, word.count(SEATS) | (uint256(outcome) << OUTCOME_AT), msg.sender);
        _takeBond(APPEAL_FACTOR * _challengeBond);
    }

    /// @inheritdoc IArbiter
    function execute(Filing calldata filing) external nonReentrant {
        bytes32 taskId = _idOf(filing.terms);
        DisputeWord word = _expect(taskId, DisputePhase.Tallied);
        if (block.timestamp <= word.appealBy()) revert TooEarly(taskId, word.appealBy() + 1);
        DisputeOutcome outcome = word.outcome();
        _disputes[taskId].word = word.with(PHASE_AT, 8, uint256(DisputePhase.Executed));
        uint24 node =
            outcome == DisputeOutcome.Undecided ? _burnFee(filing.terms) : board.rule(filing.terms, _paysNode(outcome));
        bool braked = outcome == DisputeOutcome.Guilty && _braked(taskId);
        _punish(taskId, node, filing.terms, outcome, braked);
        _returnBonds(taskId, word);
        _judgeAuditors(taskId, word, braked);
        uint256 paid = _paidVote(outcome);
        // Without a verdict nobody is wrong.
        bool lenient = braked || outcome > DisputeOutcome.Innocent;
        if (word.level() != 0) _judgeJurors(taskId, 0, word.count(FIRST_SEATS), paid, lenient);
        _judgeJurors(taskId, word.level(), word.count(SEATS), paid, lenient);
    }

    // ------------------------------------------------------------------ views

    /// @inheritdoc IArbiter
    function disputeOf(bytes32 taskId) external view returns (DisputeView memory record) {
        DisputeWord word = _disputes[taskId].word;
        record.phase = word.phase();
        record.outcome = word.outcome();
        record.level = word.level();
        record.round = word.round();
        record.commitBy = word.commitBy();
        record.revealBy = word.revealBy();
        record.appealBy = word.appealBy();
        record.seats = uint8(word.count(SEATS));
        record.revealed = uint8(word.count(REVEALED));
        record.good = uint8(word.count(GOOD));
        record.bad = uint8(word.count(BAD));
        record.wrong[0] = uint8(word.count(WRONG));
        record.wrong[1] = uint8(word.count(WRONG + 8));
        record.appellant = _disputes[taskId].appellant;
        record.profile = _profiles[taskId];
    }

    /// @inheritdoc IArbiter
    function jurorsOf(bytes32 taskId, uint8 level) external view returns (address[] memory jurors) {
        DisputeWord word = _disputes[taskId].word;
        uint256 seats = level == word.level() ? word.count(SEATS) : level == 0 ? word.count(FIRST_SEATS) : 0;
        jurors = new address[](seats);
        for (uint256 seat; seat < seats; ++seat) {
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
        _disputes[taskId].requester = requester;
        _summon(taskId, 0, 0, by);
    }

    /// @dev Starts the vote of a level; the jury's round begins after this call, so nobody knows who will sit.
    /// @param first Seats of level 0 and its outcome, both in place; zero at level 0.
    function _summon(bytes32 taskId, uint8 level, uint256 first, address by) private {
        uint64 round = _roundAfter(uint40(block.timestamp));
        uint40 commitBy = _startOf(round) + _voteCommitWindow;
        _disputes[taskId].word = openLevel(level, first, round, commitBy, commitBy + _voteRevealWindow);
        emit DisputeOpened(taskId, by, level, round);
    }

    /// @dev What follows where neither side has a quorum of the first jury. One voice puts nothing in doubt, be it an auditor
    /// or a juror: else whoever shares it with the requester has the fee back.
    function _withoutQuorum(bytes32 taskId, DisputeWord word, uint256 quorum) private view returns (DisputeOutcome) {
        uint256 bad = word.count(BAD);
        if (_audits[taskId].accused() || (bad > 1 && 2 * bad >= quorum)) return DisputeOutcome.Undecided;
        return word.count(REVEALED) >= quorum ? DisputeOutcome.Upheld : DisputeOutcome.Unheard;
    }

    function _paysNode(DisputeOutcome outcome) private pure returns (bool) {
        return outcome != DisputeOutcome.Guilty && outcome != DisputeOutcome.Undecided;
    }

    /// @dev Which vote is paid, 0 for none. Without a verdict no vote is, not even by a lost bond: were "good" paid, it
    /// would be the best word of a juror that cannot tell; were all paid alike, "cannot tell" that of one that could.
    function _paidVote(DisputeOutcome outcome) private pure returns (uint256) {
        if (outcome == DisputeOutcome.Guilty) return VOTE_BAD;
        return outcome == DisputeOutcome.Innocent ? VOTE_GOOD : 0;
    }

    function _drawJuror(bytes32 taskId, DisputeWord word, uint256 level, uint256 seats) private view returns (uint24) {
        bytes32 drawn = keccak256(abi.encode(_seedOf(word.round()), taskId, level));
        (uint24 number,) = _draw(uint80(uint256(drawn)), taskId, word.round(), seats, _juryStep);
        return number;
    }

    /// @dev Work in doubt pays nobody. Were its fee refunded, a requester would have work for nothing as often as chance gives
    /// its friends two auditors' seats or half of a quorum; were it paid, whoever cheats where jurors cannot tell would.
    function _burnFee(Terms calldata terms) private returns (uint24 node) {
        uint96 fee;
        (node, fee) = board.forfeit(terms);
        _collect();
        _pool -= fee;
        _credit(BURN, fee, CreditReason.Burned);
    }

    /// @dev Takes the penalty and splits it. Being found guilty, or being left in doubt, starts vetting anew.
    function _punish(bytes32 taskId, uint24 number, Terms calldata terms, DisputeOutcome outcome, bool braked) private {
        uint96 slashed;
        uint96 burned;
        uint96 toRequester;
        uint96 toPool;
        if (!_paysNode(outcome)) _passed[number] = 0;
        if (outcome == DisputeOutcome.Guilty && !braked) {
            address node = board.nodeAt(number);
            uint96 penalty = Penalties.penalty(registry.stakeOf(node), terms.fee, _penaltyFactor, _penaltyBps);
            slashed = registry.slash(node, penalty, address(this));
            (burned, toRequester, toPool) = Penalties.shares(slashed, _burnBps, _requesterBps);
            _credit(BURN, burned, CreditReason.Burned);
            _credit(terms.requester, toRequester, CreditReason.Compensation);
            _pool += toPool;
        }
        emit DisputeExecuted(taskId, uint8(outcome), slashed, burned, toRequester, toPool);
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

    /// @dev The loser's bond goes into the pool, which pays the jurors. A requester that was not heard, or left the work in
    /// doubt, has not lost; an appellant has, unless it got what it hoped for: it alone called the larger jury.
    function _returnBonds(bytes32 taskId, DisputeWord word) private {
        DisputeOutcome outcome = word.outcome();
        if (_audits[taskId].challenged()) {
            bool heard = outcome == DisputeOutcome.Innocent || outcome == DisputeOutcome.Upheld;
            _releaseBond(_disputes[taskId].requester, _challengeBond, heard);
        }
        if (word.level() == 0) return;
        address appellant = _disputes[taskId].appellant;
        (bool accused,) = _sidesOf(taskId, appellant);
        DisputeOutcome hoped = accused ? DisputeOutcome.Innocent : DisputeOutcome.Guilty;
        _releaseBond(appellant, APPEAL_FACTOR * _challengeBond, outcome != hoped);
    }

    function _judgeAuditors(bytes32 taskId, DisputeWord word, bool braked) private {
        AuditWord audit = _audits[taskId];
        uint256 quorum = _quorumAt(word.level());
        for (uint256 seat; seat < 2; ++seat) {
            AuditVerdict verdict = audit.verdict(seat);
            if (verdict == AuditVerdict.None) continue;
            address auditor = board.nodeAt(audit.auditor(seat));
            bool passed = verdict == AuditVerdict.Pass;
            bool mistaken = word.outcome() == (passed ? DisputeOutcome.Guilty : DisputeOutcome.Innocent);
            bool idle = word.count(WRONG + 8 * seat) >= quorum;
            if (!idle && !mistaken) {
                if (passed || _confirmed(word.outcome(), verdict)) {
                    _payFee(auditor, _auditorFee, CreditReason.AuditorFee);
                }
            } else if (idle || !braked) {
                bool both = audit.verdict(1 - seat) > AuditVerdict.Pass;
                uint256 amount = idle || passed ? _auditorPenalty : _alarmPrice(taskId, word, both);
                PenaltyReason reason = idle ? PenaltyReason.WrongProjection : PenaltyReason.WrongVerdict;
                _penaliseAuditor(taskId, auditor, uint96(amount), reason);
            }
        }
    }

    /// @dev Whether an accusation earns its fee: a flag where the node is not paid, "withheld", which takes no work to say,
    /// where jurors say so too.
    function _confirmed(DisputeOutcome outcome, AuditVerdict verdict) private pure returns (bool) {
        if (verdict == AuditVerdict.Withheld) return outcome == DisputeOutcome.Guilty;
        return !_paysNode(outcome);
    }

    /// @dev What an auditor pays that accused good work; at most the penalty. Nobody can witness whether the node or the auditor
    /// was silent, nor whether a flag is wrong or a jury that did not look: so this is no punishment but the juries' pay,
    /// shared by two accusers. A second jury that accusers called is paid by the bond that they lost; the bond of a node that
    /// was right goes back.
    function _alarmPrice(bytes32 taskId, DisputeWord word, bool both) private view returns (uint256 price) {
        uint256 seats = word.count(SEATS);
        if (word.level() != 0) {
            (bool accused,) = _sidesOf(taskId, _disputes[taskId].appellant);
            seats = word.count(FIRST_SEATS) + (accused ? seats : 0);
        }
        unchecked {
            price = seats * _jurorFee;
            if (both) price = (price + 1) / 2;
        }
        if (price > _auditorPenalty) price = _auditorPenalty;
    }

    /// @dev The final outcome is the measure for both levels.
    /// @param paid The vote that earns a fee; 0 for none.
    /// @param lenient Other votes cost nothing.
    function _judgeJurors(bytes32 taskId, uint256 level, uint256 seats, uint256 paid, bool lenient) private {
        for (uint256 seat; seat < seats; ++seat) {
            address juror = _jurorAt(taskId, level, seat);
            uint256 vote = _ballots[taskId][level][juror] & 3;
            if (vote == 0) {
                _penaliseJuror(taskId, juror, PenaltyReason.MissingReveal);
                continue;
            }
            if (vote != VOTE_GOOD && vote != VOTE_BAD) continue;
            if (vote == paid) {
                _payFee(juror, _jurorFee, CreditReason.JurorFee);
            } else if (!lenient) {
                _penaliseJuror(taskId, juror, PenaltyReason.Incoherent);
            }
        }
    }

    function _penaliseJuror(bytes32 taskId, address juror, PenaltyReason reason) private {
        emit JurorPenalised(taskId, juror, _penalise(juror, _jurorPenalty), uint8(reason));
    }

    function _mayJudge(bytes32 taskId, DisputeWord word, uint256 level, uint24 number) private view returns (bool) {
        (, address node,,) = board.recordOf(taskId);
        AuditWord audit = _audits[taskId];
        if (msg.sender == node || msg.sender == _disputes[taskId].requester) return false;
        if (number == audit.auditor(0) || number == audit.auditor(1)) return false;
        if (_ballots[taskId][level][msg.sender] != 0) return false;
        if (level == 0 || _ballots[taskId][0][msg.sender] == 0) return true;
        return block.timestamp > word.commitBy() - _voteCommitWindow / 2;
    }

    /// @dev Who stands with the node, and who against it; the node's own word comes first if it is its own requester.
    function _sidesOf(bytes32 taskId, address who) private view returns (bool accused, bool accuser) {
        (, address node,,) = board.recordOf(taskId);
        if (who == node) return (true, false);
        if (who == _disputes[taskId].requester) return (false, true);
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

    function _commitsOver(DisputeWord word) private view returns (bool) {
        return word.count(SEATS) == _seatsAt(word.level()) || block.timestamp > word.commitBy();
    }

    function _seatsAt(uint256 level) private view returns (uint256) {
        return level == 0 ? _jurors : _appealJurors;
    }

    function _quorumAt(uint256 level) private view returns (uint256) {
        return level == 0 ? _quorum : _appealQuorum;
    }

    function _expect(bytes32 taskId, DisputePhase wanted) private view returns (DisputeWord word) {
        word = _disputes[taskId].word;
        if (word.phase() != wanted) revert UnexpectedDisputePhase(taskId, word.phase());
    }
}
// slither-disable-end reentrancy-no-eth
