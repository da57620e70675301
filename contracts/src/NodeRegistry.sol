// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";
import {INodeRegistry, NodeState, RegistryRules} from "./interfaces/INodeRegistry.sol";
import {ITaskBoard} from "./interfaces/ITaskBoard.sol";
import {TokenPull} from "./libraries/TokenPull.sol";

/// @title NodeRegistry
/// @notice See `INodeRegistry`.
/// @dev Stake decides on sortition weight; the weight itself is kept by the board, where claims read it.
contract NodeRegistry is INodeRegistry, ReentrancyGuardTransient {
    using SafeERC20 for IERC20;
    using TokenPull for IERC20;

    /// @dev One word.
    struct Standing {
        uint96 stake;
        NodeState state;
        uint8 standing;
        /// @dev Second at which `standing` was true; it has recovered since.
        uint40 standingSince;
        /// @dev Second from which an active node may claim, audit and judge, or an unbonding one withdraw.
        uint40 since;
    }

    struct Identity {
        bytes32 capabilities;
        bytes peerId;
    }

    uint8 private constant FULL_STANDING = 100;
    uint8 private constant EXPIRY_PENALTY = 10;
    /// @dev A node whose standing is below one more penalty is paused until it has recovered.
    uint8 private constant RESUME_STANDING = EXPIRY_PENALTY;
    uint256 private constant RECOVERY_PER_POINT = 1 hours;

    IERC20 public immutable token;
    address public immutable admin;
    uint96 private immutable _minStake;
    uint96 private immutable _stakePerWeight;
    uint32 private immutable _unbondingPeriod;
    uint32 private immutable _activationDelay;

    /// @inheritdoc INodeRegistry
    address public board;
    /// @inheritdoc INodeRegistry
    address public arbiter;

    mapping(address node => Standing) private _nodes;
    mapping(address node => Identity) private _identities;
    mapping(bytes32 peerIdHash => address node) private _wallets;

    modifier onlyAdmin() {
        if (msg.sender != admin) revert NotAdmin(msg.sender);
        _;
    }

    constructor(IERC20 token_, address admin_, RegistryRules memory rules) {
        if (address(token_) == address(0) || admin_ == address(0)) revert ZeroAddress();
        _within(rules.minStake, 1, type(uint96).max);
        _within(rules.stakePerWeight, 1, rules.minStake);
        _within(rules.unbondingPeriod, 1, 365 days);
        _within(rules.activationDelay, 0, 30 days);
        token = token_;
        admin = admin_;
        _minStake = rules.minStake;
        _stakePerWeight = rules.stakePerWeight;
        _unbondingPeriod = rules.unbondingPeriod;
        _activationDelay = rules.activationDelay;
    }

    // ------------------------------------------------------------------ membership

    /// @inheritdoc INodeRegistry
    function register(bytes calldata peerId, bytes32 capabilities, uint96 stake) external nonReentrant {
        _register(peerId, capabilities, stake);
    }

    /// @inheritdoc INodeRegistry
    function registerWithPermit(
        bytes calldata peerId,
        bytes32 capabilities,
        uint96 stake,
        uint256 deadline,
        uint8 v,
        bytes32 r,
        bytes32 s
    ) external nonReentrant {
        token.tryPermit(msg.sender, stake, deadline, v, r, s);
        _register(peerId, capabilities, stake);
    }

    /// @inheritdoc INodeRegistry
    function update(bytes calldata peerId, bytes32 capabilities) external {
        NodeState state = _nodes[msg.sender].state;
        if (state == NodeState.None || state == NodeState.Unbonding) revert UnexpectedNodeState(msg.sender, state);
        Identity storage identity = _identities[msg.sender];
        delete _wallets[keccak256(identity.peerId)];
        _bind(peerId);
        identity.peerId = peerId;
        identity.capabilities = capabilities;
        emit NodeUpdated(msg.sender, peerId, capabilities);
    }

    /// @inheritdoc INodeRegistry
    function pause() external {
        Standing memory node = _expect(msg.sender, NodeState.Active);
        _deactivate(msg.sender, node);
        _save(msg.sender, node);
    }

    /// @inheritdoc INodeRegistry
    function resume() external {
        Standing memory node = _expect(msg.sender, NodeState.Paused);
        if (node.stake < _minStake) revert StakeTooLow(node.stake, _minStake);
        uint8 standing = _standingNow(node);
        if (standing < RESUME_STANDING) revert StandingTooLow(standing, RESUME_STANDING);
        _activate(node);
        emit NodeResumed(msg.sender);
        _save(msg.sender, node);
    }

    /// @inheritdoc INodeRegistry
    function addStake(uint96 amount) external nonReentrant {
        Standing memory node = _nodes[msg.sender];
        if (node.state != NodeState.Active && node.state != NodeState.Paused) {
            revert UnexpectedNodeState(msg.sender, node.state);
        }
        uint256 stake = uint256(node.stake) + amount;
        if (stake > type(uint96).max) revert StakeTooHigh(stake);
        node.stake = uint96(stake);
        if (node.state == NodeState.Active) _activate(node);
        emit StakeChanged(msg.sender, node.stake);
        _save(msg.sender, node);
        _pull(amount);
    }

    /// @inheritdoc INodeRegistry
    function beginUnbond() external {
        Standing memory node = _nodes[msg.sender];
        if (node.state == NodeState.Active) _deactivate(msg.sender, node);
        else if (node.state != NodeState.Paused) revert UnexpectedNodeState(msg.sender, node.state);
        node.state = NodeState.Unbonding;
        node.since = uint40(block.timestamp + _unbondingPeriod);
        emit UnbondBegun(msg.sender, node.since);
        _save(msg.sender, node);
    }

    /// @inheritdoc INodeRegistry
    function withdrawStake() external nonReentrant {
        Standing memory node = _expect(msg.sender, NodeState.Unbonding);
        if (block.timestamp < node.since) revert StillUnbonding(node.since);
        uint32 active = ITaskBoard(board).activeClaimsOf(msg.sender);
        if (active != 0) revert ClaimsOutstanding(active);
        delete _wallets[keccak256(_identities[msg.sender].peerId)];
        delete _identities[msg.sender];
        delete _nodes[msg.sender];
        emit StakeWithdrawn(msg.sender, node.stake);
        token.safeTransfer(msg.sender, node.stake);
    }

    // ------------------------------------------------------------------ roles

    /// @inheritdoc INodeRegistry
    function setBoard(address board_) external onlyAdmin {
        if (board_ == address(0)) revert ZeroAddress();
        if (board != address(0)) revert RoleAlreadySet(board);
        board = board_;
        emit BoardSet(board_);
    }

    /// @inheritdoc INodeRegistry
    function setArbiter(address arbiter_) external onlyAdmin {
        if (arbiter_ == address(0)) revert ZeroAddress();
        if (arbiter != address(0)) revert RoleAlreadySet(arbiter);
        arbiter = arbiter_;
        emit ArbiterSet(arbiter_);
    }

    /// @inheritdoc INodeRegistry
    function slash(address wallet, uint96 amount, address beneficiary) external nonReentrant returns (uint96 slashed) {
        if (msg.sender != arbiter) revert NotArbiter(msg.sender);
        if (beneficiary == address(0)) revert ZeroAddress();
        Standing memory node = _nodes[wallet];
        slashed = amount < node.stake ? amount : node.stake;
        node.stake -= slashed;
        if (node.state == NodeState.Active && node.stake < _minStake) _deactivate(wallet, node);
        emit Slashed(wallet, slashed, beneficiary);
        _save(wallet, node);
        token.safeTransfer(beneficiary, slashed);
    }

    /// @inheritdoc INodeRegistry
    function recordExpiry(address wallet) external {
        if (msg.sender != board) revert NotBoard(msg.sender);
        Standing memory node = _nodes[wallet];
        uint8 standing = _standingNow(node);
        node.standing = standing > EXPIRY_PENALTY ? standing - EXPIRY_PENALTY : 0;
        node.standingSince = uint40(block.timestamp);
        if (node.state == NodeState.Active && node.standing < RESUME_STANDING) _deactivate(wallet, node);
        emit StandingChanged(wallet, node.standing);
        _save(wallet, node);
    }

    // ------------------------------------------------------------------ views

    /// @inheritdoc INodeRegistry
    function weightOf(address wallet) public view returns (uint32) {
        return board == address(0) ? 0 : ITaskBoard(board).weightOf(wallet);
    }

    /// @inheritdoc INodeRegistry
    function totalWeight() external view returns (uint64) {
        return board == address(0) ? 0 : ITaskBoard(board).totalWeight();
    }

    /// @inheritdoc INodeRegistry
    function nodeOf(address wallet)
        external
        view
        returns (
            bytes memory peerId,
            bytes32 capabilities,
            uint96 stake,
            uint32 weight,
            uint8 state,
            uint8 standing,
            uint40 unbondAt
        )
    {
        Standing memory node = _nodes[wallet];
        peerId = _identities[wallet].peerId;
        capabilities = _identities[wallet].capabilities;
        stake = node.stake;
        weight = weightOf(wallet);
        state = uint8(node.state);
        standing = _standingNow(node);
        if (node.state == NodeState.Unbonding) unbondAt = node.since;
    }

    /// @inheritdoc INodeRegistry
    function stakeOf(address wallet) external view returns (uint96) {
        return _nodes[wallet].stake;
    }

    /// @inheritdoc INodeRegistry
    function walletOf(bytes calldata peerId) external view returns (address) {
        return _wallets[keccak256(peerId)];
    }

    /// @inheritdoc INodeRegistry
    function params()
        external
        view
        returns (uint96 minStake, uint96 stakePerWeight, uint32 unbondingPeriod, uint32 activationDelay)
    {
        return (_minStake, _stakePerWeight, _unbondingPeriod, _activationDelay);
    }

    // ------------------------------------------------------------------ internals

    function _register(bytes calldata peerId, bytes32 capabilities, uint96 stake) private {
        if (board == address(0)) revert BoardNotSet();
        Standing memory node = _nodes[msg.sender];
        if (node.state != NodeState.None) revert AlreadyRegistered(msg.sender);
        if (stake < _minStake) revert StakeTooLow(stake, _minStake);
        _bind(peerId);
        _identities[msg.sender] = Identity(capabilities, peerId);
        node.stake = stake;
        node.standing = FULL_STANDING;
        node.standingSince = uint40(block.timestamp);
        _activate(node);
        emit NodeRegistered(msg.sender, peerId, capabilities, stake);
        _save(msg.sender, node);
        _pull(stake);
    }

    /// @dev Gives the caller an unused peer id.
    function _bind(bytes calldata peerId) private {
        if (peerId.length == 0 || peerId.length > 64) revert PeerIdInvalid(peerId.length);
        bytes32 key = keccak256(peerId);
        if (_wallets[key] != address(0)) revert PeerIdTaken(_wallets[key]);
        _wallets[key] = msg.sender;
    }

    function _activate(Standing memory node) private view {
        node.state = NodeState.Active;
        node.since = uint40(block.timestamp + _activationDelay);
    }

    function _deactivate(address wallet, Standing memory node) private {
        node.state = NodeState.Paused;
        emit NodePaused(wallet);
    }

    /// @dev Stores a node and brings the weight that the board keeps into step: only active nodes weigh anything.
    function _save(address wallet, Standing memory node) private {
        _nodes[wallet] = node;
        uint256 weight = node.state == NodeState.Active ? node.stake / _stakePerWeight : 0;
        if (weight > type(uint32).max) revert StakeTooHigh(node.stake);
        ITaskBoard(board).setWeight(wallet, uint32(weight), node.since);
    }

    function _pull(uint256 amount) private {
        uint256 received = token.pull(amount);
        if (received != amount) revert TokenAmountMismatch(amount, received);
    }

    function _standingNow(Standing memory node) private view returns (uint8) {
        if (node.state == NodeState.None) return 0;
        uint256 points = node.standing + (block.timestamp - node.standingSince) / RECOVERY_PER_POINT;
        return points > FULL_STANDING ? FULL_STANDING : uint8(points);
    }

    function _expect(address wallet, NodeState wanted) private view returns (Standing memory node) {
        node = _nodes[wallet];
        if (node.state != wanted) revert UnexpectedNodeState(wallet, node.state);
    }

    function _within(uint256 value, uint256 least, uint256 greatest) private pure {
        if (value < least || value > greatest) revert RuleOutOfRange(value, least, greatest);
    }
}
