// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";
import {CreditReason, IArbiter, PenaltyReason} from "../interfaces/IArbiter.sol";
import {INodeRegistry} from "../interfaces/INodeRegistry.sol";
import {ITaskBoard} from "../interfaces/ITaskBoard.sol";
import {TokenPull} from "../libraries/TokenPull.sol";
import {Rulebook} from "./Rulebook.sol";

// Board and registry are fixed contracts of this project without hooks; what moves tokens stands under a transient guard.
// slither-disable-start reentrancy-no-eth
/// @title Purse
/// @notice The arbiter's money: pool, bonds and credits. Their sum is what the contract holds, donations apart.
abstract contract Purse is Rulebook, ReentrancyGuardTransient {
    using SafeERC20 for IERC20;
    using TokenPull for IERC20;

    /// @dev Tokens without a burn function are burned by sending them where nobody has a key.
    address internal constant BURN = 0x000000000000000000000000000000000000dEaD;

    IERC20 public immutable token;
    ITaskBoard public immutable board;
    INodeRegistry public immutable registry;
    /// @inheritdoc IArbiter
    address public immutable treasury;

    uint128 internal _pool;
    uint128 internal _bonds;
    mapping(address account => uint256) private _credits;

    constructor(IERC20 token_, ITaskBoard board_, INodeRegistry registry_, address treasury_) {
        if (
            address(token_) == address(0) || address(board_) == address(0) || address(registry_) == address(0)
                || treasury_ == address(0)
        ) revert ZeroAddress();
        token = token_;
        board = board_;
        registry = registry_;
        treasury = treasury_;
    }

    /// @inheritdoc IArbiter
    function collect() external nonReentrant returns (uint256 amount) {
        amount = _collect();
        if (_pool <= _reserve) return amount;
        uint256 surplus = _pool - _reserve;
        _pool = _reserve;
        _credit(treasury, surplus, CreditReason.Surplus);
    }

    /// @inheritdoc IArbiter
    function withdraw() external nonReentrant {
        _push(msg.sender);
    }

    /// @inheritdoc IArbiter
    function burn() external nonReentrant {
        _push(BURN);
    }

    /// @inheritdoc IArbiter
    function creditOf(address account) external view returns (uint256) {
        return _credits[account];
    }

    /// @inheritdoc IArbiter
    function pool() external view returns (uint256) {
        return _pool;
    }

    /// @inheritdoc IArbiter
    function bonds() external view returns (uint256) {
        return _bonds;
    }

    // ------------------------------------------------------------------ internals

    function _push(address account) private {
        uint256 amount = _credits[account];
        if (amount == 0) revert NothingToWithdraw(account);
        _credits[account] = 0;
        emit CreditWithdrawn(account, amount);
        token.safeTransfer(account, amount);
    }

    /// @dev No sum of tokens comes near 128 bits: the board takes at most 96 at a time, the registry holds 96 a node.
    function _credit(address account, uint256 amount, CreditReason reason) internal {
        if (amount == 0) return;
        unchecked {
            _credits[account] += amount;
        }
        emit Credited(account, amount, uint8(reason));
    }

    /// @dev Pays out of the pool; what the pool does not have, not even with the board's share, is not paid.
    function _payFee(address account, uint256 amount, CreditReason reason) internal {
        uint256 held = _pool;
        if (held < amount) {
            _collect();
            held = _pool;
            if (held < amount) amount = held;
        }
        unchecked {
            // slither-disable-next-line costly-loop -- once a fee, and an auditor reveals few audits at once
            _pool = uint128(held - amount);
        }
        _credit(account, amount, reason);
    }

    function _collect() internal returns (uint256 amount) {
        amount = board.balanceOf(address(this));
        if (amount == 0) return 0;
        // slither-disable-next-line costly-loop -- what was collected is not there to be collected again
        _pool += uint128(amount);
        emit Collected(amount);
        board.withdraw(amount);
    }

    function _takeBond(uint256 amount) internal {
        _bonds += uint128(amount);
        uint256 received = token.pull(amount);
        if (received != amount) revert TokenAmountMismatch(amount, received);
    }

    /// @dev A bond goes back to who put it up, or into the pool.
    function _releaseBond(address owner, uint256 amount, bool forfeited) internal {
        _bonds -= uint128(amount);
        if (forfeited) _pool += uint128(amount);
        else _credit(owner, amount, CreditReason.Bond);
    }

    /// @dev Takes stake into the pool.
    function _penalise(address wallet, uint96 amount) internal returns (uint96 taken) {
        taken = registry.slash(wallet, amount, address(this));
        // slither-disable-next-line costly-loop -- once a juror that did wrong, and juries have few
        _pool += taken;
    }

    function _penaliseAuditor(bytes32 taskId, address auditor, uint96 amount, PenaltyReason reason) internal {
        emit AuditorPenalised(taskId, auditor, _penalise(auditor, amount), uint8(reason));
    }
}
// slither-disable-end reentrancy-no-eth
