// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {IBeacon} from "./interfaces/IBeacon.sol";
import {IDrandBeacon} from "./interfaces/IDrandBeacon.sol";
import {Bls12381} from "./libraries/Bls12381.sol";

/// @title DrandBeacon
/// @notice See `IDrandBeacon`. Scheme bls-unchained-g1-rfc9380: signatures in G1, one key in G2, rounds independent.
/// @dev Neither proposer nor sequencer can bend a seed, and nobody but a threshold of drand's operators knows one early.
/// Should drand stop, no round after that is ever known, and the arbiter's own time limits end what waits for one.
contract DrandBeacon is IDrandBeacon {
    uint40 private constant GENESIS = 1_692_803_367;
    uint40 private constant PERIOD = 3;

    /// @dev Quicknet's key, uncompressed, as the precompile takes points of G2.
    // slither-disable-next-line too-many-digits -- padding of the precompile's encoding
    bytes private constant PUBLIC_KEY =
        hex"000000000000000000000000000000000d1fec758c921cc22b0e17e63aaf4bcb5ed66304de9cf809bd274ca73bab4af5a6e9c76a4bc09e76eae8991ef5ece45a0000000000000000000000000000000003cf0f2896adee7eb8b5f01fcad3912212c437e0073e911fb90022d3e760183c8c4b450b6a0a6c3ac6a5776a2d106451000000000000000000000000000000000e5db2b6bfbb01c867749cadffca88b36c24f3012ba09fc4d3022c5c37dce0f977d3adb5d183c7477c442b1f045152730000000000000000000000000000000001a714f2edb74119a2f2b0d5a7c75ba902d163700a61bc224ededd8e63aef7be1aaf8e93d7a9718b047ccddb3eb5d68b";

    /// @inheritdoc IDrandBeacon
    uint32 public immutable lag;
    /// @inheritdoc IDrandBeacon
    uint32 public immutable stride;

    /// @inheritdoc IBeacon
    mapping(uint64 round => bytes32 seed) public seedOf;

    /// @param lag_ Seconds, at most an hour.
    /// @param stride_ Rounds of drand, 1 to 1,200, which is an hour.
    constructor(uint32 lag_, uint32 stride_) {
        if (lag_ > 1 hours) revert RuleOutOfRange(lag_, 0, 1 hours);
        if (stride_ == 0 || stride_ > 1 hours / PERIOD) revert RuleOutOfRange(stride_, 1, 1 hours / PERIOD);
        if (Bls12381.hashToCurve(0).length != 128) revert CurveUnsupported();
        lag = lag_;
        stride = stride_;
    }

    /// @inheritdoc IDrandBeacon
    function prove(uint64 round, bytes calldata signature) external returns (bytes32 seed) {
        seed = seedOf[round];
        if (seed != 0) return seed;
        if (signature.length != 96) revert SignatureLength(signature.length);
        if (!Bls12381.inField(signature)) revert CoordinateOutOfField();
        if (!Bls12381.onCurve(signature)) revert PointInvalid();
        bytes32 digest = sha256(abi.encodePacked(round * stride));
        if (!Bls12381.signed(signature, digest, PUBLIC_KEY)) revert SignatureRefused(round);
        seed = sha256(Bls12381.compressed(signature));
        seedOf[round] = seed;
        emit SeedFixed(round, seed);
    }

    /// @inheritdoc IBeacon
    /// @dev Zero before drand's round number `stride`.
    function roundAt(uint40 time) external view returns (uint64 round) {
        uint256 real = uint256(time) + lag;
        return real < GENESIS ? 0 : uint64(((real - GENESIS) / PERIOD + 1) / stride);
    }

    /// @inheritdoc IBeacon
    /// @dev Saturates at the end of time, so that no number makes a caller fail.
    function startOf(uint64 round) external view returns (uint40 time) {
        if (round == 0) return 0;
        uint256 start = (uint256(round) * stride - 1) * PERIOD + GENESIS - lag;
        return start > type(uint40).max ? type(uint40).max : uint40(start);
    }
}
