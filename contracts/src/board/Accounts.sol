// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";
import {ITaskBoard} from "../interfaces/ITaskBoard.sol";
import {INodeRegistry} from "../interfaces/INodeRegistry.sol";
import {TokenPull} from "../libraries/TokenPull.sol";
import {Charter} from "./Charter.sol";

/// @title Accounts
/// @notice The board's money and its nodes: one word an account. The only place where the board calls the token.
abstract contract Accounts is Charter, ReentrancyGuardTransient {
    using SafeERC20 for IERC20;
    using TokenPull for IERC20;

    /// @dev An account is one word, so that a claim reads and writes nothing else of a node: balance (128 bits),
    /// unfinished claims (32), sortition weight (32), second from which it counts (40), and the number that task words
    /// name the node by (24).
    uint256 internal constant ONE_CLAIM = 1 << 128;
    uint256 internal constant CLAIMS_AT = 128;
    uint256 private constant WEIGHT_AT = 160;
    uint256 private constant ELIGIBLE_AT = 192;
    uint256 internal constant NUMBER_AT = 232;

    IERC20 public immutable token;
    INodeRegistry public immutable registry;

    /// @dev A deposit is at most 96 bits, so it would take 2^32 of the largest to overflow the 128 bits of a balance.
    mapping(address account => uint256) internal _accounts;
    /// @inheritdoc ITaskBoard
    mapping(uint24 index => address node) public nodeAt;
    // What follows shares a slot with the arbiter's address: who is drawn for an audit reads both.
    /// @inheritdoc ITaskBoard
    uint64 public totalWeight;
    /// @dev The latest number given to a node.
    uint24 private _lastIndex;

    constructor(IERC20 token_, INodeRegistry registry_) {
        if (address(token_) == address(0) || address(registry_) == address(0)) revert ZeroAddress();
        token = token_;
        registry = registry_;
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

    // ------------------------------------------------------------------ internals

    /// @dev Gives a node its number.
    function _number(address node) private returns (uint24 index) {
        if (_lastIndex == type(uint24).max) revert NodeNumbersExhausted();
        index = ++_lastIndex;
        nodeAt[index] = node;
        emit NodeNumbered(node, index);
    }

    function _weightOf(uint256 account) internal view returns (uint32) {
        return block.timestamp < uint40(account >> ELIGIBLE_AT) ? 0 : uint32(account >> WEIGHT_AT);
    }

    function _deposit(uint256 amount) private {
        if (amount == 0 || amount > type(uint96).max) revert AmountOutOfRange(amount);
        uint256 received = token.pull(amount);
        if (received != amount) revert TokenAmountMismatch(amount, received);
        _credit(msg.sender, amount);
        emit Deposited(msg.sender, amount);
    }

    function _credit(address account, uint256 amount) internal {
        unchecked {
            _accounts[account] += amount;
        }
    }

    function _debit(address account, uint256 amount) internal {
        uint256 word = _accounts[account];
        uint256 balance = uint128(word);
        if (balance < amount) revert InsufficientBalance(account, balance, amount);
        unchecked {
            _accounts[account] = word - amount;
        }
    }
}
