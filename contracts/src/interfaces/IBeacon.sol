// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

/// @title IBeacon
/// @notice A clock of rounds, each of which yields 32 bytes that nobody knew before the round began.
/// @dev Rounds are numbered without gaps and have one length for ever; `startOf(roundAt(t)) <= t`.
interface IBeacon {
    /// @notice The seed of a round is known from now on, and never changes again.
    event SeedFixed(uint64 indexed round, bytes32 seed);

    /// @notice The round that is current at `time`.
    /// @param time Seconds since the epoch.
    function roundAt(uint40 time) external view returns (uint64 round);

    /// @notice First second of a round.
    function startOf(uint64 round) external view returns (uint40 time);

    /// @notice What a round yielded; zero while it is unknown, and never zero after.
    function seedOf(uint64 round) external view returns (bytes32 seed);
}
