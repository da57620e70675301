// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

/// @title AuditRate
/// @notice How often a node's tasks are picked. Proved to stay within its rules in test/proof/Penalties.t.sol.
library AuditRate {
    /// @notice Three steps down as a node passes audits; the arbiter counts anew after a verdict against it.
    /// @param passed Audits passed in a row.
    /// @param vettingAudits How many of those end the first step.
    /// @param trustedAudits How many end the second; not less.
    function bpsOf(
        uint32 passed,
        uint32 vettingAudits,
        uint32 trustedAudits,
        uint16 vettingBps,
        uint16 steadyBps,
        uint16 trustedBps
    ) internal pure returns (uint16) {
        if (passed < vettingAudits) return vettingBps;
        return passed < trustedAudits ? steadyBps : trustedBps;
    }
}
