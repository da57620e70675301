// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";
import {AuditMode, BoardRules, ITaskBoard, TaskState, Terms} from "./interfaces/ITaskBoard.sol";
import {IMarketplace, Royalty} from "./interfaces/IMarketplace.sol";
import {INodeRegistry} from "./interfaces/INodeRegistry.sol";
import {Fees} from "./libraries/Fees.sol";
import {Sortition} from "./libraries/Sortition.sol";
import {TaskHash} from "./libraries/TaskHash.sol";
import {INDEX_AT, TaskWord, commitmentOfRoots, packTask} from "./libraries/TaskWord.sol";
import {TokenPull} from "./libraries/TokenPull.sol";

/// @title TaskBoard
/// @notice See `ITaskBoard`.
/// @dev One storage word a task, one an account. The board calls the token only in deposit and withdraw; the registry
/// and the marketplace are fixed contracts of this project and hold no hooks.
contract TaskBoard is ITaskBoard, ReentrancyGuardTransient {
    using SafeERC20 for IERC20;
    using TokenPull for IERC20;

    /// @dev An account is one word, so that a claim reads and writes nothing else of a node: balance (128 bits),
    /// unfinished claims (32), sortition weight (32), second from which it counts (40), and the number that task words
    /// name the node by (24).
    uint256 private constant ONE_CLAIM = 1 << 128;
    uint256 private constant CLAIMS_AT = 128;
    uint256 private constant WEIGHT_AT = 160;
    uint256 private constant ELIGIBLE_AT = 192;
    uint256 private constant NUMBER_AT = 232;

    IERC20 public immutable token;
    INodeRegistry public immutable registry;
    IMarketplace public immutable marketplace;
    /// @inheritdoc ITaskBoard
    address public immutable treasury;
    address public immutable admin;

    uint32 private immutable _challengeWindow;
    uint32 private immutable _sortitionStep;
    uint32 private immutable _holdWindow;
    uint32 private immutable _claimsPerWeight;
    uint32 private immutable _minClaimWindow;
    uint32 private immutable _maxClaimWindow;
    uint32 private immutable _minCommitWindow;
    uint32 private immutable _maxCommitWindow;
    uint16 private immutable _protocolFeeBps;
    uint16 private immutable _maxRoyaltyBps;
    uint96 private immutable _minFee;
    uint96 private immutable _auditFee;

    /// @inheritdoc ITaskBoard
    address public arbiter;
    /// @inheritdoc ITaskBoard
    uint64 public totalWeight;
    /// @dev The latest number given to a node.
    uint24 private _lastIndex;

    mapping(bytes32 taskId => TaskWord) private _tasks;
    /// @dev A deposit is at most 96 bits, so it would take 2^32 of the largest to overflow the 128 bits of a balance.
    mapping(address account => uint256) private _accounts;
    /// @inheritdoc ITaskBoard
    mapping(uint24 index => address node) public nodeAt;

    constructor(
        IERC20 token_,
        INodeRegistry registry_,
        IMarketplace marketplace_,
        address treasury_,
        address admin_,
        BoardRules memory rules
    ) {
        if (
            address(token_) == address(0) || address(registry_) == address(0) || address(marketplace_) == address(0)
                || treasury_ == address(0) || admin_ == address(0)
        ) revert ZeroAddress();
        _within(rules.challengeWindow, 0, 30 days);
        _within(rules.sortitionStep, 1, 1 days);
        _within(rules.holdWindow, 1, 90 days);
        _within(rules.claimsPerWeight, 1, type(uint32).max);
        _within(rules.minClaimWindow, 1, rules.maxClaimWindow);
        _within(rules.maxClaimWindow, 1, 30 days);
        _within(rules.minCommitWindow, 1, rules.maxCommitWindow);
        _within(rules.maxCommitWindow, 1, 30 days);
        _within(rules.protocolFeeBps, 0, 2000);
        token = token_;
        registry = registry_;
        marketplace = marketplace_;
        treasury = treasury_;
        admin = admin_;
        _challengeWindow = rules.challengeWindow;
        _sortitionStep = rules.sortitionStep;
        _holdWindow = rules.holdWindow;
        _claimsPerWeight = rules.claimsPerWeight;
        _minClaimWindow = rules.minClaimWindow;
        _maxClaimWindow = rules.maxClaimWindow;
        _minCommitWindow = rules.minCommitWindow;
        _maxCommitWindow = rules.maxCommitWindow;
        _protocolFeeBps = rules.protocolFeeBps;
        _maxRoyaltyBps = marketplace_.maxRoyaltyBps();
        _within(_maxRoyaltyBps, 0, 5000);
        _minFee = rules.minFee;
        _auditFee = rules.auditFee;
    }

    // ------------------------------------------------------------------ money

    /// @inheritdoc ITaskBoard
    function deposit(uint256 amount) external nonReentrant {
        _deposit(amount);
    }

    /// @inheritdoc ITaskBoard
    function depositWithPermit(uint256 amount, uint256 deadline, uint8 v, bytes32 r, bytes32 s) external nonReentrant {
        token.tryPermit(msg.sender, amount, deadline, v, r, s);
        _deposit(amount);
    }

    /// @inheritdoc ITaskBoard
    function withdraw(uint256 amount) external nonReentrant {
        if (amount == 0) revert AmountOutOfRange(amount);
        _debit(msg.sender, amount);
        emit Withdrawn(msg.sender, amount);
        token.safeTransfer(msg.sender, amount);
    }

    /// @inheritdoc ITaskBoard
    function balanceOf(address account) external view returns (uint256) {
        return uint128(_accounts[account]);
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
        if (_tasks[taskId].state() != TaskState.None) revert TaskExists(taskId);
        _debit(msg.sender, uint256(terms.fee) + _auditFeeOf(terms));
        uint128 seed = uint128(uint256(keccak256(abi.encode(block.prevrandao, blockhash(block.number - 1), taskId))));
        _tasks[taskId] = packTask(TaskState.Submitted, block.timestamp, seed);
        emit Submitted(taskId, msg.sender, terms, seed, uint40(block.timestamp));
    }

    /// @inheritdoc ITaskBoard
    function claim(Terms calldata terms) external {
        bytes32 taskId = taskIdOf(terms);
        TaskWord task = _expect(taskId, TaskState.Submitted);
        uint40 closes = task.since() + terms.claimWindow;
        if (block.timestamp > closes) revert WindowClosed(taskId, closes);
        uint256 index = _draw(taskId, task);
        _tasks[taskId] = packTask(TaskState.Claimed, block.timestamp, (index << INDEX_AT) | uint160(msg.sender));
        emit Claimed(taskId, msg.sender, uint40(block.timestamp + terms.commitWindow));
    }

    /// @inheritdoc ITaskBoard
    function commit(Terms calldata terms, bytes32 resultRoot, bytes32 traceRoot) external {
        bytes32 taskId = taskIdOf(terms);
        TaskWord task = _expect(taskId, TaskState.Claimed);
        if (msg.sender != task.node()) revert NotClaimant(msg.sender, task.node());
        uint40 closes = task.since() + terms.commitWindow;
        if (block.timestamp > closes) revert WindowClosed(taskId, closes);
        if (resultRoot == bytes32(0)) revert EmptyResult();
        uint256 index = task.index();
        _tasks[taskId] = packTask(
            TaskState.Committed, block.timestamp, (index << INDEX_AT) | commitmentOfRoots(resultRoot, traceRoot)
        );
        emit Committed(taskId, msg.sender, resultRoot, traceRoot, uint40(block.timestamp + _challengeWindow));
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
            TaskWord task = _tasks[taskId];
            if (task.state() != TaskState.Committed || block.timestamp < task.since() + _challengeWindow) {
                emit SettleSkipped(taskId);
                continue;
            }
            // Batches are mostly of one model; ask the marketplace, and pay its owners, only when it changes.
            if (terms.model != model) {
                _payRoyalties(royalties, owed);
                model = terms.model;
                (royalties, owed) = _royaltiesOf(model);
            }
            protocolFees += _pay(taskId, task, nodeAt[task.index()], terms.fee, royalties, owed);
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
        _expect(taskId, TaskState.Submitted);
        _tasks[taskId] = packTask(TaskState.Cancelled, block.timestamp, 0);
        _credit(terms.requester, terms.fee);
        emit Cancelled(taskId, terms.fee);
        _returnAuditFee(taskId, terms);
    }

    /// @inheritdoc ITaskBoard
    function expire(Terms calldata terms) external {
        bytes32 taskId = taskIdOf(terms);
        TaskWord task = _tasks[taskId];
        TaskState state = task.state();
        uint40 closes = task.since();
        if (state == TaskState.Submitted) closes += terms.claimWindow;
        else if (state == TaskState.Claimed) closes += terms.commitWindow;
        else if (state == TaskState.Held) closes += _holdWindow;
        else revert UnexpectedState(taskId, state);
        if (block.timestamp <= closes) revert TooEarly(taskId, closes + 1);
        if (state == TaskState.Held) {
            // A hold without a ruling is the arbiter's fault, not the node's; the audit fee went to the arbiter.
            _refund(taskId, terms, nodeAt[task.index()], task.payload());
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
    function hold(Terms calldata terms)
        external
        returns (uint24 index, address node, uint184 commitment, uint40 committedAt)
    {
        if (msg.sender != arbiter) revert NotArbiter(msg.sender);
        bytes32 taskId = taskIdOf(terms);
        TaskWord task = _expect(taskId, TaskState.Committed);
        (index, commitment, committedAt) = (task.index(), task.commitment(), task.since());
        node = nodeAt[index];
        uint40 closes = committedAt + _challengeWindow;
        if (block.timestamp >= closes) revert WindowClosed(taskId, closes);
        _tasks[taskId] = packTask(TaskState.Held, block.timestamp, task.payload());
        uint256 auditFee = _auditFeeOf(terms);
        if (auditFee != 0) _credit(msg.sender, auditFee);
        emit TaskHeld(taskId, uint40(block.timestamp + _holdWindow));
    }

    /// @inheritdoc ITaskBoard
    function rule(Terms calldata terms, bool upheld) external returns (uint24 index) {
        if (msg.sender != arbiter) revert NotArbiter(msg.sender);
        bytes32 taskId = taskIdOf(terms);
        TaskWord task = _tasks[taskId];
        index = task.index();
        if (task.state() != TaskState.Held) return index;
        upheld = upheld && block.timestamp <= task.since() + _holdWindow;
        emit Ruled(taskId, upheld);
        if (!upheld) {
            _refund(taskId, terms, nodeAt[index], task.payload());
            return index;
        }
        uint256 since = block.timestamp - _challengeWindow;
        _tasks[taskId] = packTask(TaskState.Committed, since, task.payload()).withHeld();
    }

    // ------------------------------------------------------------------ registry

    /// @inheritdoc ITaskBoard
    function setWeight(address node, uint32 weight, uint40 eligibleFrom) external {
        if (msg.sender != address(registry)) revert NotRegistry(msg.sender);
        uint256 account = _accounts[node];
        // slither-disable-next-line events-maths -- the registry logs the change and its reason
        totalWeight = totalWeight - uint32(account >> WEIGHT_AT) + weight;
        uint256 index = account >> NUMBER_AT;
        if (index == 0 && weight != 0) index = _number(node);
        uint256 kept = account & ((1 << WEIGHT_AT) - 1);
        _accounts[node] =
            kept | (uint256(weight) << WEIGHT_AT) | (uint256(eligibleFrom) << ELIGIBLE_AT) | (index << NUMBER_AT);
    }

    // ------------------------------------------------------------------ views

    /// @inheritdoc ITaskBoard
    function taskIdOf(Terms calldata terms) public view returns (bytes32 taskId) {
        return TaskHash.idOf(terms, address(this));
    }

    /// @inheritdoc ITaskBoard
    function taskOf(bytes32 taskId) external view returns (uint8 state, address node, uint40 stateSince, uint128 seed) {
        TaskWord task = _tasks[taskId];
        state = uint8(task.state());
        stateSince = task.since();
        if (task.state() == TaskState.Submitted) seed = task.seed();
        else node = nodeAt[task.index()];
    }

    /// @inheritdoc ITaskBoard
    function commitmentOf(bytes32 taskId) external view returns (uint184) {
        return _commitmentOf(_tasks[taskId]);
    }

    /// @inheritdoc ITaskBoard
    function recordOf(bytes32 taskId)
        external
        view
        returns (uint8 state, address node, uint40 stateSince, uint184 commitment)
    {
        TaskWord task = _tasks[taskId];
        (state, stateSince, commitment) = (uint8(task.state()), task.since(), _commitmentOf(task));
        if (task.state() != TaskState.Submitted) node = nodeAt[task.index()];
    }

    /// @inheritdoc ITaskBoard
    function seatOf(address node) external view returns (uint32 weight, uint64 total, uint24 index) {
        uint256 account = _accounts[node];
        return (_weightOf(account), totalWeight, uint24(account >> NUMBER_AT));
    }

    /// @inheritdoc ITaskBoard
    function indexOf(address node) external view returns (uint24) {
        return uint24(_accounts[node] >> NUMBER_AT);
    }

    /// @inheritdoc ITaskBoard
    function activeClaimsOf(address node) external view returns (uint32) {
        return uint32(_accounts[node] >> CLAIMS_AT);
    }

    /// @inheritdoc ITaskBoard
    function weightOf(address node) external view returns (uint32) {
        return _weightOf(_accounts[node]);
    }

    /// @inheritdoc ITaskBoard
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
        )
    {
        challengeWindow = _challengeWindow;
        sortitionStep = _sortitionStep;
        holdWindow = _holdWindow;
        claimsPerWeight = _claimsPerWeight;
        minClaimWindow = _minClaimWindow;
        maxClaimWindow = _maxClaimWindow;
        minCommitWindow = _minCommitWindow;
        maxCommitWindow = _maxCommitWindow;
        protocolFeeBps = _protocolFeeBps;
        maxRoyaltyBps = _maxRoyaltyBps;
        minFee = _minFee;
        auditFee = _auditFee;
    }

    // ------------------------------------------------------------------ internals

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

    /// @dev Gives a node its number.
    function _number(address node) private returns (uint24 index) {
        if (_lastIndex == type(uint24).max) revert NodeNumbersExhausted();
        index = ++_lastIndex;
        nodeAt[index] = node;
        emit NodeNumbered(node, index);
    }

    function _commitmentOf(TaskWord task) private pure returns (uint184) {
        return task.state() == TaskState.Submitted || task.state() == TaskState.Claimed ? 0 : task.commitment();
    }

    function _weightOf(uint256 account) private view returns (uint32) {
        return block.timestamp < uint40(account >> ELIGIBLE_AT) ? 0 : uint32(account >> WEIGHT_AT);
    }

    /// @dev Credits the node and ends the task; the caller pays what royalties are `owed` and the returned protocol fee.
    function _pay(
        bytes32 taskId,
        TaskWord task,
        address node,
        uint96 fee,
        Royalty[] memory royalties,
        uint256[] memory owed
    ) private returns (uint96 protocolFee) {
        uint96 paid;
        uint96 royalty;
        (paid, royalty, protocolFee) = Fees.split(fee, royalties, owed, _protocolFeeBps);
        _tasks[taskId] = packTask(TaskState.Settled, block.timestamp, task.payload());
        unchecked {
            // The claim made at least one ONE_CLAIM of room; balances cannot overflow, see `_accounts`.
            _accounts[node] = _accounts[node] + paid - ONE_CLAIM;
        }
        address owner = royalties.length == 0 ? address(0) : royalties[0].owner;
        emit Settled(taskId, node, paid, royalty, owner, protocolFee);
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
        _tasks[taskId] = packTask(TaskState.Expired, block.timestamp, payload);
        if (node != address(0)) _accounts[node] -= ONE_CLAIM;
        _credit(terms.requester, terms.fee);
        emit Expired(taskId, node, terms.fee);
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

    function _deposit(uint256 amount) private {
        if (amount == 0 || amount > type(uint96).max) revert AmountOutOfRange(amount);
        uint256 received = token.pull(amount);
        if (received != amount) revert TokenAmountMismatch(amount, received);
        _credit(msg.sender, amount);
        emit Deposited(msg.sender, amount);
    }

    function _credit(address account, uint256 amount) private {
        unchecked {
            _accounts[account] += amount;
        }
    }

    function _debit(address account, uint256 amount) private {
        uint256 word = _accounts[account];
        uint256 balance = uint128(word);
        if (balance < amount) revert InsufficientBalance(account, balance, amount);
        unchecked {
            _accounts[account] = word - amount;
        }
    }

    function _expect(bytes32 taskId, TaskState wanted) private view returns (TaskWord task) {
        task = _tasks[taskId];
        if (task.state() != wanted) revert UnexpectedState(taskId, task.state());
    }

    function _within(uint256 value, uint256 least, uint256 greatest) private pure {
        if (value < least || value > greatest) revert RuleOutOfRange(value, least, greatest);
    }
}
