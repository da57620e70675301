// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

/// @title Fees
/// @notice How a fee is split. The same rule stands in gesso_protocol/money.py; golden vectors hold the two together.
library Fees {
    /// @notice Royalty and protocol share round down, the node gets the rest, so the parts always sum to the fee.
    /// @param royaltyBps Basis points; with `protocolBps` at most 10,000.
    function split(uint96 fee, uint256 royaltyBps, uint256 protocolBps)
        internal
        pure
        returns (uint96 toNode, uint96 royalty, uint96 protocolFee)
    {
        // Neither product exceeds 96 + 14 bits, and the constructor keeps the sum of the shares under 10,000.
        unchecked {
            royalty = uint96(uint256(fee) * royaltyBps / 10_000);
            protocolFee = uint96(uint256(fee) * protocolBps / 10_000);
            toNode = fee - royalty - protocolFee;
        }
    }
}
