// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {IBeacon} from "./IBeacon.sol";

/// @title IDrandBeacon
/// @notice drand's quicknet as a beacon: public randomness every three seconds, signed by a threshold of independent
/// operators, checked here against their one public key. Anyone may bring a round; a wrong one is refused.
/// @dev `seedOf(round)` equals the randomness that drand publishes for its round number `round * stride`.
interface IDrandBeacon is IBeacon {
    /// @notice Thrown when a signature is not 96 bytes.
    error SignatureLength(uint256 length);

    /// @notice Thrown when a coordinate is not a number below the field's modulus, as any flag bit makes it.
    error CoordinateOutOfField();

    /// @notice Thrown when a signature is no point of the curve, or the point at infinity.
    error PointInvalid();

    /// @notice Thrown when a point is not quicknet's signature of the round.
    error SignatureRefused(uint64 round);

    /// @notice Thrown by the constructor on a chain that cannot check signatures, as it lacks EIP-2537.
    error CurveUnsupported();

    /// @notice Thrown when a rule given to the constructor is outside its hard range.
    error RuleOutOfRange(uint256 value, uint256 least, uint256 greatest);

    /// @notice Fixes a round's seed by its signature. Does nothing when the seed is known, so that of two who bring the
    /// same round at once the later pays little.
    /// @param round Number of a round of this beacon; quicknet's own number is `stride` times that.
    /// @param signature The signature that quicknet published for its round, uncompressed: x and y of a point of G1, 48 bytes each, big-endian.
    /// @return seed As `seedOf`.
    function prove(uint64 round, bytes calldata signature) external returns (bytes32 seed);

    /// @notice Seconds by which a block's time may lie behind real time. Rounds begin that much earlier here than at drand,
    /// so that a round which is still to come by the chain's clock is not public yet.
    function lag() external view returns (uint32);

    /// @notice Rounds of drand from one round of this beacon to the next, so that all who wait in between share a proof.
    function stride() external view returns (uint32);
}
