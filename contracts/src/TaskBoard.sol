// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {Accounts} from "./board/Accounts.sol";
import {Charter} from "./board/Charter.sol";
import {AuditMode, BoardRules, ITaskBoard, TaskState, Terms} from "./interfaces/ITaskBoard.sol";
import {IMarketplace, Royalty} from "./interfaces/IMarketplace.sol";
import {INodeRegistry} from "./interfaces/INodeRegistry.sol";
import {Fees} from "./libraries/Fees.sol";
import {Sortition} from "./libraries/Sortition.sol";
import {TaskHash} from "./libraries/TaskHash.sol";
import {INDEX_AT, PART, TaskWord, commitmentOfRoots, packTask} from "./libraries/TaskWord.sol";

/// @title TaskBoard
/// @notice See `ITaskBoard`.
/// @dev Built in layers, one job each: `Charter` (rules), `Accounts` (money and nodes), and here the tasks. One storage
/// word a task, one an account. The board calls the token only in deposit and withdraw; the registry and the marketplace
/// are fixed contracts of this project and hold no hooks.
contract TaskBoard is Accounts {
    /// @dev The kind of work of which a part may be committed: a training's checkpoint is worth something, half of a
    /// picture's steps is noise.
    uint8 private constant TRAINING = 2;
    uint256 private constant WHOLE = 10_000;

    /// @dev A word of its own, so that a step which reads and writes it finds its slot once.
    struct Task {
        TaskWord word;
    }

    struct Part {
        uint16 doneBps;
        bool stopRequested;
    }

    /// @inheritdoc ITaskBoard
    address public immutable treasury;
    address public immutable admin;

    /// @inheritdoc ITaskBoard
    address public arbiter;
    mapping(bytes32 taskId => Task) private _tasks;
    /// @dev Touched for tasks whose word says so only.
    mapping(bytes32 taskId => Part) private _parts;

    constructor(
        IERC20 token_,
        INodeRegistry registry_,
        IMarketplace marketplace_,
        address treasury_,
        address admin_,
        BoardRules memory rules
    ) Charter(marketplace_, rules) Accounts(token_, registry_) {
        if (treasury_ == address(0) || admin_ == address(0)) revert ZeroAddress();
        treasury = treasury_;
        admin = admin_;
    }

    // ------------------------------------------------------------------ lifecycle

    /// @inheritdoc ITaskBoard
    function submit(Terms calldata terms) external returns (bytes32 taskId) {
        if (msg.sender != terms.requester) revert NotRequester(msg.sender, terms.requester);
        if (terms.audit > uint8(type(AuditMode).max)) revert AuditModeUnknown(terms.audit);
        if (terms.fee < _minFee) revert FeeTooLow(terms.fee, _minFee);
        if (terms.claimWindow < _minClaimWindow || terms.claimWindow > _maxClaimWindow) {
            revert WindowOutOfRange(terms.claimWindow, _minClaimWindow, _maxClaimWindow);
        }
        if (terms.commitWindow < _minCommitWindow || terms.commitWindow > _maxCommitWindow) {
            revert WindowOutOfRange(terms.commitWindow, _minCommitWindow, _maxCommitWindow);
        }
        taskId = taskIdOf(terms);
        Task storage task = _tasks[taskId];
        if (task.word.state() != TaskState.None) revert TaskExists(taskId);
        _debit(msg.sender, uint256(terms.fee) + _auditFeeOf(terms));
        uint128 seed = uint128(uint256(keccak256(abi.encode(block.prevrandao, blockhash(block.number - 1), taskId))));
        task.word = packTask(TaskState.Submitted, block.timestamp, seed);
        emit Submitted(taskId, msg.sender, terms, seed, uint40(block.timestamp));
    }

    /// @inheritdoc ITaskBoard
    function claim(Terms calldata terms) external {
        bytes32 taskId = taskIdOf(terms);
        (Task storage record, TaskWord task) = _expect(taskId, TaskState.Submitted);
        uint40 closes = task.since() + terms.claimWindow;
        if (block.timestamp > closes) revert WindowClosed(taskId, closes);
        uint256 index = _draw(taskId, task);
        record.word = packTask(TaskState.Claimed, block.timestamp, (index << INDEX_AT) | uint160(msg.sender));
        emit Claimed(taskId, msg.sender, uint40(block.timestamp + terms.commitWindow));
    }

    /// @inheritdoc ITaskBoard
    function requestStop(Terms calldata terms) external {
        if (msg.sender != terms.requester) revert NotRequester(msg.sender, terms.requester);
        if (terms.kind != TRAINING) revert PartNotAllowed(terms.kind);
        bytes32 taskId = taskIdOf(terms);
        (Task storage record, TaskWord task) = _expect(taskId, TaskState.Claimed);
        uint40 closes = task.since() + terms.commitWindow;
        if (block.timestamp > closes) revert WindowClosed(taskId, closes);
        record.word = task.withStop();
        emit StopRequested(taskId, task.node());
    }

    /// @inheritdoc ITaskBoard
    function commit(Terms calldata terms, bytes32 resultRoot, bytes32 traceRoot) external {
        _commit(terms, resultRoot, traceRoot, 0);
    }

    /// @inheritdoc ITaskBoard
    function commitPart(Terms calldata terms, bytes32 resultRoot, bytes32 traceRoot, uint16 doneBps) external {
        if (terms.kind != TRAINING) revert PartNotAllowed(terms.kind);
        if (doneBps >= WHOLE) revert ShareOutOfRange(doneBps);
        bytes32 taskId = taskIdOf(terms);
        // Nonsense in other states than Claimed, which `_commit` refuses.
        bool stopRequested = _tasks[taskId].word.stopRequested();
        _parts[taskId] = Part(doneBps, stopRequested);
        // First, so that whoever acts on `Committed` knows the share.
        emit PartCommitted(taskId, msg.sender, doneBps, stopRequested);
        _commit(terms, resultRoot, traceRoot, PART);
    }

    /// @inheritdoc ITaskBoard
    function settle(Terms[] calldata batch) external returns (uint256 settled) {
        uint256 protocolFees;
        uint64 model;
        Royalty[] memory royalties;
        uint256[] memory owed;
        for (uint256 i; i < batch.length; ++i) {
            Terms calldata terms = batch[i];
            bytes32 taskId = taskIdOf(terms);
            Task storage record = _tasks[taskId];
            TaskWord task = record.word;
            if (task.state() != TaskState.Committed || block.timestamp < task.since() + _challengeWindow) {
                emit SettleSkipped(taskId);
                continue;
            }
            record.word = packTask(TaskState.Settled, block.timestamp, task.kept());
            // Batches are mostly of one model; ask the marketplace, and pay its owners, only when it changes.
            if (terms.model != model) {
                _payRoyalties(royalties, owed);
                model = terms.model;
                (royalties, owed) = _royaltiesOf(model);
            }
            uint96 due = task.isPart() ? _returnRest(taskId, terms) : terms.fee;
            protocolFees += _pay(taskId, nodeAt[task.index()], due, royalties, owed);
            if (!task.wasHeld()) _returnAuditFee(taskId, terms);
            ++settled;
        }
        _payRoyalties(royalties, owed);
        if (protocolFees != 0) _credit(treasury, protocolFees);
    }

    /// @inheritdoc ITaskBoard
    function cancel(Terms calldata terms) external {
        if (msg.sender != terms.requester) revert NotRequester(msg.sender, terms.requester);
        bytes32 taskId = taskIdOf(terms);
        (Task storage record, TaskWord task) = _expect(taskId, TaskState.Submitted);
        uint40 opens = task.since() + cancelDelay;
        if (block.timestamp < opens) revert TooEarly(taskId, opens);
        record.word = packTask(TaskState.Cancelled, block.timestamp, 0);
        _credit(terms.requester, terms.fee);
        emit Cancelled(taskId, terms.fee);
        _returnAuditFee(taskId, terms);
    }

    /// @inheritdoc ITaskBoard
    function expire(Terms calldata terms) external {
        bytes32 taskId = taskIdOf(terms);
        TaskWord task = _tasks[taskId].word;
        TaskState state = task.state();
        uint40 closes = task.since();
        if (state == TaskState.Submitted) closes += terms.claimWindow;
        else if (state == TaskState.Claimed) closes += terms.commitWindow;
        else if (state == TaskState.Held) closes += _holdWindow;
        else revert UnexpectedState(taskId, state);
        if (block.timestamp <= closes) revert TooEarly(taskId, closes + 1);
        if (state == TaskState.Held) {
            // A hold without a ruling is the arbiter's fault, not the node's; the audit fee went to the arbiter.
            _refund(taskId, terms, nodeAt[task.index()], task.kept());
            return;
        }
        address node = state == TaskState.Claimed ? task.node() : address(0);
        _refund(taskId, terms, node, uint256(task.index()) << INDEX_AT);
        _returnAuditFee(taskId, terms);
        if (node != address(0)) registry.recordExpiry(node);
    }

    // ------------------------------------------------------------------ arbiter

    /// @inheritdoc ITaskBoard
    function setArbiter(address arbiter_) external {
        if (msg.sender != admin) revert NotAdmin(msg.sender);
        if (arbiter_ == address(0)) revert ZeroAddress();
        if (arbiter != address(0)) revert ArbiterAlreadySet(arbiter);
        arbiter = arbiter_;
        emit ArbiterSet(arbiter_);
    }

    /// @inheritdoc ITaskBoard
    function hold(Terms calldata terms) external returns (uint24 index, uint184 commitment, uint40 committedAt) {
        if (msg.sender != arbiter) revert NotArbiter(msg.sender);
        bytes32 taskId = taskIdOf(terms);
        (Task storage record, TaskWord task) = _expect(taskId, TaskState.Committed);
        (index, commitment, committedAt) = (task.index(), task.commitment(), task.since());
        uint40 closes = committedAt + _challengeWindow;
        if (block.timestamp >= closes) revert WindowClosed(taskId, closes);
        record.word = packTask(TaskState.Held, block.timestamp, task.kept());
        uint256 auditFee = _auditFeeOf(terms);
        if (auditFee != 0) _credit(msg.sender, auditFee);
        emit TaskHeld(taskId, uint40(block.timestamp + _holdWindow));
    }

    /// @inheritdoc ITaskBoard
    function rule(Terms calldata terms, bool upheld) external returns (uint24 index) {
        if (msg.sender != arbiter) revert NotArbiter(msg.sender);
        bytes32 taskId = taskIdOf(terms);
        TaskWord task = _tasks[taskId].word;
        index = task.index();
        if (task.state() != TaskState.Held) return index;
        if (upheld && block.timestamp <= task.since() + _holdWindow) {
            _uphold(taskId, task);
            return index;
        }
        emit Ruled(taskId, false);
        _refund(taskId, terms, nodeAt[index], task.kept());
    }

    /// @inheritdoc ITaskBoard
    function forfeit(Terms calldata terms) external returns (uint24 index, uint96 amount) {
        if (msg.sender != arbiter) revert NotArbiter(msg.sender);
        bytes32 taskId = taskIdOf(terms);
        TaskWord task = _tasks[taskId].word;
        index = task.index();
        if (task.state() != TaskState.Held) return (index, 0);
        emit Ruled(taskId, false);
        amount = task.isPart() ? _returnRest(taskId, terms) : terms.fee;
        _credit(msg.sender, amount);
        _expire(taskId, nodeAt[index], task.kept(), 0);
    }

    /// @inheritdoc ITaskBoard
    function uphold(bytes32 taskId) external returns (uint24 index) {
        if (msg.sender != arbiter) revert NotArbiter(msg.sender);
        TaskWord task = _tasks[taskId].word;
        index = task.index();
        bool held = task.state() == TaskState.Held && block.timestamp <= task.since() + _holdWindow;
        if (held) _uphold(taskId, task);
    }

    // ------------------------------------------------------------------ views

    /// @inheritdoc ITaskBoard
    function taskIdOf(Terms calldata terms) public view returns (bytes32 taskId) {
        return TaskHash.idOf(terms, address(this));
    }

    /// @inheritdoc ITaskBoard
    function taskOf(bytes32 taskId) external view returns (uint8 state, address node, uint40 stateSince, uint128 seed) {
        TaskWord task = _tasks[taskId].word;
        state = uint8(task.state());
        stateSince = task.since();
        if (task.state() == TaskState.Submitted) seed = task.seed();
        else node = nodeAt[task.index()];
    }

    /// @inheritdoc ITaskBoard
    function commitmentOf(bytes32 taskId) external view returns (uint184) {
        return _commitmentOf(_tasks[taskId].word);
    }

    /// @inheritdoc ITaskBoard
    function doneOf(bytes32 taskId) external view returns (uint16 doneBps, bool stopRequested) {
        TaskWord task = _tasks[taskId].word;
        if (task.isPart()) return (_parts[taskId].doneBps, _parts[taskId].stopRequested);
        if (task.state() == TaskState.Claimed) return (0, task.stopRequested());
        doneBps = _commitmentOf(task) == 0 ? 0 : uint16(WHOLE);
    }

    /// @inheritdoc ITaskBoard
    function recordOf(bytes32 taskId)
        external
        view
        returns (uint8 state, address node, uint40 stateSince, uint184 commitment)
    {
        TaskWord task = _tasks[taskId].word;
        (state, stateSince, commitment) = (uint8(task.state()), task.since(), _commitmentOf(task));
        if (task.state() != TaskState.Submitted) node = nodeAt[task.index()];
    }

    // ------------------------------------------------------------------ internals

    /// @dev Committed again, past its challenge window and held once for ever.
    function _uphold(bytes32 taskId, TaskWord task) private {
        emit Ruled(taskId, true);
        uint256 since = block.timestamp - _challengeWindow;
        _tasks[taskId].word = packTask(TaskState.Committed, since, task.kept()).withHeld();
    }

    /// @dev Counts one more unfinished task of the caller, if its weight, its draw and its cap let it claim now.
    /// @return index The caller's number.
    function _draw(bytes32 taskId, TaskWord task) private returns (uint256 index) {
        uint256 account = _accounts[msg.sender];
        uint32 weight = _weightOf(account);
        if (weight == 0) revert NodeNotEligible(msg.sender);
        uint256 score = Sortition.score(task.seed(), taskId, msg.sender);
        uint256 limit = Sortition.threshold(totalWeight, weight, block.timestamp - task.since(), _sortitionStep);
        if (score > limit) revert SortitionNotReached(score, limit);
        uint32 active = uint32(account >> CLAIMS_AT);
        uint256 cap = uint256(weight) * _claimsPerWeight;
        if (active >= cap || active == type(uint32).max) revert TooManyClaims(active, cap);
        _accounts[msg.sender] = account + ONE_CLAIM;
        return account >> NUMBER_AT;
    }

    /// @param flag `PART` or nothing.
    function _commit(Terms calldata terms, bytes32 resultRoot, bytes32 traceRoot, uint256 flag) private {
        bytes32 taskId = taskIdOf(terms);
        (Task storage record, TaskWord task) = _expect(taskId, TaskState.Claimed);
        if (msg.sender != task.node()) revert NotClaimant(msg.sender, task.node());
        uint40 closes = task.since() + terms.commitWindow;
        if (block.timestamp > closes) revert WindowClosed(taskId, closes);
        if (resultRoot == bytes32(0)) revert EmptyResult();
        flag |= uint256(task.index()) << INDEX_AT;
        record.word = packTask(TaskState.Committed, block.timestamp, flag | commitmentOfRoots(resultRoot, traceRoot));
        emit Committed(taskId, msg.sender, resultRoot, traceRoot, uint40(block.timestamp + _challengeWindow));
    }

    function _commitmentOf(TaskWord task) private pure returns (uint184) {
        return task.state() == TaskState.Submitted || task.state() == TaskState.Claimed ? 0 : task.commitment();
    }

    /// @dev Credits the node of a task that has ended; the caller pays what royalties are `owed` and the returned protocol fee.
    function _pay(bytes32 taskId, address node, uint96 fee, Royalty[] memory royalties, uint256[] memory owed)
        private
        returns (uint96 protocolFee)
    {
        uint96 paid;
        uint96 royalty;
        (paid, royalty, protocolFee) = Fees.split(fee, royalties, owed, _protocolFeeBps);
        unchecked {
            // The claim made at least one ONE_CLAIM of room; balances cannot overflow, see `_accounts`.
            _accounts[node] += paid - ONE_CLAIM;
        }
        address owner = royalties.length == 0 ? address(0) : royalties[0].owner;
        emit Settled(taskId, node, paid, royalty, owner, protocolFee);
    }

    /// @dev Gives the requester what the node did not earn of a part.
    /// @return due What the node and all others share.
    function _returnRest(bytes32 taskId, Terms calldata terms) private returns (uint96 due) {
        due = Fees.due(terms.fee, _parts[taskId].doneBps);
        uint96 rest = terms.fee - due;
        _credit(terms.requester, rest);
        emit RestReturned(taskId, rest);
    }

    /// @dev Credits what the tasks since the last call brought each listing.
    function _payRoyalties(Royalty[] memory royalties, uint256[] memory owed) private {
        for (uint256 i; i < owed.length; ++i) {
            if (owed[i] == 0) continue;
            _credit(royalties[i].owner, owed[i]);
            emit RoyaltyPaid(royalties[i].listing, royalties[i].owner, owed[i]);
        }
    }

    /// @dev Gives the fee back and ends the task; frees the node's claim when there was one.
    function _refund(bytes32 taskId, Terms calldata terms, address node, uint256 payload) private {
        _credit(terms.requester, terms.fee);
        _expire(taskId, node, payload, terms.fee);
    }

    function _expire(bytes32 taskId, address node, uint256 payload, uint96 refund) private {
        _tasks[taskId].word = packTask(TaskState.Expired, block.timestamp, payload);
        if (node != address(0)) _accounts[node] -= ONE_CLAIM;
        emit Expired(taskId, node, refund);
    }

    /// @dev For tasks that end without having been held.
    function _returnAuditFee(bytes32 taskId, Terms calldata terms) private {
        uint96 amount = _auditFeeOf(terms);
        if (amount == 0) return;
        _credit(terms.requester, amount);
        emit AuditFeeReturned(taskId, amount);
    }

    function _auditFeeOf(Terms calldata terms) private view returns (uint96) {
        return terms.audit == uint8(AuditMode.Always) ? _auditFee : 0;
    }

    function _royaltiesOf(uint64 model) private view returns (Royalty[] memory royalties, uint256[] memory owed) {
        // slither-disable-next-line calls-loop -- a fixed contract that cannot fail; once a model in a batch
        if (model != 0) royalties = marketplace.royaltiesOf(model);
        owed = new uint256[](royalties.length);
    }

    function _expect(bytes32 taskId, TaskState wanted) private view returns (Task storage record, TaskWord task) {
        record = _tasks[taskId];
        task = record.word;
        if (task.state() != wanted) revert UnexpectedState(taskId, task.state());
    }
}
