// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

/// @notice Immutable terms of a task. The board stores only their hash; callers pass them back with every step, and
/// the `Submitted` log publishes them.
/// @param requester Who pays, and who may cancel.
/// @param fee Escrowed price in base units of the fee token.
/// @param spec BLAKE3 hash of the canonical spec.
/// @param model Marketplace listing whose owner, and those of its parents, earn royalties; 0 for none.
/// @param kind Kind of work; 1 is text to image, 2 the training of a LoRA. Of the latter alone a part may be committed.
/// @param claimWindow Seconds after submit in which the task may be claimed.
/// @param commitWindow Seconds after claim in which the result must be committed.
/// @param nonce Any number that makes the requester's terms unique.
/// @param audit An `AuditMode`.
struct Terms {
    address requester;
    uint96 fee;
    bytes32 spec;
    uint64 model;
    uint8 kind;
    uint32 claimWindow;
    uint32 commitWindow;
    uint64 nonce;
    uint8 audit;
}

/// @notice What a requester wants of audits. Sampled: as the beacon picks. Always: for `BoardRules.auditFee` on top of
/// the fee. None: never by itself.
enum AuditMode {
    Sampled,
    Always,
    None
}

/// @notice Where a task stands. Settled, Cancelled and Expired are terminal.
enum TaskState {
    None,
    Submitted,
    Claimed,
    Committed,
    Settled,
    Cancelled,
    Expired,
    Held
}

/// @notice Rules of a board, fixed for its life.
/// @param challengeWindow Seconds between commit and the first moment of settlement.
/// @param sortitionStep Seconds after which the claim threshold doubles.
/// @param holdWindow Seconds that an arbiter may hold a committed task before anyone may refund it.
/// @param claimsPerWeight Unfinished tasks a node may hold for each unit of its sortition weight.
/// @param minClaimWindow Least `Terms.claimWindow`, seconds.
/// @param maxClaimWindow Greatest `Terms.claimWindow`, seconds.
/// @param minCommitWindow Least `Terms.commitWindow`, seconds.
/// @param maxCommitWindow Greatest `Terms.commitWindow`, seconds.
/// @param cancelDelay Seconds after submit in which even the requester cannot take a task back, so that a node whose claim is
/// on its way can hand over what it drew before that claim is mined. Nodes do so if half of it is two blocks at least.
/// @param protocolFeeBps Treasury's share of a fee in basis points.
/// @param minFee Least `Terms.fee`, base units of the fee token.
/// @param auditFee What `AuditMode.Always` costs on top of the fee, base units; it goes to the arbiter when it holds the
/// task, and back to the requester when the task ends without that.
struct BoardRules {
    uint32 challengeWindow;
    uint32 sortitionStep;
    uint32 holdWindow;
    uint32 claimsPerWeight;
    uint32 minClaimWindow;
    uint32 maxClaimWindow;
    uint32 minCommitWindow;
    uint32 maxCommitWindow;
    uint32 cancelDelay;
    uint16 protocolFeeBps;
    uint96 minFee;
    uint96 auditFee;
}

/// @title ITaskBoard
/// @notice Escrow and lifecycle of tasks: submit, claim, commit, settle, or cancel and expire.
/// @dev All money inside the board is internal balance; tokens move only in deposit and withdraw (pull payments).
/// Every non-terminal state can be driven to a terminal one by anyone after a known time.
interface ITaskBoard {
    // ------------------------------------------------------------------ events

    /// @notice `account` paid `amount` base units into its internal balance.
    event Deposited(address indexed account, uint256 amount);

    /// @notice `account` took `amount` base units out of its internal balance.
    event Withdrawn(address indexed account, uint256 amount);

    /// @notice A fee was escrowed; `seed` drives sortition from time `at`.
    event Submitted(bytes32 indexed taskId, address indexed requester, Terms terms, uint128 seed, uint40 at);

    /// @notice `node` owes a commit until `commitBy`, that second included.
    event Claimed(bytes32 indexed taskId, address indexed node, uint40 commitBy);

    /// @notice `node` bound itself to a result; settlement is open from `settleAfter`, that second included.
    event Committed(
        bytes32 indexed taskId, address indexed node, bytes32 resultRoot, bytes32 traceRoot, uint40 settleAfter
    );

    /// @notice The requester asked `node` to stop early; a node that sees it should commit the part that it has done.
    event StopRequested(bytes32 indexed taskId, address indexed node);

    /// @notice What `Committed` says next is `doneBps` basis points of the work: so much of the fee will be split, the rest
    /// goes back. `stopRequested`: the requester had asked for it; if not, the work itself must show why it ended.
    event PartCommitted(bytes32 indexed taskId, address indexed node, uint16 doneBps, bool stopRequested);

    /// @notice The requester got back what the part that was committed did not earn; `Settled` says next who got the others.
    event RestReturned(bytes32 indexed taskId, uint96 refund);

    /// @notice The fee, or what a part earned of it, was split: `paid` to the node, `protocolFee` to the treasury, and `royalty` to the owner of the
    /// listing that the terms name, `royaltyTo`, and the owners of its parents. `RoyaltyPaid` says who of them got what.
    event Settled(
        bytes32 indexed taskId, address indexed node, uint96 paid, uint96 royalty, address royaltyTo, uint96 protocolFee
    );

    /// @notice A listing's owner was credited `amount` for the tasks that the same call settled, as named or as a parent.
    event RoyaltyPaid(uint64 indexed listing, address indexed owner, uint256 amount);

    /// @notice The requester took an unclaimed task back.
    event Cancelled(bytes32 indexed taskId, uint96 refund);

    /// @notice The fee went back to the requester; `node` is who failed, zero when nobody had claimed. `refund` is 0 where
    /// the work was left in doubt: then nobody has the fee.
    event Expired(bytes32 indexed taskId, address indexed node, uint96 refund);

    /// @notice The audit fee went back to the requester, because the task ended without an audit.
    event AuditFeeReturned(bytes32 indexed taskId, uint96 amount);

    /// @notice A node that ever weighed something has this number for ever; task words name nodes by it.
    event NodeNumbered(address indexed node, uint24 index);

    /// @notice A task in a settle batch was not settleable; the rest of the batch went on.
    event SettleSkipped(bytes32 indexed taskId);

    /// @notice The arbiter stopped a settlement; without a ruling anyone may refund after `releaseAt`.
    event TaskHeld(bytes32 indexed taskId, uint40 releaseAt);

    /// @notice The arbiter decided a held task: upheld means that it may be settled at once, otherwise it is refunded.
    event Ruled(bytes32 indexed taskId, bool upheld);

    /// @notice The one arbiter this board will ever have.
    event ArbiterSet(address indexed arbiter);

    // ------------------------------------------------------------------ errors

    /// @notice Thrown when a deposit or withdrawal is zero or does not fit 96 bits.
    error AmountOutOfRange(uint256 amount);

    /// @notice Thrown when the token moved another amount than asked, as tokens with a transfer fee do.
    error TokenAmountMismatch(uint256 expected, uint256 received);

    /// @notice Thrown when an internal balance does not cover `needed` base units.
    error InsufficientBalance(address account, uint256 balance, uint256 needed);

    /// @notice Thrown when somebody else than the requester submits, cancels or asks to stop.
    error NotRequester(address caller, address requester);

    /// @notice Thrown when somebody else than the claiming node commits.
    error NotClaimant(address caller, address node);

    /// @notice Thrown when a fee is below the board's minimum.
    error FeeTooLow(uint96 fee, uint96 minFee);

    /// @notice Thrown when `Terms.audit` is no `AuditMode`.
    error AuditModeUnknown(uint8 audit);

    /// @notice Thrown when all node numbers are taken; no further wallet can become active.
    error NodeNumbersExhausted();

    /// @notice Thrown when a window of the terms lies outside the board's bounds, all in seconds.
    error WindowOutOfRange(uint32 window, uint32 least, uint32 greatest);

    /// @notice Thrown when the same terms were submitted before; change the nonce.
    error TaskExists(bytes32 taskId);

    /// @notice Thrown when a step does not fit the task's state.
    error UnexpectedState(bytes32 taskId, TaskState state);

    /// @notice Thrown when a step comes after its last allowed second.
    error WindowClosed(bytes32 taskId, uint40 closedAt);

    /// @notice Thrown when a step comes before its first allowed second.
    error TooEarly(bytes32 taskId, uint40 opensAt);

    /// @notice Thrown when the caller is no active node with sortition weight.
    error NodeNotEligible(address node);

    /// @notice Thrown when a node's score is above the present threshold; it doubles every sortition step.
    error SortitionNotReached(uint256 score, uint256 threshold);

    /// @notice Thrown when a node has as many unfinished tasks as its weight allows.
    error TooManyClaims(uint32 activeClaims, uint256 cap);

    /// @notice Thrown when a commit names no result.
    error EmptyResult();

    /// @notice Thrown when a part is committed, or asked for, of a kind of work that is worth nothing unfinished.
    error PartNotAllowed(uint8 kind);

    /// @notice Thrown when a part is the whole or more: `commit` is for that.
    error ShareOutOfRange(uint16 doneBps);

    /// @notice Thrown when somebody else than the arbiter holds or rules.
    error NotArbiter(address caller);

    /// @notice Thrown when somebody else than the registry changes a weight.
    error NotRegistry(address caller);

    /// @notice Thrown when somebody else than the admin names the arbiter.
    error NotAdmin(address caller);

    /// @notice Thrown when the arbiter was named before.
    error ArbiterAlreadySet(address arbiter);

    /// @notice Thrown when a rule given to the constructor is outside its hard range.
    error RuleOutOfRange(uint256 value, uint256 least, uint256 greatest);

    /// @notice Thrown when an address must not be zero.
    error ZeroAddress();

    // ------------------------------------------------------------------ money

    /// @notice Pulls `amount` base units of the fee token into the caller's internal balance.
    function deposit(uint256 amount) external;

    /// @notice Same as `deposit`, with an EIP-2612 permit for the allowance.
    /// @dev A permit that somebody else already used is ignored; the allowance decides.
    function depositWithPermit(uint256 amount, uint256 deadline, uint8 v, bytes32 r, bytes32 s) external;

    /// @notice Pushes `amount` base units of the caller's internal balance to the caller.
    function withdraw(uint256 amount) external;

    /// @notice Internal balance in base units: deposits not escrowed, plus earnings.
    function balanceOf(address account) external view returns (uint256);

    // ------------------------------------------------------------------ lifecycle

    /// @notice Escrows the fee, and the audit fee if one is due, from the caller's internal balance and opens the task
    /// to sortition.
    function submit(Terms calldata terms) external returns (bytes32 taskId);

    /// @notice Takes a task on: the caller must be an active node whose score is within the present threshold.
    function claim(Terms calldata terms) external;

    /// @notice Binds the caller to a result and to the trace of its making.
    /// @param resultRoot Merkle root over manifest and artifacts; not zero.
    /// @param traceRoot Merkle root over the execution trace; zero when the executor records none.
    function commit(Terms calldata terms, bytes32 resultRoot, bytes32 traceRoot) external;

    /// @notice Asks the node to stop early and to commit what it has. Requester only, while a training is claimed and may
    /// still be committed; once more is harmless.
    /// @dev It binds nobody: a node that did not see it, or finishes all the same, is paid for what it finished. But a
    /// part that nobody asked for has to explain itself, so the board remembers.
    function requestStop(Terms calldata terms) external;

    /// @notice Same as `commit`, of a part of a training: the requester's stop, or a loss that is no number any more, ended it.
    /// @dev The board takes the node's word for the share, as for the roots; auditors and jurors compare it with the steps
    /// that the trace shows done, and with `doneOf`, which says whether the requester had asked.
    /// @param doneBps Basis points of the work, rounded down, less than 10,000; zero when nothing came of it.
    function commitPart(Terms calldata terms, bytes32 resultRoot, bytes32 traceRoot, uint16 doneBps) external;

    /// @notice Pays out committed tasks whose challenge window is over. Anyone may call.
    /// @dev A task that cannot be settled is skipped with an event, so one bad entry never fails a batch.
    /// @return settled How many of the batch were paid.
    function settle(Terms[] calldata batch) external returns (uint256 settled);

    /// @notice Takes back a task that nobody claimed, `cancelDelay` seconds after its submit or later. Requester only.
    function cancel(Terms calldata terms) external;

    /// @notice Refunds a task whose claim, commit or hold window is over. Anyone may call.
    function expire(Terms calldata terms) external;

    // ------------------------------------------------------------------ arbiter

    /// @notice Names the arbiter, once and for all. Admin only; the admin has no other power.
    function setArbiter(address arbiter_) external;

    /// @notice Stops a committed task from settling. Arbiter only, within the challenge window, once a task. The audit
    /// fee, if one was paid, is the arbiter's from now on.
    /// @return index Number of the node that committed.
    /// @return commitment As `commitmentOf`.
    /// @return committedAt Second of the commit.
    function hold(Terms calldata terms) external returns (uint24 index, uint184 commitment, uint40 committedAt);

    /// @notice Decides a held task. Upheld: committed again, past its challenge window, so that anyone may settle it at
    /// once and nobody may hold it again. Otherwise, or after the hold window: refunded. Arbiter only.
    /// @dev Does nothing for a task that is not held, so that an arbiter can always finish its own part.
    /// @return index Number of the node that committed.
    function rule(Terms calldata terms, bool upheld) external returns (uint24 index);

    /// @notice Ends a held task whose work is in doubt: neither side has the fee, which the arbiter is credited and has to
    /// burn. What a part leaves of it goes back to the requester, as in a settlement. Arbiter only.
    /// @dev Does nothing for a task that is not held. After the hold window, too: else who was to be refunded by waiting
    /// would have to be outrun.
    /// @return index Number of the node that committed.
    /// @return amount What the arbiter was credited.
    function forfeit(Terms calldata terms) external returns (uint24 index, uint96 amount);

    /// @notice `rule` in a node's favour for whom the terms are not at hand, which is cheaper. Arbiter only.
    /// @dev Does nothing for a task that is not held, or after the hold window, when anyone may `expire` it.
    /// @return index Number of the node that committed.
    function uphold(bytes32 taskId) external returns (uint24 index);

    // ------------------------------------------------------------------ registry

    /// @notice Sets a node's sortition weight, counting from second `eligibleFrom`. Registry only.
    /// @dev The registry decides on weights; the board keeps them beside the claims, so that a claim reads one word.
    function setWeight(address node, uint32 weight, uint40 eligibleFrom) external;

    // ------------------------------------------------------------------ views

    /// @notice Identity of a task: keccak256(abi.encode(chain id, this board, terms)).
    function taskIdOf(Terms calldata terms) external view returns (bytes32);

    /// @notice Where a task stands.
    /// @return state A `TaskState`.
    /// @return node Who claimed it; zero before, and for tasks that ended unclaimed.
    /// @return stateSince Second at which the state was entered.
    /// @return seed Sortition seed while submitted; zero after.
    function taskOf(bytes32 taskId) external view returns (uint8 state, address node, uint40 stateSince, uint128 seed);

    /// @notice Low 184 bits of keccak256(abi.encode(resultRoot, traceRoot)) of a task from its commit on; zero before, and
    /// for tasks that ended without a commit.
    function commitmentOf(bytes32 taskId) external view returns (uint184);

    /// @notice How much of the work was committed.
    /// @return doneBps Basis points: 10,000 for a whole commit, less for a part; zero before the commit, and for tasks that
    /// ended without one.
    /// @return stopRequested Whether the requester asked to stop: of a task that is claimed, or of which a part was
    /// committed; false for others.
    function doneOf(bytes32 taskId) external view returns (uint16 doneBps, bool stopRequested);

    /// @notice What a task's word says from the commit on, in one call.
    /// @return state A `TaskState`.
    /// @return node Who claimed it; zero before, and for tasks that ended unclaimed.
    /// @return stateSince Second at which the state was entered.
    /// @return commitment As `commitmentOf`.
    function recordOf(bytes32 taskId)
        external
        view
        returns (uint8 state, address node, uint40 stateSince, uint184 commitment);

    /// @notice What sortition needs to know of a node, in one call.
    /// @return weight As `weightOf`.
    /// @return total As `totalWeight`.
    /// @return index As `indexOf`.
    function seatOf(address node) external view returns (uint32 weight, uint64 total, uint24 index);

    /// @notice The permanent number of a node, from 1; zero while it never weighed anything.
    function indexOf(address node) external view returns (uint24);

    /// @notice The node of a number; zero when there is none.
    function nodeAt(uint24 index) external view returns (address);

    /// @notice Tasks that `node` has claimed and that are not terminal yet. Its stake is locked while there are any.
    function activeClaimsOf(address node) external view returns (uint32);

    /// @notice Sortition weight of `node`: 0 unless active and past the activation delay.
    function weightOf(address node) external view returns (uint32);

    /// @notice Sum of the weights of all active nodes, those within their activation delay included.
    function totalWeight() external view returns (uint64);

    /// @notice The board's rules, all but `cancelDelay`.
    /// @return challengeWindow Seconds between commit and settlement.
    /// @return sortitionStep Seconds in which the claim threshold doubles.
    /// @return holdWindow Seconds an arbiter may hold a task.
    /// @return claimsPerWeight Unfinished tasks a node may hold a unit of weight.
    /// @return minClaimWindow Seconds.
    /// @return maxClaimWindow Seconds.
    /// @return minCommitWindow Seconds.
    /// @return maxCommitWindow Seconds.
    /// @return protocolFeeBps Basis points.
    /// @return maxRoyaltyBps Basis points, as the marketplace enforces them.
    /// @return minFee Base units.
    /// @return auditFee Base units.
    function params()
        external
        view
        returns (
            uint32 challengeWindow,
            uint32 sortitionStep,
            uint32 holdWindow,
            uint32 claimsPerWeight,
            uint32 minClaimWindow,
            uint32 maxClaimWindow,
            uint32 minCommitWindow,
            uint32 maxCommitWindow,
            uint16 protocolFeeBps,
            uint16 maxRoyaltyBps,
            uint96 minFee,
            uint96 auditFee
        );

    /// @notice Seconds after submit in which a task cannot be cancelled.
    function cancelDelay() external view returns (uint32);

    /// @notice Where protocol fees are credited.
    function treasury() external view returns (address);

    /// @notice The arbiter, zero while there is none.
    function arbiter() external view returns (address);
}
