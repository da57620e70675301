// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {Terms} from "./ITaskBoard.sol";

/// @notice A committed task as its log published it. Callers pass it with every step; the board's word proves it.
/// @param terms Terms of the task.
/// @param commitment What the board keeps of the committed roots: uint184(uint256(keccak256(abi.encode(resultRoot, traceRoot)))).
/// A trace binds its node, and a task has one commit, so this says who as well as what.
struct Filing {
    Terms terms;
    uint184 commitment;
}

/// @notice What an auditor says of one task, see `revealAudits`.
/// @param verdict An `AuditVerdict` other than None.
/// @param projection 16 signed numbers of 16 bits, the first in the highest bits.
/// @param salt As committed.
/// @param evidence BLAKE3 reference of the openings bundle; zero when the openings were withheld.
/// @param profile keccak256 of the compute profile's key.
struct Reveal {
    bytes32 taskId;
    uint8 verdict;
    bytes32 projection;
    bytes32 salt;
    bytes32 evidence;
    bytes32 profile;
}

/// @notice Where an audit stands. `Open` takes commitments and reveals, `Disputed` is before the jurors.
enum AuditPhase {
    None,
    Open,
    Disputed,
    Closed
}

/// @notice What an auditor says. `Withheld` means that the node opened nothing in time, and counts as a flag, but earns a fee
/// only where jurors find the node guilty. Where they find the work good, nobody knows who was silent, nor whether they
/// looked: auditors that accused it pay what the first jury earns, no more.
enum AuditVerdict {
    None,
    Pass,
    Flag,
    Withheld
}

/// @notice How an audit ended. `Void`: nobody revealed, so the node is paid as if nobody had asked.
enum AuditOutcome {
    None,
    Passed,
    Void,
    Disputed
}

/// @notice Where a dispute stands. `Voting` covers both commit and reveal of one level.
enum DisputePhase {
    None,
    Voting,
    Tallied,
    Executed
}

/// @notice What the jurors found. The last three have no quorum for either side, and slash nobody but jurors that kept
/// silent. Work in doubt pays nobody: its fee is burned, so that neither a requester nor a node gains by it. Doubt takes more than one voice: both auditors accuse the node and hold their seats by lot, or half of a quorum
/// votes against it, and never one vote alone.
///
/// | outcome | work | node | challenger's bond | jurors that voted |
/// |---|---|---|---|---|
/// | Guilty | found bad | refunded, slashed | back | right: paid, wrong: penalised |
/// | Innocent | found good | paid | lost | right: paid, wrong: penalised |
/// | Undecided | in doubt | not paid, nor is the requester refunded; its audit rate rises | back | nothing |
/// | Upheld | not in doubt, a quorum revealed votes | paid | lost | nothing |
/// | Unheard | not in doubt, too few revealed votes | paid | back | nothing |
enum DisputeOutcome {
    None,
    Guilty,
    Innocent,
    Undecided,
    Upheld,
    Unheard
}

/// @notice Why somebody was credited.
enum CreditReason {
    None,
    AuditorFee,
    JurorFee,
    Bond,
    Compensation,
    Burned,
    Surplus
}

/// @notice Why an auditor or juror lost stake.
enum PenaltyReason {
    None,
    MissingReveal,
    WrongVerdict,
    WrongProjection,
    Incoherent
}

/// @notice Rules of an arbiter, fixed for its life. Times in seconds, money in base units, shares in basis points.
/// @param vettingRateBps Chance of an audit for a node with fewer than `vettingAudits` passed ones; at most 10,000.
/// @param steadyRateBps The same from `vettingAudits` on; at most `vettingRateBps`.
/// @param trustedRateBps The same from `trustedAudits` on; at most `steadyRateBps`.
/// @param vettingAudits Passed audits in a row that end vetting.
/// @param trustedAudits Passed audits in a row that earn the lowest rate; at least `vettingAudits`.
/// @param largeFee Fees from here on are always audited.
/// @param auditorSeats Auditors of an audit: 1 or 2.
/// @param auditStep Seconds in which the threshold of auditors doubles.
/// @param lotDoublings A seat is held by lot if its score is within the threshold after so many doublings. Who holds one only
/// because nobody else came has a voice like others, but two of them alone leave no work in doubt: the two may be one person,
/// and the work of a kind that it alone can run.
/// @param auditCommitWindow Seconds from the start of the audit round in which seats may be taken; at least the board's
/// challenge window and `grace`, because the first auditor may come as late as that.
/// @param auditRevealWindow Seconds after that in which auditors owe their reveal.
/// @param projectionTolerance Largest difference of two honest auditors' projections in any compared number.
/// @param auditorFee What an auditor earns.
/// @param auditorPenalty What an auditor loses for a missing reveal, a wrong verdict or a wrong projection; at least what
/// `jurors` earn, so that no false alarm pays those who sit in the jury. To accuse good work costs what jurors earn instead (a
/// second jury only if the node called it), shared if both did.
/// @param jurors Seats of the first level, 2 to 40.
/// @param quorum Votes that decide the first level: more than half of the seats, at least 2.
/// @param appealJurors Seats of the second level, 2 to 40.
/// @param appealQuorum Votes that decide the second level: more than half of the seats, at least 2.
/// @param juryStep Seconds in which the threshold of jurors doubles. More than `voteCommitWindow`: nobody is seated by waiting, so
/// that who alone can run some work has no more of its jury than the lot gives it. Networks of value want that.
/// @param voteCommitWindow Seconds from the jury's round in which votes may be committed.
/// @param voteRevealWindow Seconds after that in which they must be revealed.
/// @param appealWindow Seconds after a tally in which the losing side may appeal.
/// @param jurorFee What a juror earns.
/// @param jurorPenalty What a juror loses for a missing reveal or a vote against the outcome.
/// @param challengeBond What a requester puts up for a dispute; an appeal costs three times as much.
/// @param penaltyFactor A guilty node loses this many fees,
/// @param penaltyBps or this share of its stake, whichever is more, and never more than its stake.
/// @param burnBps Share of a node's penalty that is burned.
/// @param requesterBps Share of a node's penalty that goes to the requester; the rest goes to the pool.
/// @param brakeSlashes Slashes a day and profile; further guilty verdicts of that profile refund and slash nothing.
/// @param grace Seconds that the constructor reserves for each of the four calls that move a dispute on.
/// @param reserve What the pool keeps; the rest goes to the treasury.
struct ArbiterRules {
    uint16 vettingRateBps;
    uint16 steadyRateBps;
    uint16 trustedRateBps;
    uint32 vettingAudits;
    uint32 trustedAudits;
    uint96 largeFee;
    uint8 auditorSeats;
    uint32 auditStep;
    uint8 lotDoublings;
    uint32 auditCommitWindow;
    uint32 auditRevealWindow;
    uint16 projectionTolerance;
    uint96 auditorFee;
    uint96 auditorPenalty;
    uint8 jurors;
    uint8 quorum;
    uint8 appealJurors;
    uint8 appealQuorum;
    uint32 juryStep;
    uint32 voteCommitWindow;
    uint32 voteRevealWindow;
    uint32 appealWindow;
    uint96 jurorFee;
    uint96 jurorPenalty;
    uint96 challengeBond;
    uint32 penaltyFactor;
    uint16 penaltyBps;
    uint16 burnBps;
    uint16 requesterBps;
    uint16 brakeSlashes;
    uint32 grace;
    uint96 reserve;
}

/// @notice Where an audit stands, as `auditOf` answers.
/// @param phase See `AuditPhase`.
/// @param round Beacon round of the challenge.
/// @param auditors Who holds the seats, in the order of commitment; zero for a free seat.
/// @param verdicts What they revealed.
/// @param challenged Whether the requester has put up a bond.
struct AuditView {
    AuditPhase phase;
    uint64 round;
    address[2] auditors;
    AuditVerdict[2] verdicts;
    bool challenged;
}

/// @notice Where a dispute stands, as `disputeOf` answers. Counts are those of the present level.
/// @param phase See `DisputePhase`.
/// @param outcome Of the latest tally, which stands until overturned; final once the phase is `Executed`.
/// @param level 0, or 1 after an appeal.
/// @param round Beacon round that draws the jurors of this level.
/// @param commitBy Last second to commit a vote.
/// @param revealBy Last second to reveal one; it comes forward when all seats are taken early.
/// @param appealBy Last second to appeal; 0 before the tally, and when there is nothing to appeal to.
/// @param seats Votes committed.
/// @param revealed Votes revealed.
/// @param good Votes for the node.
/// @param bad Votes against the node.
/// @param wrong Votes that call the projection of auditor 0, of auditor 1, wrong.
/// @param appellant Who appealed; zero when nobody did.
/// @param profile Compute profile named by the first flag; zero when there was none.
struct DisputeView {
    DisputePhase phase;
    DisputeOutcome outcome;
    uint8 level;
    uint64 round;
    uint40 commitBy;
    uint40 revealBy;
    uint40 appealBy;
    uint8 seats;
    uint8 revealed;
    uint8 good;
    uint8 bad;
    uint8[2] wrong;
    address appellant;
    bytes32 profile;
}

/// @title IArbiter
/// @notice Audits of committed tasks, disputes before jurors, penalties, and the pool that pays for all of it.
///
/// A task's audit round is `beacon.roundAt(second of the commit) + 1`, so its seed is unknown when the board takes the
/// roots. `challenge = keccak256(abi.encode(seed, taskId, commitment))` decides whether the task is
/// audited, by whom, and (off chain) which steps. Auditors commit to a projection of their own outputs before they see
/// the node's, then reveal. Agreement pays the node; a flag, a disagreement, or the requester's bond brings the task
/// before jurors, drawn by a later round. The losing side may appeal once.
///
/// Nothing here waits for anybody: each phase has a last second, after which anyone may move the task on. The board
/// refunds a held task after its hold window whatever happens here.
/// @dev A deployment names this contract as the board's treasury, so its address must be known before: it is the
/// deployer's next contract but one, when the board is the next. Then the admin calls `setArbiter` on board and registry.
interface IArbiter {
    // ------------------------------------------------------------------ events

    /// @notice A task was picked and held; `auditor` took the first seat and is bound to a projection. Others may take
    /// theirs until `commitBy`.
    event AuditOpened(
        bytes32 indexed taskId, address indexed auditor, bytes32 challenge, uint64 round, uint40 commitBy
    );

    /// @notice An auditor took another seat and is bound to a projection.
    event AuditCommitted(bytes32 indexed taskId, address indexed auditor);

    /// @notice An auditor's word.
    /// @param verdict An `AuditVerdict`.
    /// @param evidence BLAKE3 reference of the openings it judged; zero when they were withheld.
    /// @param profile Compute profile of the node's run; the brake counts by it.
    /// @param projection 16 numbers of 16 bits, big end first.
    event AuditRevealed(
        bytes32 indexed taskId,
        address indexed auditor,
        uint8 verdict,
        bytes32 evidence,
        bytes32 profile,
        bytes32 projection
    );

    /// @notice An audit is over; `outcome` is an `AuditOutcome`.
    event AuditClosed(bytes32 indexed taskId, uint8 outcome);

    /// @notice The requester put up a bond.
    event Challenged(bytes32 indexed taskId, address indexed requester, uint96 bond);

    /// @notice Jurors are wanted; `round` draws them. `by` is who brought it here: requester, auditor or appellant.
    event DisputeOpened(bytes32 indexed taskId, address indexed by, uint8 level, uint64 round);

    /// @notice A juror took a seat and is bound to a vote.
    event VoteCommitted(bytes32 indexed taskId, address indexed juror, uint8 level);

    /// @notice A juror's vote; see `revealVote` for its bits.
    event VoteRevealed(bytes32 indexed taskId, address indexed juror, uint8 level, uint8 vote);

    /// @notice A level was counted; `outcome` is a `DisputeOutcome`, final when `appealBy` is 0 or past.
    event DisputeTallied(bytes32 indexed taskId, uint8 level, uint8 outcome, uint40 appealBy);

    /// @notice A losing party appealed.
    event Appealed(bytes32 indexed taskId, address indexed by);

    /// @notice A dispute is over. `burned + toRequester + toPool = slashed`.
    event DisputeExecuted(
        bytes32 indexed taskId, uint8 outcome, uint96 slashed, uint96 burned, uint96 toRequester, uint96 toPool
    );

    /// @notice An auditor lost stake to the pool; `reason` is a `PenaltyReason`.
    event AuditorPenalised(bytes32 indexed taskId, address indexed auditor, uint96 amount, uint8 reason);

    /// @notice A juror lost stake to the pool; `reason` is a `PenaltyReason`.
    event JurorPenalised(bytes32 indexed taskId, address indexed juror, uint96 amount, uint8 reason);

    /// @notice `account` may withdraw `amount` base units more; `reason` is a `CreditReason`.
    event Credited(address indexed account, uint256 amount, uint8 reason);

    /// @notice A guilty verdict slashed nothing, because this profile was slashed too often on `day` (since the epoch).
    event BrakeEngaged(bytes32 indexed profile, uint256 day);

    /// @notice The pool took in protocol fees and audit fees from the board.
    event Collected(uint256 amount);

    /// @notice `account` took its credit out.
    event CreditWithdrawn(address indexed account, uint256 amount);

    // ------------------------------------------------------------------ errors

    /// @notice Thrown when the committed roots are not those that the board knows.
    error FilingMismatch(bytes32 taskId);

    /// @notice Thrown while the beacon has not yielded the round.
    error SeedUnknown(uint64 round);

    /// @notice Thrown when the challenge did not pick the task.
    error NotPicked(bytes32 taskId);

    /// @notice Thrown when the caller's weight is 0, or it is a party: node, requester, auditor, or a seat's holder.
    error NotEligible(address caller);

    /// @notice Thrown when the caller's score is above the present threshold; it doubles every step.
    error SortitionNotReached(uint256 score, uint256 threshold);

    /// @notice Thrown when all seats are taken.
    error SeatsTaken(bytes32 taskId);

    /// @notice Thrown when a step does not fit the audit's phase.
    error UnexpectedAuditPhase(bytes32 taskId, AuditPhase phase);

    /// @notice Thrown when a step does not fit the dispute's phase.
    error UnexpectedDisputePhase(bytes32 taskId, DisputePhase phase);

    /// @notice Thrown when a step comes before its first allowed second; 0 when it waits for a reveal, not for time.
    error TooEarly(bytes32 taskId, uint40 opensAt);

    /// @notice Thrown when a step comes after its last allowed second.
    error TooLate(bytes32 taskId, uint40 closedAt);

    /// @notice Thrown when a commitment or salt is zero where it must not be.
    error EmptyCommitment();

    /// @notice Thrown when what is sealed was computed for another challenge than the task's, as on another fork.
    error SealOfAnotherDraw(bytes32 taskId);

    /// @notice Thrown when what is revealed is not what was committed, or the caller committed nothing.
    error CommitmentMismatch(address caller);

    /// @notice Thrown when a juror revealed before.
    error AlreadyRevealed(address caller);

    /// @notice Thrown when a verdict or a vote is no meaning.
    error MeaningUnknown(uint8 value);

    /// @notice Thrown when the requester has challenged before.
    error AlreadyChallenged(bytes32 taskId);

    /// @notice Thrown when somebody else than the requester challenges.
    error NotRequester(address caller, address requester);

    /// @notice Thrown when the caller did not lose the level that it appeals against.
    error NotLosingParty(address caller);

    /// @notice Thrown when there is nothing to withdraw.
    error NothingToWithdraw(address account);

    /// @notice Thrown when the token moved another amount than asked, as tokens with a transfer fee do.
    error TokenAmountMismatch(uint256 expected, uint256 received);

    /// @notice Thrown when a rule given to the constructor is outside its hard range.
    error RuleOutOfRange(uint256 value, uint256 least, uint256 greatest);

    /// @notice Thrown when the board's protocol fees do not go to this contract.
    error NotTreasury(address treasury);

    /// @notice Thrown when an address must not be zero.
    error ZeroAddress();

    // ------------------------------------------------------------------ audits

    /// @notice Takes an auditor's seat. The first one opens the audit and holds the task.
    /// @dev Open to whom the challenge draws: `Sortition.score(uint80(uint256(challenge)), taskId, caller)` within the
    /// threshold of `min(totalWeight, weight * auditorSeats)`, doubling every `auditStep` from the round's start. The
    /// first commitment must fall into the board's challenge window, all into `auditCommitWindow` from the round's start.
    /// Eighty bits of the seal are kept: opening it to numbers learnt later takes a second preimage. Of the second
    /// auditor's filing only the terms are read; the rest may be zero, which is cheaper.
    /// @param commitment Its lowest 80 bits are those of keccak256(abi.encode(taskId, caller, projection, salt)); a fresh
    /// random salt keeps others from testing guesses. Its highest 80 are the lowest of the challenge: a seal whose
    /// transaction a reorganisation brings to a fork that draws other parts takes no seat there, where it could never be
    /// revealed. The rest may be zero, which is cheaper.
    function commitAudit(Filing calldata filing, bytes32 commitment) external;

    /// @notice Reveals verdicts and projections, each once all seats are taken or `auditCommitWindow` is over. The last
    /// auditor to reveal closes the audit in the same call, unless it is contested: then anyone may, at once. Several audits
    /// in one call share its cost; one that is refused refuses all.
    /// @dev A late reveal counts until somebody has closed the audit. The first five of the 16 numbers are compared
    /// between auditors on chain; jurors compare all of them from the logs.
    function revealAudits(Reveal[] calldata reveals) external;

    /// @notice Ends an audit whose auditors have all revealed, or whose reveal window is over; what was revealed decides, and
    /// missing reveals cost stake. Anyone may call.
    /// @dev Only `filing.terms` is read here and in the calls that follow; the rest may be zero, which is cheaper.
    function closeAudit(Filing calldata filing) external;

    /// @notice Brings a task before jurors. Requester only, once, with `challengeBond` pulled from the caller; within
    /// the board's challenge window, or while an audit is open. In the latter case the dispute begins when the audit ends.
    function challenge(Filing calldata filing) external;

    // ------------------------------------------------------------------ disputes

    /// @notice Takes a juror's seat, from the jury round's seed on until `commitBy`.
    /// @dev Open to whom `keccak256(abi.encode(seed, taskId, level))` draws, by the rule of auditors with `jurors` seats
    /// and `juryStep`. Node, requester and the task's auditors may not sit. Jurors of level 0 may sit at level 1 only in
    /// the second half of the commit window: where nodes are few, the same eyes are better than none.
    /// @param commitment keccak256(abi.encode(taskId, level, caller, vote, salt)).
    function commitVote(bytes32 taskId, bytes32 commitment) external;

    /// @notice Reveals a vote, once all seats are taken or the commit window is over.
    /// @param vote Bits 0 and 1: 1 the node is good, 2 bad, 3 cannot tell. Bit 2: auditor 0's projection is wrong;
    /// bit 3: auditor 1's.
    function revealVote(bytes32 taskId, uint8 vote, bytes32 salt) external;

    /// @notice Counts a level: all votes revealed, or the reveal window over. Anyone may call.
    function tally(bytes32 taskId) external;

    /// @notice Asks for a second, larger jury with three `challengeBond` pulled from the caller. Against guilty: node or
    /// an auditor that passed it; against innocent and upheld: requester or an auditor that flagged; against undecided: all
    /// four. Unheard is final. A second jury without a quorum leaves the first outcome as it is, but for guilty, which takes
    /// both and becomes undecided. The bond is lost unless the outcome becomes the one hoped for: innocent, or guilty.
    function appeal(bytes32 taskId) external;

    /// @notice Carries out the final outcome: ruling, penalties, pay, bonds. Anyone may call.
    function execute(Filing calldata filing) external;

    // ------------------------------------------------------------------ money

    /// @notice Takes protocol and audit fees from the board into the pool, and credits the treasury with what exceeds the
    /// reserve. Anyone may call.
    /// @return amount What came from the board.
    function collect() external returns (uint256 amount);

    /// @notice Pushes the caller's credit to the caller.
    function withdraw() external;

    /// @notice Sends what was burned to the burn address. Anyone may call.
    function burn() external;

    // ------------------------------------------------------------------ views

    /// @notice What `account` may withdraw, base units.
    function creditOf(address account) external view returns (uint256);

    /// @notice What pays auditors and jurors, base units; the board's share comes in with `collect`.
    function pool() external view returns (uint256);

    /// @notice Bonds of unfinished disputes, base units.
    function bonds() external view returns (uint256);

    /// @notice Audits that `node` passed since its last setback.
    function passedOf(address node) external view returns (uint32);

    /// @notice Chance in basis points that a sampled task of `node` is audited.
    function rateBpsOf(address node) external view returns (uint16);

    /// @notice The audit round of a task, and its challenge.
    /// @return value Zero while the beacon has not yielded `round`.
    /// @return round Zero when the task ended without an audit. Reverts with `FilingMismatch` before the commit.
    function challengeOf(Filing calldata filing) external view returns (bytes32 value, uint64 round);

    /// @notice Whether a committed task's challenge picks it; false while the challenge is unknown.
    function picked(Filing calldata filing) external view returns (bool);

    /// @notice An audit's record.
    function auditOf(bytes32 taskId) external view returns (AuditView memory);

    /// @notice A dispute's record.
    function disputeOf(bytes32 taskId) external view returns (DisputeView memory);

    /// @notice Who holds the seats of a level, in the order of commitment.
    function jurorsOf(bytes32 taskId, uint8 level) external view returns (address[] memory);

    /// @notice A juror's part in a level.
    /// @return committed Whether it holds a seat.
    /// @return vote What it revealed; 0 before.
    function ballotOf(bytes32 taskId, uint8 level, address juror) external view returns (bool committed, uint8 vote);

    /// @notice Slashes of a profile on a day (seconds since the epoch / 86,400).
    function slashesOf(bytes32 profile, uint256 day) external view returns (uint256);

    /// @notice The arbiter's rules.
    function params() external view returns (ArbiterRules memory);

    /// @notice Where surplus goes.
    function treasury() external view returns (address);
}
