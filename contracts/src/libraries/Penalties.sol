// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

/// @title Penalties
/// @notice What a guilty node loses, and who gets it. Proved for all inputs in test/proof/Penalties.t.sol.
library Penalties {
    /// @notice The larger of a multiple of the fee and a share of the stake, but never more than the stake.
    /// @param stake Base units, all that the node has at risk.
    /// @param factor Multiple of the fee.
    /// @param bps Share of the stake, basis points.
    function penalty(uint96 stake, uint96 fee, uint32 factor, uint16 bps) internal pure returns (uint96) {
        unchecked {
            uint256 byFee = uint256(fee) * factor;
            uint256 byStake = uint256(stake) * bps / 10_000;
            uint256 wanted = byFee > byStake ? byFee : byStake;
            return uint96(wanted < stake ? wanted : stake);
        }
    }

    /// @notice Burned and requester's shares round down, the pool gets the rest, so the parts always sum to what was taken.
    /// @param burnBps Basis points; with `requesterBps` at most 10,000.
    function shares(uint96 taken, uint16 burnBps, uint16 requesterBps)
        internal
        pure
        returns (uint96 burned, uint96 toRequester, uint96 toPool)
    {
        burned = uint96(uint256(taken) * burnBps / 10_000);
        toRequester = uint96(uint256(taken) * requesterBps / 10_000);
        toPool = taken - burned - toRequester;
    }
}
