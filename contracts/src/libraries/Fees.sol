// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {Royalty} from "../interfaces/IMarketplace.sol";

/// @title Fees
/// @notice How a fee is split. The same rule stands in gesso_protocol/money.py; golden vectors hold the two together.
library Fees {
    /// @notice What a part of the work earns, rounded down; the rest of the fee is the requester's.
    /// @param doneBps Basis points of the whole, at most 10,000.
    function due(uint96 fee, uint16 doneBps) internal pure returns (uint96) {
        unchecked {
            return uint96(uint256(fee) * doneBps / 10_000);
        }
    }

    /// @notice Each royalty and the protocol's share round down, the node gets the rest, so the parts always sum to the fee.
    /// @param royalties Along the parents of a listing; their basis points and `protocolBps` sum to at most 10,000.
    /// @param owed As long as `royalties`: what each is due grows by its part.
    /// @return toNode The node's part.
    /// @return royalty Sum of all royalties.
    /// @return protocolFee The treasury's part.
    function split(uint96 fee, Royalty[] memory royalties, uint256[] memory owed, uint256 protocolBps)
        internal
        pure
        returns (uint96 toNode, uint96 royalty, uint96 protocolFee)
    {
        // No product exceeds 96 + 14 bits; marketplace and board keep the sum of the shares under 10,000.
        unchecked {
            for (uint256 i; i < royalties.length; ++i) {
                uint256 part = uint256(fee) * royalties[i].bps / 10_000;
                owed[i] += part;
                royalty += uint96(part);
            }
            protocolFee = uint96(uint256(fee) * protocolBps / 10_000);
            toNode = fee - royalty - protocolFee;
        }
    }
}
