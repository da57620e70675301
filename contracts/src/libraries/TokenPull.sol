// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {IERC20Permit} from "@openzeppelin/contracts/token/ERC20/extensions/IERC20Permit.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";

/// @title TokenPull
/// @notice Takes tokens in, and finds out when a token did not deliver what was asked.
library TokenPull {
    using SafeERC20 for IERC20;

    /// @dev Takes from the caller and nobody else: an allowance is never an invitation to others.
    /// @return received What really arrived; callers refuse anything but `amount`.
    function pull(IERC20 token, uint256 amount) internal returns (uint256 received) {
        uint256 before = token.balanceOf(address(this));
        token.safeTransferFrom(msg.sender, address(this), amount);
        received = token.balanceOf(address(this)) - before;
    }

    /// @dev A permit in the mempool can be used by anyone, which spends its nonce; failing then would let a stranger
    /// block a deposit, so the allowance alone decides.
    function tryPermit(IERC20 token, address owner, uint256 amount, uint256 deadline, uint8 v, bytes32 r, bytes32 s)
        internal
    {
        try IERC20Permit(address(token)).permit(owner, address(this), amount, deadline, v, r, s) {} catch {}
    }
}
