// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

/// @title Sortition
/// @notice Who may claim when. The same rule stands in gesso_protocol/sortition.py; golden vectors hold the two together.
library Sortition {
    /// @notice A node's draw for a task: uniform, lower is sooner.
    function score(uint128 seed, bytes32 taskId, address node) internal pure returns (uint256) {
        return uint256(keccak256(abi.encodePacked(seed, taskId, node)));
    }

    /// @notice Highest score that may claim. Starts where one node is expected to be eligible, doubles every step,
    /// and saturates so that in the end everybody may.
    /// @param totalWeight Sum of all weights, not zero.
    /// @param weight The node's weight, at most `totalWeight`.
    /// @param elapsed Seconds since submit.
    /// @param step Seconds in which the threshold doubles, not zero.
    function threshold(uint256 totalWeight, uint256 weight, uint256 elapsed, uint256 step)
        internal
        pure
        returns (uint256)
    {
        unchecked {
            // Dividing first is the rule: nothing overflows, and what is lost is less than one in 2^190.
            // slither-disable-next-line divide-before-multiply
            uint256 start = (type(uint256).max / totalWeight) * weight;
            uint256 doublings = elapsed / step;
            if (start > type(uint256).max >> doublings) return type(uint256).max;
            return start << doublings;
        }
    }
}
